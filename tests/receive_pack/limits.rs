//! What is too large.

use crate::git::{GitRepo, noise};
use crate::server::Host;

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
    host.refuses(&client, &["main"], &["larger than 300000 bytes", "unpacker error"]);
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
