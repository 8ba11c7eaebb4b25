//! Work follows the delta: nothing changed costs next to nothing, however often it is announced.

use std::sync::Arc;

use gitferry_config::CarriedNames;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::ledger::keys::SHARDS;
use gitferry_engine::region::Region;
use gitferry_replication::link::Link;
use gitferry_test_support::faults::{Meter, Operation, Snapshot};
use gitferry_test_support::objects::MeteredStore;
use gitferry_test_support::table::MeteredTable;
use globset::{Glob, GlobSet};

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// A link of a world with a meter on each region.
struct Metered {
    link: Link,
    source: Arc<Meter>,
    target: Arc<Meter>,
}

impl Metered {
    fn open(world: &World) -> Metered {
        let region = |name: &str| {
            let folder = world.path(name);
            let region = Region::open_embedded(name, &folder.join("objects"), &folder.join("table.db")).unwrap();
            let meter = Arc::new(Meter::new());
            let objects = Arc::new(MeteredStore::new(region.shared_objects().clone(), meter.clone()));
            let table = Arc::new(MeteredTable::new(region.shared_table().clone(), meter.clone()));
            (region.with_objects(objects).with_table(table), meter)
        };
        let ((source, source_meter), (target, target_meter)) = (region(SOURCE), region(TARGET));
        let link = Link {
            name: LINK.into(),
            source,
            target,
            repositories: everything(),
            mode: Default::default(),
            active_links: vec![LINK.to_owned()].into(),
            account_links: Arc::new([]),
            memory: Arc::new(tokio::sync::Semaphore::new(gitferry_replication::transfer::PARTS_IN_MEMORY)),
            progress: Default::default(),
        };
        Metered { link, source: source_meter, target: target_meter }
    }

    fn counts(&self) -> [Snapshot; 2] {
        [self.source.snapshot(), self.target.snapshot()]
    }

    async fn heads(&self) -> [HeadItem; 2] {
        [
            self.link.source.repositories().get("app").await.unwrap(),
            self.link.target.repositories().get("app").await.unwrap(),
        ]
    }
}

fn everything() -> CarriedNames {
    GlobSet::builder().add(Glob::new("*").unwrap()).build().unwrap().into()
}

fn calls(counts: &Snapshot, operation: Operation) -> u64 {
    counts.of(operation).calls
}

fn synced() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.sync(&repo, "app");
    (world, repo)
}

#[tokio::test]
async fn the_same_event_a_hundred_times() {
    let (world, _) = synced();
    let metered = Metered::open(&world);
    let id = metered.heads().await[0].id;
    let metered = Metered::open(&world);
    for _ in 0..100 {
        assert_eq!(metered.link.deliver(id).await.unwrap(), None);
    }
    // One read of each head, and nothing else; the source's newest change comes along.
    for (counts, read) in metered.counts().iter().zip([Operation::TableQuery, Operation::TableGet]) {
        assert_eq!((counts.total().calls, calls(counts, read)), (100, 100), "{counts}");
    }
}

#[tokio::test]
async fn a_hundred_passes_over_equal_regions() {
    let (world, repo) = synced();
    for name in ["b", "c", "d"] {
        world.import(&repo, name);
    }
    world.replicate();
    let metered = Metered::open(&world);
    let before = metered.heads().await;
    let metered = Metered::open(&world);
    for _ in 0..100 {
        let summary = metered.link.pass(&[], 4).await.unwrap();
        assert_eq!((summary.unchanged, summary.delivered, summary.bytes_copied), (4, 0, 0));
    }
    // The listing of the source, and one batched read of all heads on each side.
    let [source, target] = metered.counts();
    assert_eq!(calls(&source, Operation::TableQuery), 100 * u64::from(SHARDS), "{source}");
    assert_eq!(calls(&source, Operation::TableGet), 100, "{source}");
    assert_eq!(source.total().calls, 100 + 100 * u64::from(SHARDS), "{source}");
    assert_eq!((target.total().calls, calls(&target, Operation::TableGet)), (100, 100), "{target}");
    let after = Metered::open(&world).heads().await;
    assert_eq!(before.map(|item| item.revision), after.map(|item| item.revision));
}

#[test]
fn a_hundred_processes_change_nothing() {
    let (world, _) = synced();
    let state = || (world.show("app", TARGET), world.pack_files(TARGET), world.ok(&["log", "app", "--region", TARGET]));
    let before = state();
    for _ in 0..100 {
        let summary = world.replicate();
        let got = ["unchanged", "delivered", "changes", "packs", "bytes_copied"].map(|f| summary[f].as_u64().unwrap());
        assert_eq!(got, [1, 0, 0, 0, 0], "{summary}");
    }
    assert_eq!(state(), before);
    assert_eq!(world.import(&GitRepo::at(world.path("src.git")), "app")["change"], serde_json::Value::Null);
}

/// What bringing one more commit over costs, in calls and bytes, once there are `refs` refs and `commits`
/// commits.
async fn cost_of_a_commit(refs: usize, commits: usize) -> [Snapshot; 2] {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    repo.pack_many_refs("refs/heads/x/", refs, &repo.git(&["rev-parse", "main"]));
    for n in 0..commits {
        repo.commit("main", &format!("dir/{n}"), &"text\n".repeat(1_000));
    }
    world.sync(&repo, "app");
    repo.commit("side", "one", "more\n");
    world.import(&repo, "app");
    let metered = Metered::open(&world);
    let summary = metered.link.pass(&["app".into()], 1).await.unwrap();
    assert_eq!((summary.delivered, summary.changes), (1, 1));
    metered.counts()
}

#[tokio::test]
async fn a_change_costs_what_the_change_is_not_what_the_repository_is() {
    let small = cost_of_a_commit(0, 0).await;
    let large = cost_of_a_commit(20_000, 60).await;
    for (small, large) in small.iter().zip(&large) {
        for operation in Operation::ALL {
            let (a, b) = (small.of(operation), large.of(operation));
            assert_eq!(a.calls, b.calls, "{operation:?}\n{small}\n{large}");
            // Numbers in heads and manifests have more digits; nothing else may differ.
            for (a, b) in [(a.read, b.read), (a.written, b.written)] {
                assert!(b <= a + 2_048, "{operation:?}: {a} and {b} bytes");
            }
        }
    }
}
