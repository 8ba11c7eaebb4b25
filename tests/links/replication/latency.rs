//! How often a delivery waits for a region that is far away.
//!
//! Every call of the far store takes [`ROUND_TRIP`] of a clock that stands still otherwise: what has passed on
//! it are the round trips that had to wait for each other.

use std::sync::Arc;
use std::time::Duration;

use gitferry_engine::region::Region;
use gitferry_replication::link::Link;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_test_support::objects::DelayedStore;
use gitferry_test_support::table::DelayedTable;
use globset::{Glob, GlobSet};

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

const ROUND_TRIP: Duration = Duration::from_millis(80);

#[derive(Clone, Copy, PartialEq)]
enum Far {
    Source,
    Target,
}

fn link(world: &World, far: Far) -> Link {
    let region = |name: &str, delayed: bool| {
        let folder = world.path(name);
        let region = Region::open_embedded(name, &folder.join("objects"), &folder.join("table.db")).unwrap();
        match delayed {
            false => region,
            true => region
                .with_objects(Arc::new(DelayedStore::new(region.shared_objects().clone(), ROUND_TRIP)))
                .with_table(Arc::new(DelayedTable::new(region.shared_table().clone(), ROUND_TRIP))),
        }
    };
    Link {
        name: LINK.into(),
        source: region(SOURCE, far == Far::Source),
        target: region(TARGET, far == Far::Target),
        repositories: GlobSet::builder().add(Glob::new("*").unwrap()).build().unwrap().into(),
        mode: Default::default(),
        active_links: vec![LINK.to_owned()].into(),
        account_links: Arc::new([]),
        memory: Arc::new(tokio::sync::Semaphore::new(PARTS_IN_MEMORY)),
        progress: Default::default(),
    }
}

/// Delivers one new commit, and the deletion of a branch after it; the round trips of each.
fn round_trips(far: Far) -> (u32, u32) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("app.git"), &[]);
    world.sync(&repo, "app");
    repo.commit("main", "one", "one more\n");
    world.import(&repo, "app");
    let with_pack = deliver(&world, far);
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    world.import(&repo, "app");
    let without = deliver(&world, far);
    world.assert_synced(&repo, "app");
    (with_pack, without)
}

fn deliver(world: &World, far: Far) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let link = link(world, far);
        // Reads nothing of the far region: it has to be known which repository it is.
        let id = match far {
            Far::Source => link.target.repositories().get("app").await.unwrap().id,
            Far::Target => link.source.repositories().get("app").await.unwrap().id,
        };
        let start = tokio::time::Instant::now();
        let delivered = link.deliver(id).await.unwrap().expect("there was something to deliver");
        assert_eq!(delivered.changes, 1);
        let passed = start.elapsed().as_millis() / ROUND_TRIP.as_millis();
        u32::try_from(passed).unwrap()
    })
}

#[test]
fn one_commit_is_three_round_trips_to_the_source() {
    let (with_pack, without) = round_trips(Far::Source);
    assert!(with_pack <= 3, "heads; changes and manifest; pack and index: {with_pack}");
    assert!(without <= 2, "heads; changes and manifest: {without}");
}

#[test]
fn one_commit_is_few_round_trips_to_the_target() {
    let (with_pack, without) = round_trips(Far::Target);
    assert!(
        with_pack <= 6,
        "head; manifest; direct copy, not possible here; pack and index; commit; look back: {with_pack}"
    );
    assert!(without <= 3, "head; manifest; commit: {without}");
}
