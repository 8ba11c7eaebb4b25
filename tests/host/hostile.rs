//! Requests over HTTP that no honest client makes: a clear answer, nothing left of them, and the host lives.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pair::{Pair, REGIONS, US, wait};
use gitferry_test_support::pushed_packs::{
    BLOB, COMMIT, OFS_DELTA, REF_DELTA, deflate, distance, entry, pack_of, varint, whole,
};

/// So much more memory than before a flood of requests is the allocator's, not theirs. Each of them would
/// take a multiple if it were held.
const MAX_GROWTH_MIB: u64 = 160;
const NULL: &str = "0000000000000000000000000000000000000000";

/// A host with a repository, and what must not change.
pub struct Target {
    pub pair: Pair,
    repo: GitRepo,
    before: (String, String),
    memory: u64,
}

impl Target {
    pub fn new() -> Target {
        let pair = Pair::open();
        let repo = GitRepo::with_history(pair.path("src.git"), &[]);
        repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
        pair.assert_clones_as(&repo, &pair.url(US, "app"));
        let memory = pair.memory_mib();
        let mut target = Target { pair, repo, before: Default::default(), memory };
        target.before = target.state();
        target
    }

    fn id(&self, name: &str) -> String {
        self.repo.git(&["rev-parse", name])
    }

    fn state(&self) -> (String, String) {
        let refs = self.repo.git(&["ls-remote", &self.pair.url(US, "app")]);
        (refs, self.pair.ok(&["repo", "show", "app", "--region", REGIONS[US]]))
    }

    /// A request; status and everything else that comes back.
    pub fn post(&self, service: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let length = format!("Content-Length: {}\r\n", body.len());
        let kind = format!("Content-Type: application/x-git-{service}-request\r\n");
        self.raw(&format!("POST /app/git-{service} HTTP/1.1\r\n{kind}{length}{headers}"), body)
    }

    fn raw(&self, start: &str, body: &[u8]) -> (u16, String) {
        self.talk(start, body, false)
    }

    fn talk(&self, start: &str, body: &[u8], cut_off: bool) -> (u16, String) {
        let mut stream = TcpStream::connect(self.pair.address(US)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let answer = std::thread::scope(|scope| {
            scope.spawn(move || {
                // The host may have hung up already.
                let _ = stream.write_all(format!("{start}Host: localhost\r\nConnection: close\r\n\r\n").as_bytes());
                let _ = stream.write_all(body);
                if cut_off {
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                }
            });
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer);
            answer
        });
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, answer)
    }

    fn fetch(&self, body: &[u8]) -> String {
        self.post("upload-pack", "Git-Protocol: version=2\r\n", body).1
    }

    /// Pushes commands and whatever follows.
    fn push(&self, commands: &[String], pack: &[u8]) -> String {
        let mut body = Vec::new();
        for (number, line) in commands.iter().enumerate() {
            let capabilities = if number == 0 { "\0report-status object-format=sha1" } else { "" };
            body.extend(packet(format!("{line}{capabilities}").as_bytes()));
        }
        body.extend(b"0000");
        body.extend(pack);
        self.post("receive-pack", "", &body).1
    }

    /// Pushes a pack for a new branch, which must be refused for this reason.
    fn refuses(&self, tip: &str, pack: &[u8], reason: &str) {
        let answer = self.push(&[format!("{NULL} {tip} refs/heads/hostile")], pack);
        for part in [reason, "ng refs/heads/hostile"] {
            assert!(answer.contains(part), "{part:?} is not in {answer:?}");
        }
    }

    /// Nothing is left, nothing has changed, and honest clients are served.
    pub fn assert_unharmed(&self) {
        let staged = || std::fs::read_dir(self.pair.staging(US)).unwrap().count();
        wait(|| staged() == 0, || format!("{} files are left in the spool", staged()));
        assert_eq!(self.state(), self.before);
        assert!(!self.pair.log().contains("panicked"), "{}", self.pair.log());
        let memory = self.pair.memory_mib();
        assert!(memory < self.memory + MAX_GROWTH_MIB, "{memory} MiB, {} before", self.memory);
        self.pair.assert_clones_as(&self.repo, &self.pair.url(US, "app"));
    }
}

pub fn packet(data: &[u8]) -> Vec<u8> {
    [format!("{:04x}", data.len() + 4).as_bytes(), data].concat()
}

/// Packets: `.` is a flush, `|` a delimiter, everything else a line.
fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let packets = lines.into_iter().map(|line| match line {
        "." => b"0000".to_vec(),
        "|" => b"0001".to_vec(),
        line => packet(format!("{line}\n").as_bytes()),
    });
    packets.collect::<Vec<_>>().concat()
}

#[test]
fn broken_packets() {
    let target = Target::new();
    let tip = target.id("main");
    let largest = [b"fff0".to_vec(), vec![b'x'; 65516]].concat();
    for service in ["upload-pack", "receive-pack"] {
        for version in ["", "Git-Protocol: version=1\r\n", "Git-Protocol: version=2\r\n"] {
            for (body, reason) in [
                (&b"0003"[..], "bad line length"),
                (b"fff1", "bad line length"),
                (b"ffff", "bad line length"),
                (b"-001", "bad line length"),
                (b"zzzz", "bad line length"),
                (b"0001", ""),
                (b"0002", ""),
                (b"0004", ""),
                (b"00", "the rest of a packet"),
                (b"0032want ", "the rest of a packet"),
                (&largest, ""),
                (&noise(1, 200_000), ""),
                (b"\0\0\0\0", "bad line length"),
                (format!("0032want {tip}\n").as_bytes(), ""),
            ] {
                let (status, answer) = target.post(service, version, body);
                assert!(
                    status == 200 && answer.contains("ERR ") && answer.contains(reason),
                    "{service} {version} {reason}: {answer}"
                );
            }
            // Those ask for nothing.
            for body in [&b""[..], b"0000"] {
                let (status, answer) = target.post(service, version, body);
                assert!(status == 200 && !answer.contains("ERR"), "{answer}");
            }
        }
    }
    target.assert_unharmed();
}

#[test]
fn commands_that_make_no_sense() {
    let target = Target::new();
    let (tip, gone) = (target.id("main"), "1".repeat(40));
    let empty = target.repo.feed(&["pack-objects", "--stdout", "-q"], b"");
    for (commands, reason) in [
        (vec![format!("{NULL} {tip} refs/heads/../../x")], "funny refname"),
        (vec![format!("{NULL} {tip} refs/heads/a..b")], "funny refname"),
        (vec![format!("{NULL} {tip} refs/heads/.lock")], "funny refname"),
        (vec![format!("{NULL} {tip} /etc/passwd")], "funny refname"),
        (vec![format!("{NULL} {tip} refs/heads/a\nb")], "funny refname"),
        (vec![format!("{NULL} {tip} refs/heads/{}", "n".repeat(60_000))], "funny refname"),
        (vec![format!("{NULL} {tip} HEAD")], "funny refname"),
        (vec![format!("{NULL} {tip} refs/gitferry/x")], "reserved"),
        (vec![format!("{NULL} {gone} refs/heads/a")], "missing necessary objects"),
        (vec![format!("{gone} {tip} refs/heads/main")], "fetch first"),
        (vec![format!("{NULL} {tip} refs/heads/main")], "fetch first"),
        (vec![format!("{tip} {NULL} refs/heads/main")], "deletion of the current branch prohibited"),
        (vec![format!("{NULL} {tip} refs/heads/twice"); 2], "multiple updates"),
        (vec![format!("{NULL} {tip} refs/heads/main/below")], "directory/file conflict"),
        (vec![format!("{tip} {NULL}")], "ERR expected"),
        (vec![format!("{}g {tip} refs/heads/a", &tip[1..])], "ERR expected"),
        (vec![format!("{tip}00 {tip} refs/heads/a")], "ERR expected"),
        (vec!["push-cert".into()], "certificate"),
        (vec!["shallow x".into()], "ERR expected"),
    ] {
        let answer = target.push(&commands, &empty);
        assert!(answer.contains(reason) && !answer.contains("\nok "), "{reason:?} is not in {answer:?}");
    }
    let format = packet(format!("{NULL} {tip} refs/heads/a\0report-status object-format=sha256").as_bytes());
    assert!(target.post("receive-pack", "", &[&format[..], b"0000"].concat()).1.contains("server sha1; client sha256"));
    // A million commands, and options without end.
    let many: Vec<u8> = packet(format!("{NULL} {tip} refs/heads/a").as_bytes()).repeat((1 << 20) + 1);
    assert!(target.post("receive-pack", "", &many).1.contains("too many commands"));
    let long = packet(format!("{NULL} {tip} refs/heads/{}", "n".repeat(60_000)).as_bytes()).repeat(1200);
    assert!(target.post("receive-pack", "", &long).1.contains("too many bytes of ref names"));
    let first = packet(format!("{NULL} {tip} refs/heads/a\0report-status push-options").as_bytes());
    let options = [first, b"0000".to_vec(), packet(b"o=x").repeat(2_000)].concat();
    assert!(target.post("receive-pack", "", &options).1.contains("too many push options"));
    target.assert_unharmed();
}

#[test]
fn packs_that_are_none() {
    let target = Target::new();
    target.repo.commit("new", "dir/file0", &"new\n".repeat(5000));
    let tip = target.id("new");
    target.repo.git(&["update-ref", "refs/new", "new"]);
    target.repo.git(&["update-ref", "-d", "refs/heads/new"]);
    let pack = target.repo.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"refs/new\n");
    target.repo.git(&["update-ref", "-d", "refs/new"]);
    let changed = |at: usize, bytes: &[u8]| {
        let mut pack = pack.clone();
        pack[at..at + bytes.len()].copy_from_slice(bytes);
        pack
    };
    target.refuses(&tip, &changed(pack.len() - 1, &[!pack[pack.len() - 1]]), "the checksum at its end");
    target.refuses(&tip, &changed(8, &[0xff; 4]), "4294967295 objects");
    target.refuses(&tip, &changed(8, &(u32::MAX - 2).to_be_bytes()), "unpack pack: ");
    target.refuses(&tip, &changed(4, &[0, 0, 0, 9]), "unpack pack: ");
    target.refuses(&tip, &[&pack[..], b"more"].concat(), "bytes follow its end");
    target.refuses(&tip, &noise(3, 100_000), "does not begin with PACK");
    for cut in [0, 11, 12, pack.len() / 2, pack.len() - 1] {
        target.refuses(&tip, &pack[..cut], "cut off");
    }
    // The connection ends before the body does.
    let length = format!("Content-Length: {}\r\nContent-Type: application/x-git-receive-pack-request\r\n", 1 << 20);
    let command = packet(format!("{NULL} {tip} refs/heads/hostile\0report-status").as_bytes());
    let body = [&command[..], b"0000", &pack[..pack.len() / 2]].concat();
    target.talk(&format!("POST /app/git-receive-pack HTTP/1.1\r\n{length}"), &body, true);
    // Deltas in a circle, to nowhere, and to themselves.
    let delta = [varint(1), varint(1), vec![1, b'x']].concat();
    let by_id = |base: u8| entry(REF_DELTA, delta.len(), &[base; 20], &delta);
    target.refuses(&tip, &pack_of(2, &[by_id(0xaa), by_id(0xbb)]), "is not in the pack");
    for back in [0, 5, 1 << 40] {
        target.refuses(&tip, &pack_of(1, &[entry(OFS_DELTA, delta.len(), &distance(back), &delta)]), "unpack pack: ");
    }
    // Objects that say they are huge, that are, and that are not what they say.
    for size in [1 << 33, 1 << 60, usize::MAX] {
        target.refuses(&tip, &pack_of(1, &[entry(BLOB, size, &[], &[0; 100])]), "unpack pack: ");
    }
    let endless = vec![0xff; 64];
    target.refuses(&tip, &pack_of(1, &[endless]), "unpack pack: ");
    let liar = [vec![(BLOB << 4) | 5], deflate(&vec![0; 1 << 24])].concat();
    target.refuses(&tip, &pack_of(1, &[liar]), "longer than it says");
    let tree_of_nothing = whole(COMMIT, b"tree of nothing\n");
    target.refuses(&tip, &pack_of(1, &[tree_of_nothing]), "badTreeSha1");
    target.assert_unharmed();
}

#[test]
fn a_bomb_of_deltas() {
    let target = Target::new();
    let base = whole(BLOB, &vec![0; 0x10000]);
    let (mut entries, mut behind) = (vec![base.clone()], base.len());
    for number in 0..80u8 {
        // 512 copies of the base, and one byte that tells them apart.
        let mut delta = [varint(0x10000), varint(0x10000 * 512 + 1)].concat();
        delta.resize(delta.len() + 512, 0x80);
        delta.extend([1, number]);
        entries.push(entry(OFS_DELTA, delta.len(), &distance(behind), &delta));
        behind += entries[entries.len() - 1].len();
    }
    let bomb = pack_of(81, &entries);
    assert!(bomb.len() < 20_000);
    target.refuses(&target.id("main"), &bomb, "out of all proportion");
    // The same as a compressed body: a gzip stream of a gigabyte of nothing.
    let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..1024).for_each(|_| zeros.write_all(&vec![b'0'; 1 << 20]).unwrap());
    let zeros = zeros.finish().unwrap();
    for service in ["upload-pack", "receive-pack"] {
        let (status, answer) = target.post(service, "Content-Encoding: gzip\r\n", &zeros);
        assert!(status == 200, "{answer}");
        let (_, answer) = target.post(service, "Content-Encoding: gzip\r\n", &noise(9, 1000));
        assert!(!answer.contains("unpack ok"), "{answer}");
    }
    target.assert_unharmed();
}

/// Gzip of one piece, repeated.
fn gzip(front: &[u8], piece: &[u8], count: usize, end: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(front).unwrap();
    (0..count).for_each(|_| out.write_all(piece).unwrap());
    out.write_all(end).unwrap();
    out.finish().unwrap()
}

#[test]
fn compressed_requests_are_limited_by_what_they_become() {
    let target = Target::new();
    let want = format!("want {}", target.id("main"));
    let fetch = lines(["command=fetch", "object-format=sha1", "|"]);
    let end = [packet(b"done"), b"0000".to_vec()].concat();
    let headers = "Content-Encoding: gzip\r\nGit-Protocol: version=2\r\n";
    let piece = packet(want.as_bytes()).repeat(1000);
    // One want a million times is 50 MB in some 150 KB, which is fine; 300 MB are too much.
    let fits = gzip(&fetch, &piece, 1000, &end);
    let more = gzip(&fetch, &piece, 6500, &end);
    for (body, reason) in [(fits, "packfile"), (more, "more than 268435456 bytes")] {
        assert!(body.len() < 1 << 20, "{}", body.len());
        let (status, answer) = target.post("upload-pack", headers, &body);
        assert!(status == 200 && answer.contains(reason), "{reason}: {answer:.500}");
    }
    let tip = target.id("main");
    let command = packet(format!("{NULL} {tip} refs/heads/hostile\0report-status").as_bytes());
    let body = gzip(&[&command[..], b"0000"].concat(), &[0; 1 << 20], 100, b"");
    let (status, answer) = target.post("receive-pack", "Content-Encoding: gzip\r\n", &body);
    assert!(status == 200 && answer.contains("does not begin with PACK"), "{answer:.500}");
    target.assert_unharmed();
}

#[test]
fn requests_to_fetch_too_much() {
    let target = Target::new();
    let id = target.id("main");
    let many = |first: &[&str], line: String, count: usize| {
        [lines(first.iter().copied()), packet(line.as_bytes()).repeat(count), b"0000".to_vec()].concat()
    };
    let fetch = ["command=fetch", "object-format=sha1", "|"];
    let want = format!("want {id}");
    let wanted = [&fetch[..], &[&want]].concat();
    for (body, reason) in [
        // One want, however often it is said.
        (many(&fetch, want.clone(), (1 << 20) + 1), "packfile"),
        (many(&wanted, format!("have {}", "1".repeat(40)), 1_000_000), "too many haves"),
        (many(&wanted, format!("shallow {id}"), 1_000_000), "too many shallow lines"),
        (many(&wanted, "deepen-not v1".into(), 2_000), "too many deepen-not lines"),
        (many(&["command=fetch"], "agent=x".into(), 2_000), "too many capability lines"),
        (lines(["command=fetch", "|", &want, "deepen 2147483648", "done", "."]), "packfile"),
        (lines(["command=fetch", "|", &want, "deepen 99999999999999999999", "."]), "positive number"),
        (lines(["command=fetch", "|", &want, "deepen -1", "."]), "positive number"),
        (lines(["command=fetch", "|", &want, "deepen-since x", "."]), "a time"),
        (lines(["command=fetch", "|", &want, "no-such-thing", "."]), "expected an argument"),
        (lines(["command=fetch", "no-such-capability", "|", &want, "."]), "expected a command or capability"),
        (lines(["command=no-such-command", "|", "."]), "expected the command"),
        (lines(["command=fetch", "|", &format!("want {}", "1".repeat(40)), "done", "."]), "not our ref"),
    ] {
        let answer = target.fetch(&body);
        assert!(answer.contains(reason), "{reason}: {answer:.1000}");
    }
    // A filter of filters, written so that each level doubles the escapes of the one before.
    let mut filter = "combine:tree:1+tree:2".to_owned();
    while filter.len() < 20_000 {
        filter = format!("combine:{}+blob:none", filter.replace('%', "%25").replace('+', "%2B"));
    }
    for filter in [filter, format!("combine:{}tree:1", "tree:1+".repeat(1_000)), "combine:".repeat(5_000)] {
        let answer = target.fetch(&lines(["command=fetch", "|", &want, &format!("filter {filter}"), "done", "."]));
        assert!(answer.contains("ERR ") || answer.contains("packfile"), "{}", &answer[..answer.len().min(1000)]);
    }
    // Prefixes without end list all refs; that is what they are for.
    let answer = target.fetch(&many(&["command=ls-refs", "|"], "ref-prefix refs/heads/nothing".into(), 500_000));
    assert!(answer.contains("refs/tags/v1"), "{answer}");
    // The old protocol.
    let first = format!("want {id} multi_ack_detailed side-band-64k no-such-capability");
    let have = format!("have {}", "1".repeat(40));
    let haves = [lines([&first, "."]), packet(have.as_bytes()).repeat(1_000_000), lines(["done"])].concat();
    assert!(target.post("upload-pack", "", &haves).1.contains("too many haves"));
    let answer = target.post("upload-pack", "", &lines([&first, "deepen 2147483648", ".", "done"])).1;
    assert!(answer.contains("PACK"), "{answer}");
    target.assert_unharmed();
}

#[test]
fn heads_of_requests() {
    let target = Target::new();
    let long = format!("/{}/info/refs", "a".repeat(60_000));
    let paths = ["/app%2f..%2f../info/refs", "/..%2fapp/info/refs", "/app%00/info/refs", "/%c0%ae%c0%ae/app/info/refs"];
    for path in paths.into_iter().chain([
        "/%e0%80%ae./info/refs",
        "/app/./info/refs",
        "/app/../app/info/refs",
        "/APP;x/info/refs",
        "/app%/info/refs",
        &long,
    ]) {
        let (status, answer) = target.raw(&format!("GET {path}?service=git-upload-pack HTTP/1.1\r\n"), b"");
        assert!([400, 404, 414, 431].contains(&status), "{path:.100}: {answer}");
    }
    for start in [
        "GET /app\0/info/refs HTTP/1.1\r\n",
        "GET /app/info/refs HTTP/9.9\r\n",
        "\r\n\r\n\r\nx\r\n",
        "GET app HTTP/1.1\r\n",
    ] {
        let (status, answer) = target.raw(start, b"");
        assert!(status == 0 || status >= 400, "{start:?}: {answer}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/x-git-receive-pack-result", ""] {
        for service in ["upload-pack", "receive-pack"] {
            let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            let start = format!("POST /app/git-{service} HTTP/1.1\r\nContent-Length: 4\r\n{kind}");
            assert_eq!(target.raw(&start, b"0000").0, 415, "{kind} {service}");
        }
    }
    let (status, answer) = target.post("upload-pack", "Content-Encoding: br\r\n", b"0000");
    assert!(status >= 400 && answer.contains("content encoding"), "{answer}");
    let many: String = (0..500).map(|number| format!("X-{number}: y\r\n")).collect();
    assert!(target.post("upload-pack", &many, b"0000").0 >= 400);
    let nothing = target.raw("GET /app/info/refs?service=git-no-such-thing HTTP/1.1\r\n", b"");
    assert_eq!(nothing.0, 400);
    target.assert_unharmed();
}
