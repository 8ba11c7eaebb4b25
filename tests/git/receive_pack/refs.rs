//! What pushes do to refs.

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;

fn repo(host: &Host) -> GitRepo {
    GitRepo::with_history(host.dir.path().join("client"), &[])
}

#[test]
fn a_first_push_brings_everything_and_points_head_at_it() {
    let host = Host::new();
    let client = repo(&host);
    host.push(&client, &["side"]);
    let export = host.verified();
    assert_eq!(export.head(), "refs/heads/side\n");
    assert_eq!(export.git(&["rev-parse", "side"]), client.git(&["rev-parse", "side"]));
    // HEAD stays where it is from now on.
    host.push(&client, &["main"]);
    assert_eq!(host.verified().head(), "refs/heads/side\n");
}

#[test]
fn head_stays_when_its_own_branch_comes_first() {
    let host = Host::new();
    host.push(&repo(&host), &["side", "main", "topic/deep/er"]);
    assert_eq!(host.verified().head(), "refs/heads/main\n");
}

#[test]
fn mirror_push_then_every_kind_of_change() {
    let host = Host::new();
    let client = repo(&host);
    host.push(&client, &["--mirror"]);
    host.assert_mirrors(&client);
    let changes = host.head().head.frontier.seq;
    host.push(&client, &["--mirror"]);
    assert_eq!(host.head().head.frontier.seq, changes, "nothing to do is no change");

    client.commit("main", "new", "content\n");
    client.git(&["update-ref", "refs/heads/side", "main~2"]); // forced
    client.git(&["update-ref", "-d", "refs/heads/topic/deep/er"]);
    client.git(&["branch", "topic", "main"]); // a file where a directory was
    client.git(&["tag", "-d", "light"]);
    client.git(&["tag", "-f", "-am", "moved", "v1", "main"]);
    host.push(&client, &["--mirror", "--atomic"]);
    host.assert_mirrors(&client);
    assert_eq!(host.head().head.frontier.seq, changes + 1, "one push is one change");

    client.git(&["update-ref", "-d", "refs/heads/topic"]);
    client.git(&["branch", "topic/a/b", "side"]);
    host.push(&client, &["--mirror"]);
    host.assert_mirrors(&client);
}

#[test]
fn a_push_of_what_is_there_brings_no_pack() {
    let host = Host::new();
    let client = repo(&host);
    host.push(&client, &["--mirror"]);
    let packs = host.pack_keys();
    client.git(&["branch", "again", "main~2"]);
    client.git(&["branch", "-D", "side"]);
    host.push(&client, &["--mirror"]);
    host.push(&client, &["--delete", "v2"]);
    assert_eq!(host.pack_keys(), packs);
    assert!(!host.refs().iter().any(|(name, _)| name.ends_with("v2") || name.ends_with("side")));
    host.verified();
}

#[test]
fn who_comes_second_has_to_fetch_first() {
    let host = Host::new();
    let (client, other) = (repo(&host), GitRepo::with_history(host.dir.path().join("other"), &[]));
    host.push(&client, &["main"]);
    client.commit("main", "a", "a\n");
    other.commit("main", "b", "b\n");
    host.push(&client, &["main"]);
    host.refuses(&other, &["main"], &["rejected", "fetch first"]);
    // Not even by force, where the client says what it has seen.
    let stale = client.git(&["rev-parse", "main~1"]);
    let new = other.git(&["rev-parse", "main"]);
    let pack = other.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"main\n");
    let answer = host.talk(&[format!("{stale} {new} refs/heads/main")], &pack);
    assert!(answer.contains("unpack ok") && answer.contains("ng refs/heads/main fetch first"), "{answer}");
    let null = "0".repeat(40);
    let answer = host.talk(&[format!("{null} {new} refs/heads/main")], &pack);
    assert!(answer.contains("ng refs/heads/main fetch first"), "{answer}");
    assert_eq!(host.verified().git(&["rev-parse", "main"]), client.git(&["rev-parse", "main"]));
    assert_eq!(host.pack_keys().len(), 2);
}

#[test]
fn one_bad_ref_of_many() {
    let host = Host::new();
    let client = repo(&host);
    host.push(&client, &["main"]);
    let main = client.git(&["rev-parse", "main"]);
    let tree = client.git(&["rev-parse", "main^{tree}"]);
    let null = "0".repeat(40);
    let commands = [
        format!("{null} {main} refs/heads/good"),
        format!("{null} {tree} refs/heads/tree"),
        format!("{null} {tree} refs/tags/tree"),
        format!("{null} {main} refs/heads/a..b"),
        format!("{null} {main} HEAD"),
        format!("{null} {main} refs/gitferry/x"),
        format!("{null} {main} refs/heads/main/below"),
        format!("{null} {main} refs/heads/twice"),
        format!("{null} {main} refs/heads/twice"),
        format!("{main} {null} refs/heads/main"),
        format!("{null} {null} refs/heads/nothing"),
    ];
    let empty = client.feed(&["pack-objects", "--stdout", "-q"], b"");
    let answer = host.talk(&commands, &empty);
    for line in [
        "unpack ok",
        "ok refs/heads/good",
        "ng refs/heads/tree a branch must name a commit",
        "ok refs/tags/tree",
        "ng refs/heads/a..b funny refname",
        "ng HEAD funny refname",
        "ng refs/gitferry/x refs/gitferry/ is reserved",
        "ng refs/heads/main/below directory/file conflict with refs/heads/main",
        "ng refs/heads/twice multiple updates",
        "ng refs/heads/main deletion of the current branch prohibited",
        "ok refs/heads/nothing",
    ] {
        assert!(answer.contains(line), "{line:?} is not in {answer}");
    }
    let names: Vec<String> = host.refs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["refs/heads/good", "refs/heads/main", "refs/tags/tree"]);
    host.verified();
}

#[test]
fn atomic_is_all_or_nothing() {
    let host = Host::new();
    let client = repo(&host);
    host.push(&client, &["main"]);
    let change = host.head().head.frontier;
    host.accept(|policy| {
        policy.protections = vec![crate::receive_pack::rules::protect("refs/heads/side", |p| p.no_push = true)]
    });
    host.refuses(&client, &["--atomic", "side", "topic/deep/er"], &["protected ref: no pushes", "atomic push failure"]);
    assert_eq!(host.head().head.frontier, change);
    assert_eq!((host.pack_keys().len(), host.spooled()), (1, vec![]));
    host.refuses(&client, &["side", "topic/deep/er"], &["protected ref: no pushes", "[new branch]"]);
    assert_eq!(host.refs().len(), 2);
    host.verified();
}

#[test]
fn four_thousand_refs_are_one_change() {
    let host = Host::new();
    let client = repo(&host);
    let main = client.git(&["rev-parse", "main"]);
    client.pack_many_refs("refs/heads/many/", 4000, &main);
    host.push(&client, &["--mirror"]);
    assert_eq!(host.head().head.frontier.seq, 2);
    host.assert_mirrors(&client);
    client.commit("main", "x", "x\n");
    let main = client.git(&["rev-parse", "main"]);
    client.pack_many_refs("refs/heads/other/", 1000, &main);
    let deleted: String = (0..2000).map(|n| format!("delete refs/heads/many/{n:07}\n")).collect();
    client.update_refs(deleted);
    host.push(&client, &["--mirror"]);
    assert_eq!(host.head().head.frontier.seq, 3);
    host.assert_mirrors(&client);
}

#[test]
fn sha256() {
    let host = Host::with_format(gix::hash::Kind::Sha256);
    let client = GitRepo::with_history(host.dir.path().join("client"), &["--object-format=sha256"]);
    host.push(&client, &["--mirror"]);
    client.commit("main", "dir/file1", "thin\n");
    host.push(&client, &["--mirror"]);
    host.assert_mirrors(&client);
    let other = GitRepo::with_history(host.dir.path().join("sha1"), &[]);
    host.refuses(&other, &["main:refs/heads/x"], &["does not support this repository's hash algorithm"]);
}
