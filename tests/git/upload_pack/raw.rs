//! Conversations by hand: what real clients do not do any more, or should not.

use std::io::Write;
use std::sync::atomic::AtomicBool;

use gitferry_git::protocol::{Packet, PacketReader, PacketWriter, Version};
use gitferry_git::upload_pack::{Limits, ServeError, Served, Session, serve};
use gitferry_git::view::View;

use crate::upload_pack::repo::{FORMATS, Repo, git_in};

/// Packets: `.` is a flush, `|` a delimiter, everything else a line.
pub fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = PacketWriter::new(&mut out);
    for line in lines {
        match *line {
            "." => writer.flush_packet().unwrap(),
            "|" => writer.delimiter().unwrap(),
            line => writer.line(line.as_bytes()).unwrap(),
        }
    }
    out
}

/// One client without state.
pub struct Talk<'v> {
    view: &'v View,
    session: Session,
    heard: Vec<u8>,
    pub cancel: AtomicBool,
}

impl<'v> Talk<'v> {
    pub fn v2(view: &'v View) -> Self {
        Talk {
            view,
            session: Session { version: Version::V2, stateless: true, ref_in_want: false, thorough: false, own: false },
            heard: Vec::new(),
            cancel: AtomicBool::new(false),
        }
    }

    pub fn v0(view: &'v View) -> Self {
        Talk {
            session: Session { version: Version::V0, stateless: true, ref_in_want: false, thorough: false, own: false },
            ..Talk::v2(view)
        }
    }

    pub fn with_state(mut self) -> Self {
        self.session.stateless = false;
        self
    }

    pub fn with_ref_in_want(mut self) -> Self {
        self.session.ref_in_want = true;
        self
    }

    pub fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, ServeError> {
        self.ask_within(request, &Limits::default())?;
        Ok(self.heard.clone())
    }

    pub fn ask_within(&mut self, mut request: &[u8], limits: &Limits) -> Result<Served, ServeError> {
        self.heard.clear();
        serve(self.view, &mut request, self.session, &mut self.heard, limits, &self.cancel)
    }

    /// Everything that was said to the client, also before an error.
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }
}

/// The pack and the other bands of an answer from its `packfile` on.
pub fn bands(answer: &[u8]) -> (Vec<u8>, String, String) {
    let (mut pack, mut progress, mut error) = (Vec::new(), String::new(), String::new());
    let mut reader = PacketReader::new(answer);
    while let Ok(Some(packet)) = reader.read() {
        let Packet::Data(data) = packet else { continue };
        match data.split_first() {
            Some((1, data)) => pack.extend_from_slice(data),
            Some((2, data)) => progress.push_str(&String::from_utf8_lossy(data)),
            Some((3, data)) => error.push_str(&String::from_utf8_lossy(data)),
            _ => {}
        }
    }
    (pack, progress, error)
}

/// What Git makes of a pack, together with the objects of a repository.
fn index_pack(repo: &Repo, pack: &[u8], thin: bool) -> bool {
    let fix = if thin { &["--fix-thin"][..] } else { &[] };
    let arguments = [&["index-pack", "--stdin", "--strict"], fix].concat();
    git_in(repo.path(), &arguments, pack).status.success()
}

#[test]
fn clients_without_any_capability_are_served() {
    let repo = Repo::with_history(FORMATS[0]);
    repo.git(&["repack", "-q", "-a", "-d", "-f"]);
    let view = repo.view();
    let main = repo.rev_parse("main");
    let old = repo.rev_parse("main~12");
    let clone = Talk::v0(&view).ask(&lines(&[&format!("want {main}"), ".", "done"])).unwrap();
    let pack = clone.strip_prefix(b"0008NAK\n").unwrap();
    assert!(pack.starts_with(b"PACK"));
    assert!(index_pack(&Repo::empty(FORMATS[0]), pack, false));
    // Without `thin-pack` a fetch, too, is complete in itself as far as deltas go; without `ofs-delta` all
    // deltas name their bases by id. A reader that knows neither takes it.
    let fetch = lines(&[&format!("want {main}"), ".", &format!("have {old}"), ".", "done"]);
    let answer = Talk::v0(&view).with_state().ask(&fetch).unwrap();
    let pack = answer.strip_prefix(&lines(&[&format!("ACK {old}")])[..]).unwrap();
    assert!(index_pack(&repo, pack, false));
}

#[test]
fn the_small_side_band_and_progress() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    for (capabilities, largest, quiet) in [
        ("side-band", 1000, false),
        ("side-band-64k ofs-delta", 65520, false),
        ("side-band-64k no-progress", 65520, true),
    ] {
        let want = format!("want {} {capabilities}", repo.rev_parse("main"));
        let answer = Talk::v0(&view).ask(&lines(&[&want, ".", "done"])).unwrap();
        let (pack, progress, error) = bands(&answer);
        assert!(index_pack(&Repo::empty(FORMATS[0]), &pack, false));
        assert_eq!((progress.is_empty(), error.as_str()), (quiet, ""));
        assert!(quiet || progress.contains("Enumerating objects: ") && progress.contains("Total "), "{progress}");
        let mut reader = PacketReader::new(&answer[..]);
        while let Some(packet) = reader.read().unwrap() {
            assert!(packet.line().is_none_or(|line| line.len() + 4 <= largest));
        }
        assert!(answer.ends_with(b"0000"));
    }
}

#[test]
fn acknowledgements_of_old_clients() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let (main, a, b) = (repo.rev_parse("main"), repo.rev_parse("main~3"), repo.rev_parse("main~9"));
    let unknown = "1234567890123456789012345678901234567890";
    let rounds = |capabilities: &str| {
        let (want, a, b) = (format!("want {main} {capabilities}"), format!("have {a}"), format!("have {b}"));
        let unknown = format!("have {unknown}");
        Talk::v0(&view).with_state().ask(&lines(&[&want, ".", &unknown, ".", &a, &b, &unknown, ".", "done"])).unwrap()
    };
    let expect = |capabilities: &str, expected: &[String]| {
        let expected = lines(&expected.iter().map(String::as_str).collect::<Vec<_>>());
        let answer = rounds(capabilities);
        assert!(answer.starts_with(&expected), "{}", String::from_utf8_lossy(&answer[..answer.len().min(600)]));
        assert!(answer[expected.len()..].starts_with(b"PACK"));
    };
    let ack = |id: &dyn std::fmt::Display, status: &str| format!("ACK {id}{status}");
    let nak = || "NAK".to_owned();
    expect("", &[nak(), ack(&a, "")]);
    let common = |status: &str| [ack(&a, status), ack(&b, status)];
    expect(
        "multi_ack",
        &[&[nak()][..], &common(" continue"), &[ack(&unknown, " continue"), nak(), ack(&b, "")]].concat(),
    );
    expect(
        "multi_ack_detailed",
        &[&[nak()][..], &common(" common"), &[ack(&unknown, " ready"), nak(), ack(&b, "")]].concat(),
    );
    // With `no-done` the pack follows at once.
    let (want, have) = (format!("want {main} multi_ack_detailed no-done"), format!("have {a}"));
    let answer = Talk::v0(&view).ask(&lines(&[&want, ".", &have, "."])).unwrap();
    let expected = lines(&[&ack(&a, " common"), &ack(&a, " ready"), "NAK", &ack(&a, "")]);
    assert!(answer.starts_with(&expected) && answer[expected.len()..].starts_with(b"PACK"));
}

#[test]
fn an_object_that_is_missing_leaves_no_pack_that_looks_complete() {
    let repo = Repo::with_history(FORMATS[0]);
    let gone_id = repo.rev_parse("main~2:dir1/sub");
    let gone = gone_id.to_string();
    let kept: String = repo
        .git(&["rev-list", "--objects", "--all"])
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|id| *id != gone)
        .map(|id| format!("{id}\n"))
        .collect();
    let part = Repo::empty(FORMATS[0]);
    let path = part.path().join("objects/pack/pack");
    let packed = git_in(repo.path(), &["pack-objects", "-q", path.to_str().unwrap()], kept.as_bytes());
    assert!(packed.status.success());
    std::fs::copy(repo.path().join("packed-refs"), part.path().join("packed-refs")).ok();
    let mut view = repo.view();
    view.packs = part.view().packs;
    let main = repo.rev_parse("main");
    let request = lines(&["command=fetch", "|", &format!("want {main}"), "done", "."]);
    let mut talk = Talk::v2(&view);
    let error = talk.ask(&request).unwrap_err();
    assert!(matches!(&error, ServeError::Missing { id, by: Some(_) } if *id == gone_id), "{error}");
    let (pack, _, told) = bands(&talk.heard()[lines(&["packfile"]).len()..]);
    assert!(pack.is_empty() && told.contains(&format!("object {gone} is missing")), "{told}");
    assert!(!talk.heard().ends_with(b"0000"));
}

#[test]
fn stopping_ends_a_request_with_an_error() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let mut talk = Talk::v2(&view);
    *talk.cancel.get_mut() = true;
    let request = lines(&["command=fetch", "|", &format!("want {}", repo.rev_parse("main")), "done", "."]);
    assert!(matches!(talk.ask(&request), Err(ServeError::Cancelled)));
    assert!(String::from_utf8_lossy(talk.heard()).contains("the server is stopping"));
}

#[test]
fn a_client_that_is_gone_is_an_error_of_its_own() {
    struct Gone(usize);
    impl Write for Gone {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            let taken = data.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let request = lines(&["command=fetch", "|", &format!("want {}", repo.rev_parse("main")), "done", "."]);
    let session = Session { version: Version::V2, stateless: true, ref_in_want: false, thorough: false, own: false };
    for bytes in [0, 10, 1000, 5000] {
        let result =
            serve(&view, &mut &request[..], session, &mut Gone(bytes), &Limits::default(), &AtomicBool::new(false));
        assert!(matches!(result, Err(ServeError::Client(_))), "{bytes}");
    }
}
