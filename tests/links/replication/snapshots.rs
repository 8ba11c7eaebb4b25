//! Repositories of very many refs: the log outweighs the refs, snapshots stand in for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitferry_engine::ledger::refs::wants_snapshot;
use gitferry_engine::region::Region;
use gitferry_engine::region::import::ImportOptions;
use gitferry_git::local::RefPatterns;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::objects::{Losing, LosingStore};
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// The snapshots in a region, oldest first.
fn snapshots(world: &World, name: &str, region: &str) -> Vec<PathBuf> {
    let id = world.show(name, region)["id"].as_str().unwrap().to_owned();
    let folder = world.path(region).join("objects/repositories").join(id).join("snapshots");
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// A repository of `count` packed refs, half of them on each of two commits.
fn many(world: &World, count: usize) -> GitRepo {
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    for (prefix, value) in [("refs/heads/x/", "main"), ("refs/tags/some/", "main~2")] {
        repo.pack_many_refs(prefix, count / 2, &repo.git(&["rev-parse", value]));
    }
    // By Git's hand: sorted, so that it is read as a stream.
    repo.git(&["pack-refs", "--all"]);
    repo
}

/// Gives all packed refs below a prefix one value; Git itself would write a file for each.
fn move_all(repo: &GitRepo, prefix: &str, value: &str) {
    let file = repo.path.join("packed-refs");
    let text = std::fs::read_to_string(&file).unwrap();
    let moved = |line: &str| match line.split_once(' ') {
        Some((_, name)) if name.starts_with(prefix) => format!("{value} {name}\n"),
        _ => format!("{line}\n"),
    };
    std::fs::write(&file, text.lines().map(moved).collect::<String>()).unwrap();
}

#[test]
fn refs_are_a_snapshot_and_the_changes_after_it() {
    let world = World::new();
    let repo = many(&world, 50_000);
    let imported = world.import(&repo, "app");
    assert_eq!(imported["created"], repo.refs().len());
    world.replicate();
    world.assert_synced(&repo, "app");
    let first = [SOURCE, TARGET].map(|region| snapshots(&world, "app", region).len());
    assert_eq!(first, [1, 1]);

    // Small changes live in the log only.
    let old = repo.git(&["rev-parse", "main~1"]);
    let line = |n: usize| match n % 3 {
        0 => format!("delete refs/heads/x/{n:07}\n"),
        1 => format!("update refs/heads/x/{n:07} {old}\n"),
        _ => format!("create refs/heads/x/{n:07}-new {old}\n"),
    };
    repo.update_refs((0..3_000).map(line).collect::<String>());
    repo.commit("main", "more", "more\n");
    assert_eq!(world.sync(&repo, "app")["edits"], 3_001);
    assert_eq!(snapshots(&world, "app", TARGET).len(), 1);
    world.assert_exports_as(&repo, "app", SOURCE);
    let log = world.ok(&["log", "app", "--region", TARGET, "--json", "--edits", "0"]);
    let edits: Vec<usize> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["edits"].as_array().unwrap().len())
        .collect();
    assert_eq!(edits, [3_001, imported["created"].as_u64().unwrap() as usize]);

    // A deletion on top of a snapshot, and what was there may come again.
    repo.update_refs("delete refs/heads/x/0000001\ndelete refs/tags/some/0000000\n");
    assert_eq!(world.sync(&repo, "app")["edits"], 2);
    repo.update_refs(format!("create refs/tags/some/0000000 {old}\n"));
    assert_eq!(world.sync(&repo, "app")["edits"], 1);
}

/// The store says that the snapshot exists, and a moment later it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_gone_is_not_recorded() {
    let world = World::new();
    let repo = many(&world, 20_000);
    let folder = world.path("us");
    let region = Region::open_embedded("us", &folder.join("objects"), &folder.join("table.db")).unwrap();
    let losing =
        region.with_objects(Arc::new(LosingStore::new(region.shared_objects().clone(), Losing("/snapshots/"))));
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "test".into() };
    losing.importer().import(&repo.path, "app", &options, Default::default()).await.unwrap();
    let item = region.repositories().get("app").await.unwrap();
    assert!(item.head.snapshot.is_none() && wants_snapshot(&item.head), "{:?}", item.head.snapshot);
    // With the store in order, the next attempt records the snapshot in its size, whether it is new or there already.
    for _ in 0..2 {
        let snapshot = region.snapshots().maintain(item.clone()).await.head.snapshot.unwrap();
        assert!(snapshot.bytes > 0);
        assert_eq!(region.objects().head(&snapshot.key).await.unwrap().unwrap().size, snapshot.bytes);
    }
}

#[test]
fn a_new_snapshot_takes_the_place_of_a_long_log() {
    let world = World::new();
    let repo = many(&world, 30_000);
    world.sync(&repo, "app");
    for round in 0..2 {
        move_all(&repo, "refs/heads/x/", &repo.git(&["rev-parse", &format!("main~{}", 3 + round)]));
        world.import(&repo, "app");
    }
    assert!(snapshots(&world, "app", SOURCE).len() > 1);
    world.replicate();
    world.assert_synced(&repo, "app");
    repo.commit("main", "more", "more\n");
    assert_eq!(world.sync(&repo, "app")["edits"], 1);
    // Without its snapshot the refs are lost in this region, and verify says so.
    let newest = snapshots(&world, "app", TARGET).pop().unwrap();
    std::fs::remove_file(&newest).unwrap();
    world.ends(1, &["verify", LINK]);
}

#[test]
#[ignore = "slow: a million refs"]
fn a_million_refs_stream_through_bounded_memory() {
    let world = World::new();
    let repo = many(&world, 1_000_000);
    let (ended, import) = peak_anonymous_kib(&world, &["import", "src.git", "app", "--region", SOURCE]);
    assert!(ended.success());
    let (ended, replicate) = peak_anonymous_kib(&world, &["replicate", LINK]);
    assert!(ended.success());
    let (ended, verify) = peak_anonymous_kib(&world, &["verify", LINK]);
    assert!(ended.success());
    repo.commit("main", "more", "more\n");
    world.import(&repo, "app");
    let (ended, again) = peak_anonymous_kib(&world, &["replicate", LINK]);
    assert!(ended.success());
    eprintln!("peak anonymous KiB: import {import}, replicate {replicate}, verify {verify}, one more commit {again}");
    for peak in [replicate, again] {
        assert!(peak < 100 * 1024, "{peak} KiB");
    }
    assert_eq!(world.show("app", TARGET)["refs"], repo.refs().len());
    world.assert_synced(&repo, "app");
}

/// Runs the command and watches its anonymous memory: its end, and the peak in KiB.
fn peak_anonymous_kib(world: &World, args: &[&str]) -> (std::process::ExitStatus, u64) {
    let mut child = world.command(args).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let now = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(now.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            return (ended, peak);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
