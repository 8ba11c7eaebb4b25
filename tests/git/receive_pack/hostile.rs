//! Packs and commands that no honest client sends.

use std::io::Write;
use std::path::PathBuf;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pushed_packs::{
    BLOB, COMMIT, OFS_DELTA, REF_DELTA, deflate, distance, entry, id_of, pack_of, varint, whole,
};
use gitferry_test_support::receiving::Host;

fn setup() -> (Host, GitRepo) {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["side"]);
    (host, client)
}

/// Sends a pack for a new branch, which must be refused for these reasons, with nothing left of it.
fn refused(host: &Host, tip: &str, pack: &[u8], reasons: &[&str]) {
    let before = (host.head().head.frontier, host.pack_keys());
    let answer = host.talk(&[format!("{} {tip} refs/heads/hostile", "0".repeat(40))], pack);
    for reason in reasons.iter().chain(&["ng refs/heads/hostile"]) {
        assert!(answer.contains(reason), "{reason:?} is not in {answer:?}");
    }
    assert_eq!((host.head().head.frontier, host.pack_keys()), before);
    assert_eq!(host.spooled(), Vec::<PathBuf>::new());
}

/// A delta that makes `times` copies of all of a base of 64 KiB.
fn repeat(times: u64) -> Vec<u8> {
    let mut delta = [varint(0x10000), varint(0x10000 * times)].concat();
    // Copy without arguments: 64 KiB from the beginning.
    delta.resize(delta.len() + times as usize, 0x80);
    delta
}

#[test]
fn damaged_packs() {
    let (host, client) = setup();
    let tip = client.git(&["rev-parse", "main"]);
    let pack = client.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"main\n");
    let mut trailer = pack.clone();
    *trailer.last_mut().unwrap() ^= 1;
    refused(&host, &tip, &trailer, &["unpack pack: the checksum at its end"]);
    for cut in [0, 5, 12, 40, pack.len() / 2, pack.len() - 21, pack.len() - 1] {
        refused(&host, &tip, &pack[..cut], &["cut off"]);
    }
    for at in [0, 5, 13, 14, 20, 60, pack.len() / 2, pack.len() - 30] {
        let mut flipped = pack.clone();
        flipped[at] ^= 4;
        refused(&host, &tip, &flipped, &["unpack pack: "]);
    }
    let mut claims = pack.clone();
    claims[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    refused(&host, &tip, &claims, &["4294967295 objects"]);
    claims[8..12].copy_from_slice(&(u32::MAX - 2).to_be_bytes());
    refused(&host, &tip, &claims, &["unpack pack: "]);
    let mut more = pack.clone();
    more.extend_from_slice(b"more");
    refused(&host, &tip, &more, &["bytes follow its end"]);
    refused(&host, &tip, b"0000", &["unpack pack: "]);
    refused(&host, &tip, &noise(3, 100_000), &["does not begin with PACK"]);
    host.verified();
}

#[test]
fn deltas_in_a_circle_or_to_nowhere() {
    let (host, client) = setup();
    let tip = client.git(&["rev-parse", "main"]);
    let (a, b) = ([0xaa; 20], [0xbb; 20]);
    let delta = [varint(1), varint(1), vec![1, b'x']].concat();
    let circle = [entry(REF_DELTA, delta.len(), &a, &delta), entry(REF_DELTA, delta.len(), &b, &delta)];
    refused(&host, &tip, &pack_of(2, &circle), &["it is thin", "is not in the pack"]);
    let before = entry(OFS_DELTA, delta.len(), &[0x7f], &delta);
    refused(&host, &tip, &pack_of(1, &[before]), &["unpack pack: "]);
    let itself = entry(OFS_DELTA, delta.len(), &[0], &delta);
    refused(&host, &tip, &pack_of(1, &[itself]), &["unpack pack: "]);
}

#[test]
fn bombs() {
    let (host, client) = setup();
    let tip = client.git(&["rev-parse", "main"]);
    let base = whole(BLOB, &vec![0; 0x10000]);
    // One that is too large.
    host.accept(|policy| policy.limits.object_bytes = 1 << 26);
    let delta = repeat(1 << 11);
    let large = entry(OFS_DELTA, delta.len(), &distance(base.len()), &delta);
    refused(&host, &tip, &pack_of(2, &[base.clone(), large]), &["at most 67108864 are supported"]);
    // Many that are not, each: together they are out of proportion.
    let mut entries = vec![base.clone()];
    let mut behind = base.len();
    for n in 0..80u8 {
        let mut delta = repeat(1 << 9);
        delta.extend([1, n]);
        let size = [varint(0x10000), varint(0x10000 * (1 << 9) + 1)].concat();
        let delta = [size, delta[varint(0x10000).len() + varint(0x10000 << 9).len()..].to_vec()].concat();
        let one = entry(OFS_DELTA, delta.len(), &distance(behind), &delta);
        behind += one.len();
        entries.push(one);
    }
    let bomb = pack_of(81, &entries);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    refused(&host, &tip, &bomb, &["out of all proportion"]);
    // A stream that inflates to more than it says.
    let liar = [vec![(BLOB << 4) | 5], deflate(&vec![0; 1 << 20])].concat();
    refused(&host, &tip, &pack_of(1, &[liar]), &["longer than it says"]);
}

#[test]
fn an_object_twice_and_a_commit_that_cannot_be_read() {
    let (host, client) = setup();
    let tip = client.git(&["rev-parse", "main"]);
    let blob = whole(BLOB, b"one");
    refused(&host, &tip, &pack_of(2, &[blob.clone(), blob]), &["is in it twice"]);
    let commit = b"tree of nothing\n";
    let id = id_of("commit", commit);
    let pack = pack_of(1, &[whole(COMMIT, commit)]);
    refused(&host, &id.to_string(), &pack, &["badTreeSha1"]);
    // Without fsck it still cannot be used.
    host.accept(|policy| policy.rules = None);
    refused(&host, &id.to_string(), &pack, &["missing necessary objects"]);
    host.verified();
}

#[test]
fn bad_commands() {
    let (host, client) = setup();
    let (tip, null) = (client.git(&["rev-parse", "main"]), "0".repeat(40));
    let before = host.head().head.frontier;
    for (commands, reason) in [
        (vec!["nonsense".to_owned()], "ERR expected <old id> <new id> <ref>"),
        (vec![format!("{tip} {null}")], "ERR expected"),
        (vec!["push-cert".to_owned()], "certificate"),
        (vec![format!("{null} {tip} refs/heads/a"), "x".repeat(60_000)], "ERR expected"),
        (vec![format!("{null} {tip} refs/heads/{}", "n".repeat(2000))], "funny refname"),
        (vec![format!("{null} {tip} refs/heads/a\nb")], "funny refname"),
    ] {
        let empty = client.feed(&["pack-objects", "--stdout", "-q"], b"");
        let answer = host.talk(&commands, &empty);
        assert!(answer.contains(reason), "{reason:?} is not in {answer:?}");
    }
    for bytes in [&b"fff1"[..], b"zzzz", b"0003", b"0000junk", b"0001", b"00"] {
        let mut stream = host.connect();
        stream.write_all(bytes).unwrap();
        drop(stream);
    }
    assert_eq!(host.head().head.frontier, before);
    host.push(&client, &["main"]);
    host.verified();
}
