//! Pushes whose blobs point to LFS objects.

use gitferry_engine::region::lfs::LfsSpool;
use gitferry_engine::region::push::Missing;
use gitferry_git::lfs::Pointer;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;

/// A pointer to a content, and its blob.
fn pointer(content: &[u8]) -> (Pointer, String) {
    let (_, object) = spool(content);
    let (oid, size) = (object.oid, object.size);
    let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    (Pointer { oid, size }, text)
}

fn spool(content: &[u8]) -> (tempfile::TempPath, gitferry_engine::ledger::change::LfsObject) {
    let mut spool = LfsSpool::new_in(&std::env::temp_dir()).unwrap();
    spool.write(content).unwrap();
    spool.finish()
}

fn store(host: &Host, content: &[u8]) {
    let (file, object) = spool(content);
    host.runtime.block_on(host.region.lfs().put(host.head().id, object, file)).unwrap();
}

/// How many LFS objects the ledger names.
fn named(host: &Host) -> u64 {
    host.runtime.block_on(host.region.verifier().verify(&host.head(), false, Default::default())).unwrap().lfs_objects
}

#[test]
fn what_is_missing_refuses_the_push_and_what_is_there_is_named() {
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    client.commit("main", "file", "no pointer");
    client.commit("main", "a.bin", &pointer(b"a").1);
    client.commit("main", "b.bin", &pointer(b"b").1);
    let before = host.head().head.frontier;
    let oids = [pointer(b"a").0.oid.to_string(), pointer(b"b").0.oid.to_string()];
    host.refuses(&client, &["main"], &["2 LFS objects are missing here", &oids[0], &oids[1], "git lfs push --all"]);
    store(&host, b"a");
    let said = host.refuses(&client, &["main"], &["1 LFS objects are missing here", &oids[1]]);
    assert!(!said.contains(&oids[0]), "{said}");
    assert_eq!((host.head().head.frontier, host.spooled()), (before, Vec::new()));
    store(&host, b"b");
    host.push(&client, &["main"]);
    assert_eq!(named(&host), 2);
    host.verified();
}

#[test]
fn a_pointer_with_another_size_refuses_the_push_whatever_the_policy() {
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    client.commit("main", "a.bin", &pointer(b"a").1.replace("size 1", "size 2"));
    store(&host, b"a");
    for lfs in [Missing::Refuse, Missing::Allow] {
        host.accept(|policy| policy.lfs = lfs);
        host.refuses(&client, &["main"], &["another size", "(2 bytes)"]);
    }
}

#[test]
fn a_policy_may_take_pointers_first() {
    let host = Host::new();
    host.accept(|policy| policy.lfs = Missing::Allow);
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    client.commit("main", "a.bin", &pointer(b"a").1);
    client.commit("main", "b.bin", &pointer(b"b").1);
    store(&host, b"b");
    host.push(&client, &["main"]);
    assert_eq!(named(&host), 1);
    let awaited = host.runtime.block_on(host.region.lfs().awaited(host.head().id)).unwrap();
    assert_eq!(awaited, [pointer(b"a").0]);
    // Whoever changes such a file sends the old pointer along, as the base of a delta or not at all.
    host.accept(|policy| policy.lfs = Missing::Refuse);
    store(&host, b"c");
    client.commit("main", "a.bin", &pointer(b"c").1);
    client.commit("main", "moved.bin", &pointer(b"a").1);
    host.push(&client, &["main"]);
    assert_eq!(named(&host), 2);
    host.verified();
}
