//! Figures: what a push costs here and what it costs `git receive-pack` with `receive.fsckObjects`.
//!
//! `GITFERRY_REPO=/path/to/bare.git cargo test --release --test receive_pack -- --ignored figures --nocapture`

use std::io::BufReader;
use std::time::{Duration, Instant};

use gitferry_engine::region::push::{FreshStates, PushPolicy, Serving};
use gitferry_git::protocol::{PacketReader, PacketWriter};
use gitferry_git::receive_pack::PushRequest;

use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::receiving::Host;

/// Processor time of this process, or of children that have ended.
fn cpu(who: libc::c_int) -> Duration {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::getrusage(who, &mut usage) }, 0);
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn timed<T>(who: libc::c_int, work: impl FnOnce() -> T) -> (T, Duration, Duration) {
    let (started, before) = (Instant::now(), cpu(who));
    let result = work();
    (result, started.elapsed(), cpu(who) - before)
}

/// The bytes of a push: commands, then the pack.
fn request(from: &GitRepo, commands: &[(String, String, String)], revs: &[u8], thin: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = PacketWriter::new(&mut bytes);
    for (number, (old, new, name)) in commands.iter().enumerate() {
        let capabilities = if number == 0 { "\0report-status object-format=sha1" } else { "" };
        out.data(format!("{old} {new} {name}{capabilities}").as_bytes()).unwrap();
    }
    out.flush_packet().unwrap();
    let mut args = vec!["pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset"];
    args.extend(thin.then_some("--thin"));
    bytes.extend(from.feed(&args, revs));
    bytes
}

fn git_receives(to: &GitRepo, request: &[u8]) {
    let fsck = ["-c", "receive.fsckObjects=true", "-c", "core.fsync=default"];
    let output = git::run(&to.path, &[&fsck[..], &["receive-pack", "--stateless-rpc", "."]].concat(), request);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("unpack ok") && !text.contains("ng refs"), "{text}");
}

fn we_receive(host: &Host, bytes: &[u8]) {
    let item = host.head();
    let states = FreshStates { region: host.region.clone(), id: item.id, hidden: None, mirror: false };
    let mut input = BufReader::with_capacity(64 << 10, bytes);
    let request = PushRequest::read(&mut PacketReader::new(&mut input), item.head.format).unwrap().unwrap();
    let policy = PushPolicy::default();
    let serving = Serving {
        region: &host.region,
        runtime: host.runtime.handle(),
        policy: &policy,
        actor: "figures",
        request: &request,
    };
    let mut output = Vec::new();
    let pushed = serving.serve(&states, &mut input, &mut output).unwrap();
    assert!(pushed.report.is_ok(), "{:?} {:?}", pushed.report.unpack, pushed.report.messages);
}

fn compare(what: &str, host: &Host, git: &GitRepo, request: &[u8]) {
    let ((), wall, cpu) = timed(libc::RUSAGE_CHILDREN, || git_receives(git, request));
    println!("{what}: git receive-pack {wall:.2?} wall, {cpu:.2?} CPU ({} bytes)", request.len());
    let ((), wall, cpu) = timed(libc::RUSAGE_SELF, || we_receive(host, request));
    println!("{what}: gitferry         {wall:.2?} wall, {cpu:.2?} CPU");
}

#[test]
#[ignore = "measures; needs GITFERRY_REPO"]
fn figures() {
    let Some(path) = std::env::var_os("GITFERRY_REPO") else { return };
    let host = Host::new();
    let from = GitRepo::at(host.dir.path().join("from"));
    let path = std::path::PathBuf::from(path);
    git::command(host.dir.path())
        .args(["clone", "-q", "--mirror", path.to_str().unwrap(), from.path.to_str().unwrap()])
        .status()
        .unwrap();
    let git = GitRepo::init(host.dir.path().join("git"), &[]);
    let null = "0".repeat(40);
    let refs = from.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    let refs: Vec<(String, String, String)> = refs
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, name)| (null.clone(), id.to_owned(), name.to_owned()))
        .collect();
    let tips: String = refs.iter().map(|(_, id, _)| format!("{id}\n")).collect();
    compare("mirror push", &host, &git, &request(&from, &refs, tips.as_bytes(), false));
    let head = from.git(&["rev-parse", "HEAD"]);
    let branch = from.git(&["symbolic-ref", "HEAD"]);
    let branch = branch.strip_prefix("refs/heads/").unwrap().to_owned();
    let mut old = head;
    for n in 0..5 {
        let new = from.commit(&branch, "README.md", &format!("another line {n}\n"));
        let revs = format!("{new}\n^{old}\n");
        let commands = [(old.clone(), new.clone(), format!("refs/heads/{branch}"))];
        compare("one commit", &host, &git, &request(&from, &commands, revs.as_bytes(), true));
        old = new;
    }
    host.verified();
}
