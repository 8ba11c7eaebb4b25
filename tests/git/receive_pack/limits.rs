//! What is too large.

use std::time::Duration;

use gitferry_git::memory;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::receiving::{Host, said};

/// Set where a test runs by itself in a process, since it changes what holds for all of that.
const OWN_PROCESS: &str = "GITFERRY_TEST_OWN_PROCESS";

#[test]
fn an_oversized_pack_is_refused_with_a_clear_message() {
    let host = Host::new();
    host.accept(|policy| policy.limits.pack_bytes = 300_000);
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["side"]);
    let before = (host.head().head.frontier, host.pack_keys());
    for n in 0..40 {
        client.commit_bytes("main", &format!("noise{n}"), &noise(n, 100_000));
    }
    host.refuses(&client, &["main"], &["exceeds the limit of 300000 bytes", "unpacker error"]);
    assert_eq!((host.head().head.frontier, host.pack_keys()), before);
    assert_eq!(host.spooled(), Vec::<std::path::PathBuf>::new());
    host.accept(|policy| policy.limits.pack_bytes = 1 << 30);
    host.push(&client, &["main"]);
    host.verified();
}

#[test]
fn an_oversized_object_is_refused_whole_or_as_a_delta() {
    let host = Host::new();
    host.accept(|policy| policy.limits.object_bytes = 200_000);
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    client.commit_bytes("main", "fits", &noise(1, 150_000));
    host.push(&client, &["main"]);
    let before = host.head().head.frontier;
    // It is small as it travels: a delta that repeats its base.
    let repeated = [noise(1, 150_000), noise(1, 150_000)].concat();
    client.commit_bytes("main", "fits", &repeated);
    host.refuses(&client, &["main"], &["at most 200000 are supported"]);
    client.git(&["update-ref", "refs/heads/main", "main~1"]);
    client.commit_bytes("main", "large", &vec![b'x'; 200_001]);
    host.refuses(&client, &["main"], &["200001 bytes; at most 200000"]);
    client.git(&["update-ref", "refs/heads/main", "main~1"]);
    client.commit_bytes("main", "large", &vec![b'x'; 200_000]);
    assert_eq!(host.head().head.frontier, before);
    host.push(&client, &["main"]);
    host.verified();
}

#[test]
fn large_files_stream_through() {
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    client.commit_bytes("main", "large", &noise(7, 40 << 20));
    client.commit_bytes("main", "zeros", &vec![0; 64 << 20]);
    host.push(&client, &["main"]);
    host.assert_mirrors(&client);
}

#[test]
fn a_thin_pack_on_a_large_base_takes_no_more_memory_than_there_is() {
    // Whole in one pack, and as a delta in another: both ways of completing a pack.
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    let text = |n: u8| [noise(7, 17 << 20), vec![n; 4 << 20]].concat();
    client.commit_bytes("main", "large", &text(1));
    host.push(&client, &["main"]);
    for n in 2..5 {
        client.commit_bytes("main", "large", &text(n));
        let revs = b"main\n^main~1\n";
        let thin = client.feed(&["pack-objects", "--revs", "--thin", "--stdout", "-q", "--delta-base-offset"], revs);
        assert!(thin.len() < 1 << 20, "{}", thin.len());
        let old = client.git(&["rev-parse", "main~1"]);
        let new = client.git(&["rev-parse", "main"]);
        let answer = host.talk(&[format!("{old} {new} refs/heads/main")], &thin);
        assert!(answer.contains("ok refs/heads/main"), "{answer}");
    }
    host.verified();
}

#[test]
fn a_push_that_finds_no_memory_in_time_is_refused_and_may_come_again() {
    if std::env::var_os(OWN_PROCESS).is_none() {
        let name = "receive_pack::limits::a_push_that_finds_no_memory_in_time_is_refused_and_may_come_again";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let output = again.args(["--exact", name]).env(OWN_PROCESS, "1").output().unwrap();
        assert!(output.status.success() && said(&output).contains("1 passed"), "{}", said(&output));
        return;
    }
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    // More objects than have tables free of charge.
    let (mut script, mut files) = (String::new(), String::new());
    for number in 1..=17_000 {
        script += &format!("blob\nmark :{number}\ndata 6\n{number:06}\n");
        files += &format!("M 100644 :{number} d{}/f{number}\n", number % 100);
    }
    script += &format!("commit refs/heads/main\ncommitter A <a@example.com> 1700000000 +0000\ndata 1\nm\n{files}\n");
    client.feed(&["fast-import", "--quiet"], script.as_bytes());
    client.commit("small", "file", "content\n");
    let budget = memory::budget();
    budget.set_total(memory::MIN_BUDGET_BYTES);
    budget.set_max_wait(Duration::from_millis(200));
    let held = budget.take(memory::MIN_BUDGET_BYTES).unwrap();
    host.refuses(&client, &["main"], &["no memory left", "try again later", "unpacker error"]);
    assert_eq!((host.refs(), host.pack_keys()), (Vec::new(), Vec::new()));
    assert_eq!(host.spooled(), Vec::<std::path::PathBuf>::new());
    // What needs little is taken all the same.
    host.push(&client, &["small"]);
    drop(held);
    host.push(&client, &["main"]);
    assert_eq!(budget.held(), 0);
    host.verified();
}
