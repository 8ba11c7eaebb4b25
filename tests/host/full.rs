//! A repository whose manifest lists as many packs as it can takes pushes again without help from outside; a snapshot of
//! refs follows the push that makes it due.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gitferry_engine::ledger::keys;
use gitferry_engine::region::consolidate::CONSOLIDATE_ABOVE;
use gitferry_engine::region::manifest::{LivePack, MAX_PACKS, PackClass};
use gitferry_git::pack::{CheckOptions, CheckProgress, check_pack};
use gitferry_store::objects::Crc64;
use gitferry_store::table::lease::{Lease, Waiter};
use gitferry_store::table::{Condition, Write};
use gitferry_test_support::faults::{Faults, When};
use gitferry_test_support::objects::FaultyStore;
use gix::hash::Kind::Sha1;

use crate::busy::{Commit, Hosts, PATIENCE, commit, noise, open, pack, push, push_to};
use gitferry_test_support::git::GitRepo;

/// Stores a pack of one blob, as a push would; its entry for the manifest.
fn put_pack(hosts: &Hosts, number: usize) -> LivePack {
    let id = hosts.item().id;
    let body = pack(&[(3, &noise(5_000_000 + number as u64, 100))]);
    let [file, index] = ["fill.pack", "fill.idx"].map(|name| hosts.dir.path().join(name));
    std::fs::write(&file, &body).unwrap();
    let checked = check_pack(&file, None, &CheckOptions::new(Sha1), &index, &CheckProgress::default()).unwrap();
    let index = std::fs::read(&index).unwrap();
    let entry = LivePack {
        key: keys::pack(id, checked.id, &format!("{number:032x}")),
        class: PackClass::Live,
        id: checked.id,
        bytes: body.len() as u64,
        objects: 1,
        crc64: Crc64::of(&body),
        index_bytes: index.len() as u64,
        index_crc64: Crc64::of(&index),
        closed: true,
    };
    let put = async {
        hosts.region.objects().put(&keys::index_of(&entry.key), index.into()).await.unwrap();
        hosts.region.objects().put(&entry.key, body.into()).await.unwrap();
    };
    hosts.runtime.block_on(put);
    entry
}

/// Makes the manifest list as many packs as it can; those that are new.
fn fill(hosts: &Hosts) -> Vec<LivePack> {
    let item = hosts.item();
    let (manifest, revision) = hosts.runtime.block_on(hosts.region.reader().manifest(&item)).unwrap();
    let packs: Vec<LivePack> = (manifest.packs.len()..MAX_PACKS).map(|number| put_pack(hosts, number)).collect();
    let next = serde_json::to_value(manifest.with(packs.clone())).unwrap();
    let write = Write::put(keys::manifest(item.id), Condition::Revision(revision), next);
    hosts.runtime.block_on(hosts.region.table().transact(vec![write])).unwrap();
    assert_eq!(hosts.packs(), MAX_PACKS);
    packs
}

/// Keeps all other processes from consolidating.
fn hold_consolidation(hosts: &Hosts) -> Lease {
    let key = keys::consolidation_lease(hosts.item().id);
    let mut waiter = Waiter::new(hosts.region.shared_table(), hosts.region.shared_clock(), key);
    hosts.runtime.block_on(waiter.try_take()).unwrap().unwrap()
}

/// Flips a byte as a disk does that rots: no time of the file changes. A second flip mends it.
fn flip_silently(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 14).unwrap();
    file.write_all_at(&[byte[0] ^ 0xff], 14).unwrap();
    file.set_modified(modified).unwrap();
}

/// Pushes a commit to a new branch; the answer of the server.
fn push_one(hosts: &Hosts, branch: &str) -> String {
    let commit: Commit = commit(branch.as_bytes(), None);
    hosts.runtime.block_on(push(&reqwest::Client::new(), &hosts.urls[0], branch, None, commit))
}

fn assert_pushed(hosts: &Hosts, branch: &str) {
    let answer = push_one(hosts, branch);
    assert!(answer.contains("ok refs/heads/"), "{answer}");
}

#[test]
fn a_full_repository_takes_a_push_although_a_pack_is_damaged() {
    let hosts = Hosts::start(1);
    push_to(&hosts, "main", 1);
    // While the test holds the lease, the host opens the repository, but does not consolidate.
    let lease = hold_consolidation(&hosts);
    let packs = fill(&hosts);
    GitRepo::init(hosts.dir.path().join("first.git"), &[]).git(&["ls-remote", &hosts.urls[0]]);
    let path = hosts.region.objects().local_path(&packs[7].key).unwrap();
    flip_silently(&path);
    hosts.runtime.block_on(lease.release());
    assert_pushed(&hosts, "late");
    hosts.until_few_packs();
    let aside = || hosts.runtime.block_on(hosts.region.packs_aside().all()).unwrap();
    let rows = aside();
    assert_eq!(rows.iter().map(|row| row.pack).collect::<Vec<_>>(), [packs[7].id]);
    flip_silently(&path);
    hosts.verify();
    assert_eq!(aside(), Vec::new());
    assert_pushed(&hosts, "later");
}

#[test]
fn a_full_repository_takes_pushes_again_when_its_store_does() {
    let faults = Arc::new(Faults::none());
    let with = faults.clone();
    let hosts = Hosts::start_with(1, move |dir| {
        let region = open(dir);
        region.with_objects(Arc::new(FaultyStore::new(region.shared_objects().clone(), with.clone())))
    });
    push_to(&hosts, "main", 1);
    fill(&hosts);
    // Nothing can be stored from now on, and no merged pack either.
    faults.crash_at(1, When::Before);
    let answer = push_one(&hosts, "early");
    assert!(answer.contains("ng refs/heads/early"), "{answer}");
    assert_eq!(hosts.packs(), MAX_PACKS);
    faults.restart();
    assert_pushed(&hosts, "late");
    hosts.until_few_packs();
    hosts.verify();
}

#[test]
fn a_full_repository_says_so_while_it_cannot_be_consolidated_and_then_takes_pushes_again() {
    let hosts = Hosts::start(2);
    push_to(&hosts, "main", 1);
    // A process that hangs and keeps its lease.
    let lease = hold_consolidation(&hosts);
    fill(&hosts);
    let answer = push_one(&hosts, "early");
    assert!(answer.contains(&format!("app has {MAX_PACKS} packs")) && answer.contains("try again"), "{answer}");
    hosts.runtime.block_on(lease.release());
    assert_pushed(&hosts, "late");
    hosts.until_few_packs();
    hosts.verify();
    assert!(hosts.packs() <= CONSOLIDATE_ABOVE);
}

/// A push of so many branches that a snapshot of the refs is due.
fn push_many_refs(hosts: &Hosts) {
    let commit = commit(b"content", None);
    let null = gix::ObjectId::null(Sha1);
    let mut body = Vec::new();
    for number in 0..40_000 {
        let capabilities = if number == 0 { "\0 report-status object-format=sha1" } else { "" };
        let command = format!("{null} {} refs/heads/branch-{number:06}{capabilities}", commit.id);
        body.extend(format!("{:04x}{command}", command.len() + 4).into_bytes());
    }
    body.extend(b"0000");
    body.extend(&commit.pack);
    let request = reqwest::Client::new().post(format!("{}/git-receive-pack", hosts.urls[0]));
    let request = request.header("content-type", "application/x-git-receive-pack-request").body(body);
    let answer = hosts.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
    assert!(answer.contains("unpack ok") && !answer.contains("ng "), "{}", &answer[..answer.len().min(300)]);
}

#[test]
fn a_snapshot_of_refs_follows_the_push_that_makes_it_due() {
    let hosts = Hosts::start(2);
    // While another process is at work on the repository, none is taken.
    let lease = hold_consolidation(&hosts);
    push_many_refs(&hosts);
    let pushed = hosts.item();
    assert!(gitferry_engine::ledger::refs::wants_snapshot(&pushed.head));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(hosts.item().head.snapshot, None);
    hosts.runtime.block_on(lease.release());
    // No other request comes.
    let started = Instant::now();
    let snapshot = loop {
        if let Some(snapshot) = hosts.item().head.snapshot {
            break snapshot;
        }
        assert!(started.elapsed() < PATIENCE, "there is no snapshot");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(snapshot.seq, pushed.head.frontier.seq);
    hosts.verify();
}
