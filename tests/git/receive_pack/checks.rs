//! Packs as clients send them: thin, with deltas by place or by id.

use gix::ObjectId;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::receiving::Host;

/// A repository with a text that is worth a delta.
fn setup() -> (Host, GitRepo) {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    client.commit_bytes("main", "text", &noise(1, 20_000));
    host.push(&client, &["--mirror"]);
    (host, client)
}

fn last_pack(host: &Host) -> gitferry_engine::region::manifest::LivePack {
    let item = host.head();
    host.runtime.block_on(host.region.reader().manifest(&item)).unwrap().0.packs.pop().unwrap()
}

#[test]
fn a_thin_pack_is_completed_with_what_it_lacks_and_no_more() {
    let (host, client) = setup();
    let first = host.pack_keys().len();
    client.commit_bytes("main", "text", &[noise(1, 20_000), b"a little more".to_vec()].concat());
    let thin = client.feed(&["pack-objects", "--revs", "--thin", "--stdout", "-q"], b"main\n^main~1\n");
    assert!(thin.len() < 10_000, "{}", thin.len());
    host.push(&client, &["main"]);
    assert_eq!(host.pack_keys().len(), first + 1);
    let pack = last_pack(&host);
    // Commit, tree, blob, and the bases: the old blob, perhaps the old tree.
    assert!((4..=5).contains(&pack.objects) && pack.bytes > 20_000, "{pack:?}");
    assert!(pack.closed);
    let path = host.region.objects().local_path(&pack.key).unwrap();
    let index = path.with_extension("idx");
    client.git(&["verify-pack", index.to_str().unwrap()]);
    host.assert_mirrors(&client);
}

#[test]
fn deltas_by_id_inside_the_pack_are_not_taken_for_thin() {
    let (host, client) = setup();
    for n in 0..100 {
        client.commit_bytes("main", "text", &[noise(1, 20_000), vec![b'x'; n]].concat());
    }
    client.git(&["repack", "-adq"]);
    // Everything again, against a repository that has half of it: no delta needs anything from outside.
    let (tip, null) = (client.git(&["rev-parse", "main"]), "0".repeat(40));
    let pack = client.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"main\n");
    let by_id =
        client.feed(&["-c", "repack.useDeltaBaseOffset=false", "pack-objects", "--revs", "--stdout", "-q"], b"main\n");
    for (name, pack) in [("a", &pack), ("b", &by_id)] {
        let answer = host.talk(&[format!("{null} {tip} refs/heads/{name}")], pack);
        assert!(answer.contains(&format!("ok refs/heads/{name}")), "{answer}");
        assert_eq!(u64::from(last_pack(&host).objects), count(&client, "main"));
    }
    host.verified();
}

#[test]
fn an_object_that_is_sent_and_named_as_a_base() {
    // Few deltas by id, so that they are taken for thin ones at first, and all bases are here and in the pack.
    let (host, client) = setup();
    client.commit_bytes("main", "text", &[noise(1, 20_000), b"x".to_vec()].concat());
    client.git(&["repack", "-adq"]);
    let ids = ["main", "main^{tree}", "main:text", "main~1:text", "main~1^{tree}"]
        .map(|name| client.git(&["rev-parse", name]));
    let pack = client.feed(&["pack-objects", "--stdout", "-q"], (ids.join("\n") + "\n").as_bytes());
    let (tip, null) = (&ids[0], "0".repeat(40));
    let answer = host.talk(&[format!("{null} {tip} refs/heads/new")], &pack);
    assert!(answer.contains("ok refs/heads/new"), "{answer}");
    assert_eq!(last_pack(&host).objects, 5);
    assert_eq!(last_pack(&host).id.kind(), ObjectId::null(gix::hash::Kind::Sha1).kind());
    host.verified();
}

#[test]
fn a_shallow_clone_pushes_what_it_can() {
    let (host, client) = setup();
    let shallow = host.dir.path().join("shallow");
    let url = format!("file://{}", client.path.display());
    client.git(&["clone", "-q", "--bare", "--depth=1", "--branch=main", &url, shallow.to_str().unwrap()]);
    let shallow = GitRepo::at(shallow);
    shallow.commit("main", "from-shallow", "x\n");
    host.push(&shallow, &["main"]);
    host.verified();
    // Into a repository that lacks what it lacks, it cannot.
    let other = Host::new();
    other.refuses(&shallow, &["main"], &["missing necessary objects"]);
    other.verified();
}

#[test]
fn the_same_pack_twice_is_kept_once() {
    let (host, client) = setup();
    let tip = client.commit("main", "x", "x\n");
    let null = "0".repeat(40);
    let pack = client.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"main\n^main~1\n");
    for name in ["a", "b"] {
        let answer = host.talk(&[format!("{null} {tip} refs/heads/{name}")], &pack);
        assert!(answer.contains(&format!("ok refs/heads/{name}")), "{answer}");
    }
    assert_eq!(host.pack_keys().len(), 2);
    host.verified();
}

fn count(client: &GitRepo, tip: &str) -> u64 {
    client.git(&["rev-list", "--objects", tip]).lines().count() as u64
}
