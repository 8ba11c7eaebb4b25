//! What a push needs and does not bring has to be reachable: being there is not enough.

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pushed_packs::{COMMIT, REF_DELTA, TREE, entry, id_of, pack_of, varint, whole};
use gitferry_test_support::receiving::Host;

fn null() -> String {
    "0".repeat(40)
}

fn setup() -> (Host, GitRepo) {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    client.commit("secret", "dir/file1", "secret\n");
    host.push(&client, &["--mirror"]);
    // Nothing shows it any more, but its objects are still there.
    host.push(&client, &["--delete", "secret"]);
    (host, client)
}

/// A pack of exactly these objects.
fn pack(client: &GitRepo, ids: &[&str]) -> Vec<u8> {
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    client.feed(&["pack-objects", "--stdout", "-q"], lines.as_bytes())
}

fn answer(host: &Host, tip: &str, pack: &[u8]) -> String {
    host.talk(&[format!("{} {tip} refs/heads/new", null())], pack)
}

fn refused(host: &Host, tip: &str, pack: &[u8]) {
    let before = (host.head().head.frontier, host.pack_keys());
    let answer = answer(host, tip, pack);
    assert!(answer.contains("ng refs/heads/new missing necessary objects"), "{answer}");
    assert_eq!((host.head().head.frontier, host.pack_keys()), before);
}

fn accepted(host: &Host, tip: &str, pack: &[u8]) {
    let answer = answer(host, tip, pack);
    assert!(answer.contains("ok refs/heads/new"), "{answer}");
    host.verified();
}

#[test]
fn what_is_there_but_not_reachable_cannot_be_named() {
    let (host, client) = setup();
    let id = |name: &str| client.git(&["rev-parse", name]);
    let empty = pack(&client, &[]);
    refused(&host, &id("secret"), &empty);
    // Nor as a parent, a tree, a blob of something new.
    let child = client.git(&["commit-tree", "main^{tree}", "-p", "secret", "-m", "child"]);
    refused(&host, &child, &pack(&client, &[&child]));
    let same = client.git(&["commit-tree", "secret^{tree}", "-p", "main", "-m", "same tree"]);
    refused(&host, &same, &pack(&client, &[&same]));
    let blob = id("secret:dir/file1");
    let tree = String::from_utf8(client.feed(&["mktree"], format!("100644 blob {blob}\tx\n").as_bytes())).unwrap();
    let with = client.git(&["commit-tree", tree.trim(), "-p", "main", "-m", "blob"]);
    refused(&host, &with, &pack(&client, &[&with, tree.trim()]));
    // Whoever brings all of it may have it.
    let all = client.feed(&["pack-objects", "--revs", "--stdout", "-q"], format!("{with}\n^main\n").as_bytes());
    accepted(&host, &with, &all);
}

#[test]
fn what_is_not_there_at_all_is_missing() {
    let (host, client) = setup();
    client.commit("main", "new", "new\n");
    client.commit("main", "new2", "new2\n");
    let id = |name: &str| client.git(&["rev-parse", name]);
    for left_out in ["main", "main~1", "main^{tree}", "main:new2", "main~1:new"] {
        let all = client.git(&["rev-list", "--objects", "--no-object-names", "main~2..main"]);
        let ids: Vec<&str> = all.lines().filter(|line| *line != id(left_out)).collect();
        assert_eq!(ids.len() + 1, all.lines().count(), "{left_out}");
        refused(&host, &id("main"), &pack(&client, &ids));
    }
    refused(&host, &"1".repeat(40), &pack(&client, &[]));
    host.verified();
}

#[test]
fn only_those_refs_are_refused_that_lack_something() {
    let (host, client) = setup();
    let good = client.commit("main", "good", "good\n");
    let bad = client.git(&["commit-tree", "main^{tree}", "-p", "secret", "-m", "child"]);
    let new = client.git(&["rev-list", "--objects", "--no-object-names", "main~1..main"]);
    let ids: Vec<&str> = new.lines().chain([bad.as_str()]).collect();
    let commands = [format!("{} {bad} refs/heads/bad", null()), format!("{} {good} refs/heads/good", null())];
    let answer = host.talk(&commands, &pack(&client, &ids));
    assert!(answer.contains("ng refs/heads/bad missing") && answer.contains("ok refs/heads/good"), "{answer}");
    host.verified();
    // The pack is open now, and what builds on it works all the same.
    client.git(&["fetch", "-q", ".", "main"]);
    client.commit("main", "dir/file2", "on top\n");
    client.git(&["update-ref", "-d", "refs/heads/secret"]);
    host.push(&client, &["main:good"]);
    host.verified();
}

#[test]
fn things_are_what_they_are_taken_for() {
    let (host, client) = setup();
    let id = |name: &str| client.git(&["rev-parse", name]);
    let raw = [b"100644 x\0".to_vec(), hex::decode(id("main^{tree}")).unwrap()].concat();
    let bad = client.feed(&["hash-object", "-t", "tree", "--literally", "-w", "--stdin"], &raw);
    let bad = String::from_utf8(bad).unwrap().trim().to_owned();
    let commit = client.git(&["commit-tree", &bad, "-p", "main", "-m", "tree as blob"]);
    refused(&host, &commit, &pack(&client, &[&commit, &bad]));
}

#[test]
fn parents_trees_and_blobs_are_found_wherever_they_are_reachable() {
    let (host, client) = setup();
    let old = client.git(&["rev-parse", "main"]);
    for n in 0..5 {
        client.commit("main", &format!("deep/er/file{n}"), &format!("{n}\n"));
    }
    client.commit("main", "dir/file0", "changed\n");
    host.push(&client, &["main"]);
    // A branch from the past, and one from the past of a deleted one's neighbour.
    client.git(&["branch", "past", "main~4"]);
    client.commit("past", "x", "x\n");
    host.push(&client, &["past"]);
    // Moved: the blob is in the parent, at another path.
    let moved = client.git(&["rev-parse", "main:deep/er/file3"]);
    let tree = String::from_utf8(client.feed(&["mktree"], format!("100644 blob {moved}\tmoved\n").as_bytes())).unwrap();
    let commit = client.git(&["commit-tree", tree.trim(), "-p", "main", "-m", "moved"]);
    accepted(&host, &commit, &pack(&client, &[&commit, tree.trim()]));
    // Reverted: the tree is in no parent's tree, only in history.
    let tree = client.git(&["rev-parse", &format!("{old}^{{tree}}")]);
    let revert = client.git(&["commit-tree", &tree, "-p", "main", "-m", "revert"]);
    let answer = host.talk(&[format!("{} {revert} refs/heads/revert", null())], &pack(&client, &[&revert]));
    assert!(answer.contains("ok refs/heads/revert"), "{answer}");
    // A new root whose tree is an old one; a tag of an old tag; a tag of a blob that only history has.
    let root = client.git(&["commit-tree", &tree, "-m", "root"]);
    let answer = host.talk(&[format!("{} {root} refs/heads/root", null())], &pack(&client, &[&root]));
    assert!(answer.contains("ok refs/heads/root"), "{answer}");
    client.git(&["tag", "-am", "three", "v3", "v2"]);
    client.git(&["tag", "-am", "blob", "blob", &format!("{old}~2:dir/file1")]);
    host.push(&client, &["v3", "blob"]);
    host.verified();
}

#[test]
fn bases_of_thin_packs_must_be_visible_too() {
    let (host, client) = setup();
    // The same push, once with a base that everybody sees, once with one that nobody does.
    let text = |n: u64| noise(n, 4000);
    client.commit_bytes("main", "text", &text(1));
    client.commit_bytes("hidden", "text", &text(2));
    host.push(&client, &["main", "hidden"]);
    host.push(&client, &["--delete", "hidden"]);
    let parent = client.git(&["rev-parse", "main"]);
    for (base, ok) in [(1, true), (2, false)] {
        let made = [text(base), b"more".to_vec()].concat();
        let base = hex::decode(id_of("blob", &text(base)).to_string()).unwrap();
        // Copy 4000 bytes from the beginning, insert four.
        let delta = [varint(4000), varint(4004), vec![0xb0, 0xa0, 0x0f, 4], b"more".to_vec()].concat();
        let tree = [b"100644 text\0".to_vec(), id_of("blob", &made).as_slice().to_vec()].concat();
        let who = "A <a@example.com> 1700000000 +0000";
        let tree_id = id_of("tree", &tree);
        let commit = format!("tree {tree_id}\nparent {parent}\nauthor {who}\ncommitter {who}\n\nthin\n");
        let blob = entry(REF_DELTA, delta.len(), &base, &delta);
        let thin = pack_of(3, &[whole(COMMIT, commit.as_bytes()), whole(TREE, &tree), blob]);
        let tip = id_of("commit", commit.as_bytes()).to_string();
        if ok {
            accepted(&host, &tip, &thin);
            host.push(&client, &["--delete", "new"]);
        } else {
            let before = (host.head().head.frontier, host.pack_keys());
            let answer = answer(&host, &tip, &thin);
            // As if it were not there at all.
            assert!(answer.contains("it is thin") && answer.contains("ng refs/heads/new unpacker error"), "{answer}");
            assert_eq!((host.head().head.frontier, host.pack_keys()), before);
        }
    }
}

#[test]
fn what_is_reachable_from_another_branch_alone_can_be_built_on() {
    let host = Host::new();
    let client = GitRepo::init(host.dir.path().join("client"), &[]);
    client.commit("main", "file", "short\n");
    for number in 0..4 {
        client.commit("other", "file", &format!("line {number}\n"));
    }
    host.push(&client, &["main", "other"]);
    // All of HEAD's history is soon looked at, and has nothing of it.
    client.git(&["branch", "new", "other~2"]);
    client.commit("new", "more", "more\n");
    host.push(&client, &["new"]);
    host.push(&client, &["other~1:refs/heads/back"]);
    host.verified();
}
