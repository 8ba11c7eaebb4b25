//! Pushes, judged by `git fsck --strict` and by the refs that are there afterwards.

use std::io::Write;

use gitferry_git::client::{
    ClientError, FetchPack, PackSourceError, PushReport, ReceivePack, Server, UploadPack, empty_pack,
};
use gitferry_git::protocol::Version;
use gitferry_git::receive_pack::Command;
use gix::ObjectId;

use crate::git_client::fetching::id;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::scripted_server::{FORMATS, GitServer, VERSIONS, ways};

/// The change of a ref from what it is at a target (`-` for nothing) to what a name is at a source.
pub fn command(name: &str, old: &str, new: &str) -> Command {
    let value = |text: &str| (text != "-").then(|| id(text));
    Command { name: name.into(), old: value(old), new: value(new) }
}

/// What it takes to make the refs of `to` those of `from`.
fn difference(from: &mut UploadPack<'_>, to: &ReceivePack<'_>) -> Vec<Command> {
    let (from, to) = (from.list(&[b"refs/"]).unwrap().refs, &to.refs().refs);
    let mut commands = Vec::new();
    for entry in to.iter().filter(|entry| from.find(entry.name).is_none()) {
        commands.push(Command { name: entry.name.into(), old: entry.id.map(ToOwned::to_owned), new: None });
    }
    for entry in from.iter() {
        let (old, new) = (to.find(entry.name).and_then(|entry| to.object(&entry)), from.object(&entry));
        if old != new {
            commands.push(Command { name: entry.name.into(), old, new });
        }
    }
    commands
}

/// Carries everything from one server to another, the pack as it arrives.
pub fn relay(from: &dyn Server, to: &dyn Server) -> PushReport {
    let (mut source, mut target) = (UploadPack::open(from).unwrap(), ReceivePack::open(to).unwrap());
    let commands = difference(&mut source, &target);
    let wants: Vec<ObjectId> = commands.iter().filter_map(|command| command.new).collect();
    if wants.is_empty() {
        return target.push(&commands, None).unwrap();
    }
    let fetch = FetchPack {
        wants,
        haves: target.refs().refs.iter().filter_map(|entry| entry.id.map(ToOwned::to_owned)).collect(),
        shallow: target.shallow().to_vec(),
        thin: !target.capabilities().has("no-thin"),
        ofs_delta: target.capabilities().has("ofs-delta"),
        ..FetchPack::default()
    };
    let mut input = source.fetch(&fetch).unwrap();
    target.push(&commands, Some(&mut |out| Ok(std::io::copy(&mut input, out).map(drop)?))).unwrap()
}

pub fn assert_same(from: &GitRepo, to: &GitRepo) {
    let peeled = |repo: &GitRepo| repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    assert_eq!(peeled(from), peeled(to));
    to.git(&["fsck", "--strict", "--no-dangling"]);
    assert_eq!(from.reachable(), to.reachable());
}

/// Everything, then a bit more with deletions, then deletions alone.
fn relay_three_times(from: &GitRepo, to: &GitRepo, source: &dyn Server, target: &dyn Server) {
    for step in 0..3 {
        match step {
            0 => {}
            1 => {
                from.commit("main", "more", "more");
                from.commit("main", "dir/file0", &"another line\n".repeat(50));
                from.git(&["update-ref", "-d", "refs/heads/topic/deep/er"]);
                from.git(&["branch", "topic/deep", "side"]);
                from.git(&["tag", "-am", "three", "v3", "v2"]);
            }
            _ => {
                from.git(&["tag", "-d", "v3", "v2", "light"]);
            }
        }
        let report = relay(source, target);
        assert!(report.is_ok(), "{report:?}");
        assert_same(from, to);
    }
    assert_eq!(relay(source, target).refs, []);
}

#[test]
fn everything_arrives() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        for (version, stateless) in ways() {
            let name = |what: &str| dir.path().join(format!("{what}-{format}-{version:?}-{stateless}"));
            let from = GitRepo::with_history(name("from"), &["--object-format", format]);
            from.commit_bytes("main", "big", &noise(3, 400_000));
            let to = GitRepo::init(name("to"), &["--object-format", format]);
            let (source, target) =
                (GitServer::new(&from, version, stateless), GitServer::new(&to, version, !stateless));
            relay_three_times(&from, &to, &source, &target);
        }
    }
}

#[test]
fn servers_that_can_do_less() {
    let dir = tempfile::tempdir().unwrap();
    let less: [&[(&str, &str)]; 6] = [
        &[(" side-band-64k", "")],
        &[(" report-status-v2", "")],
        &[(" report-status-v2", ""), (" side-band-64k", "")],
        &[("report-status report-status-v2 ", "")],
        &[("report-status report-status-v2 ", ""), (" side-band-64k", "")],
        &[(" ofs-delta", " no-thin"), (" quiet", "")],
    ];
    for (number, edits) in less.into_iter().enumerate() {
        for stateless in [false, true] {
            let name = |what: &str| dir.path().join(format!("{what}-{number}-{stateless}"));
            let (from, to) = (GitRepo::with_history(name("from"), &[]), GitRepo::init(name("to"), &[]));
            let mut target = GitServer::new(&to, Version::V0, stateless);
            target.edits = edits.iter().map(|(word, instead)| (String::from(*word), String::from(*instead))).collect();
            relay_three_times(&from, &to, &GitServer::new(&from, Version::V2, stateless), &target);
            // What was not done is found out there, too.
            let gone = command("refs/heads/x", &"12".repeat(20), &from.git(&["rev-parse", "main"]));
            let mut target = ReceivePack::open(&target).unwrap();
            let report = target.push(&[gone], Some(&mut no_objects)).unwrap();
            assert!(report.refs[0].result.is_err(), "{report:?}");
            assert_same(&from, &to);
        }
    }
}

pub fn no_objects(out: &mut dyn Write) -> Result<(), PackSourceError> {
    Ok(out.write_all(&empty_pack(gix::hash::Kind::Sha1))?)
}

#[test]
fn moves_need_no_objects_and_deletions_no_pack() {
    let dir = tempfile::tempdir().unwrap();
    for stateless in [false, true] {
        let to = GitRepo::with_history(dir.path().join(format!("to-{stateless}")), &[]);
        let server = GitServer::new(&to, Version::V0, stateless);
        let mut target = ReceivePack::open(&server).unwrap();
        let at = |name: &str| to.git(&["rev-parse", name]);
        let (main, side) = (at("main"), at("side"));
        let commands = [command("refs/heads/new", "-", &main), command("refs/heads/side", &side, &main)];
        let report = target.push(&commands, Some(&mut no_objects)).unwrap();
        assert!(report.is_ok() && report.refs.len() == 2, "{report:?}");
        assert_eq!((at("new"), at("side")), (main.clone(), main.clone()));
        assert!(matches!(target.push(&commands, None), Err(ClientError::Unsupported { .. })));
        let mut called = false;
        let deletions = [command("refs/heads/new", &main, "-"), command("refs/heads/side", &main, "-")];
        let mut never = |_: &mut dyn Write| {
            called = true;
            Ok(())
        };
        assert!(target.push(&deletions, Some(&mut never)).unwrap().is_ok());
        assert!(!called && to.try_git(&["rev-parse", "-q", "--verify", "side"]).stdout.is_empty());
        assert_eq!(target.push(&[], None).unwrap().refs, []);
        to.git(&["fsck", "--strict", "--no-dangling"]);
    }
}

#[test]
fn a_source_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let from = GitRepo::with_history(dir.path().join("from"), &[]);
    from.commit_bytes("main", "big", &noise(4, 500_000));
    let main = from.git(&["rev-parse", "main"]);
    let pack = from.feed(&["pack-objects", "--stdout", "--revs", "-q"], b"main\n");
    for stateless in [false, true] {
        for cut in [0, 5, 1000, 200_000, pack.len() - 20, pack.len() - 1] {
            let to = GitRepo::init(dir.path().join(format!("to-{stateless}-{cut}")), &[]);
            let server = GitServer::new(&to, VERSIONS[0], stateless);
            let mut target = ReceivePack::open(&server).unwrap();
            let commands = [command("refs/heads/main", "-", &main)];
            let mut failing = |out: &mut dyn Write| {
                out.write_all(&pack[..cut])?;
                Err("the source is gone".into())
            };
            let error = target.push(&commands, Some(&mut failing)).unwrap_err();
            assert!(matches!(error, ClientError::PackSource { .. }), "{error}");
            assert!(error.to_string().contains("the source is gone"), "{error}");
            assert_eq!(to.refs().len(), 0);
            assert!(!target.confirm(&commands).unwrap().is_ok());
            // The next push does it.
            let report = target.push(&commands, Some(&mut |out| Ok(out.write_all(&pack)?))).unwrap();
            assert!(report.is_ok() && target.confirm(&commands).unwrap().is_ok(), "{report:?}");
            to.git(&["fsck", "--strict", "--no-dangling"]);
        }
    }
}

#[test]
fn a_damaged_pack_is_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let from = GitRepo::with_history(dir.path().join("from"), &[]);
    let pack = from.feed(&["pack-objects", "--stdout", "--revs", "-q"], b"main\n");
    let commands = [command("refs/heads/main", "-", &from.git(&["rev-parse", "main"]))];
    for stateless in [false, true] {
        for (number, edits) in
            [("", ""), (" side-band-64k", ""), ("report-status report-status-v2 ", "")].into_iter().enumerate()
        {
            let to = GitRepo::init(dir.path().join(format!("to-{stateless}-{number}")), &[]);
            let server = GitServer::new(&to, Version::V0, stateless).saying(edits.0, edits.1);
            let mut damaged = pack.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 4;
            let mut target = ReceivePack::open(&server).unwrap();
            let report = target.push(&commands, Some(&mut |out| Ok(out.write_all(&damaged)?))).unwrap();
            assert!(report.refs[0].result.is_err() && !report.is_ok(), "{report:?}");
            assert_eq!(report.unpack.is_err(), number < 2, "{report:?}");
            assert_eq!(to.refs().len(), 0);
        }
    }
}
