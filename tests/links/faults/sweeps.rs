//! Sweeps against commits: clocks that are ahead, processes that sleep between upload and commit, two at once.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use gitferry_base::Kind;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_engine::ledger::keys;
use gitferry_engine::region::push::{FreshStates, PushPolicy, PushProgress, Serving};
use gitferry_engine::region::sweep::Swept;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::protocol::PacketReader;
use gitferry_git::receive_pack::PushRequest;
use gitferry_store::table::{Condition, Key, Query, Table, TableError, Write};
use gitferry_test_support::faults::{Meter, Operation};
use gitferry_test_support::objects::MeteredStore;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::faults::histories::deliver_all;
use crate::faults::pool::Source;
use gitferry_test_support::faulty::{Intercepted, Sites, assert_equal, assert_sound, is_commit, link, refs_of};
use gitferry_test_support::git::GitRepo;

/// More than the recovery window.
const LONG: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// What brings packs into a region.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Import,
    Push,
    Replicate,
}

const WORKS: [Work; 3] = [Work::Import, Work::Push, Work::Replicate];

/// Two regions, of which the first has a state more than the second, and a source that has one more.
struct Place {
    sites: Sites,
    source: Source,
}

impl Place {
    async fn new() -> Place {
        let sites = Sites::new(&["us", "eu"]);
        let (us, eu) = (sites.region("us"), sites.region("eu"));
        let mut source = Source::ahead(&sites, "us").await;
        assert!(deliver_all(&link(us.clone(), eu)).await);
        source.import(&us, "app").await.unwrap();
        source.advance(6, 11);
        Place { sites, source }
    }

    /// The region that the work writes.
    fn target(&self, work: Work) -> Region {
        self.sites.region(if work == Work::Replicate { "eu" } else { "us" })
    }

    /// Does the work in a region whose table is `table`.
    async fn run(&self, work: Work, table: Arc<dyn Table>) -> Result<(), RegionError> {
        self.run_in(work, self.target(work).with_table(table)).await
    }

    async fn run_in(&self, work: Work, region: Region) -> Result<(), RegionError> {
        match work {
            Work::Import => self.source.import(&region, "app").await.map(drop),
            Work::Push => self.push(region).await,
            Work::Replicate => {
                let link = link(self.sites.region("us"), region);
                let id = link.source.repositories().get("app").await.unwrap().id;
                match link.deliver(id).await {
                    Ok(_) => Ok(()),
                    Err(gitferry_replication::error::ReplicationError::Region { error, .. }) => Err(error),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    async fn push(&self, region: Region) -> Result<(), RegionError> {
        let item = region.repositories().get("app").await.unwrap();
        let old = refs_of(&region, &item).await["refs/heads/main"].clone();
        let new = self.source.refs["refs/heads/main"].clone();
        let repo = GitRepo::at(self.source.path.clone());
        let pack = repo.feed(&["pack-objects", "-q", "--stdout", "--revs"], format!("{new}\n^{old}\n").as_bytes());
        let command = format!("{old} {new} refs/heads/main\0report-status");
        let head = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
        let runtime = tokio::runtime::Handle::current();
        let push = move || {
            let request = PushRequest::read(&mut PacketReader::new(&head[..]), gix::hash::Kind::Sha1);
            let request = request.unwrap().unwrap();
            let policy = PushPolicy::default();
            let states = FreshStates { region: region.clone(), id: item.id, hidden: None, mirror: false };
            let serving =
                Serving { region: &region, runtime: &runtime, policy: &policy, actor: "tester", request: &request };
            let pushed = serving.push(&states, &mut &pack[..], &PushProgress::default())?;
            // What comes second where the first has been done already is told so.
            let told = &pushed.report.refs[0].result;
            assert!(told.is_ok() || told.as_ref().is_err_and(|reason| reason == "fetch first"), "{told:?}");
            Ok(())
        };
        tokio::task::spawn_blocking(push).await.unwrap()
    }

    /// Everything is sound, the work can be done again, and then it is done.
    async fn assert_done_in_the_end(&self, work: Work) {
        let target = self.target(work);
        assert_sound(&target).await;
        self.run(work, target.shared_table().clone()).await.unwrap();
        assert_sound(&target).await;
        match work {
            Work::Replicate => assert_equal(&self.sites.region("us"), &target).await,
            _ => {
                let item = target.repositories().get("app").await.unwrap();
                assert_eq!(refs_of(&target, &item).await, self.source.expected());
            }
        }
    }

    /// Commits right before the claim of a sweep.
    async fn commit_during_a_sweep(
        &self,
        sweeper: Region,
        table: Arc<dyn Table>,
        writes: Vec<Write>,
    ) -> Result<(), TableError> {
        self.age_objects(&sweeper);
        let outcome = Arc::new(Mutex::new(None));
        let told = outcome.clone();
        let is_claim = |write: &Write| write.key.pk.starts_with("claims/");
        let sweeper = sweeper.with_table(Intercepted::before(&table.clone(), is_claim, async move {
            let result = table.transact(writes).await;
            *told.lock().unwrap() = Some(result);
        }));
        let swept = sweeper.sweeper().sweep().await.unwrap();
        assert_eq!(swept.orphans, 0);
        let outcome = outcome.lock().unwrap().take();
        outcome.expect("the sweep has claimed nothing")
    }

    /// Makes all objects of a region older, as its store sees it.
    fn age_objects(&self, region: &Region) {
        older(&self.sites.path(region.name()).join("objects/repositories"));
    }
}

fn older(path: &Path) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            older(&path);
            continue;
        }
        let file = std::fs::File::open(&path).unwrap();
        let before: SystemTime = file.metadata().unwrap().modified().unwrap() - LONG;
        file.set_modified(before).unwrap();
    }
}

/// Makes claims and notes of sweeps older.
async fn age_rows(region: &Region) {
    let mut partitions: Vec<String> = (0..keys::SHARDS).map(keys::claims_partition).collect();
    partitions.extend(region.repositories().list().await.unwrap().into_iter().map(keys::repository));
    let earlier = |time: &serde_json::Value| {
        let time: Timestamp = time.as_str().unwrap().parse().unwrap();
        json!(time.checked_sub(SignedDuration::try_from(LONG).unwrap()).unwrap())
    };
    for partition in partitions {
        for mut item in region.table().query(&Query::prefix(partition, "")).await.unwrap().whole().unwrap() {
            if let Some(seen) = item.document.get_mut("seen") {
                *seen = earlier(seen);
            } else if let Some(claimed) = item.document.get_mut("claimed").and_then(|claimed| claimed.as_object_mut()) {
                claimed.values_mut().for_each(|time| *time = earlier(time));
            } else {
                continue;
            }
            let write = Write::put(item.key, Condition::Revision(item.revision), item.document);
            region.table().transact(vec![write]).await.unwrap();
        }
    }
}

#[derive(Debug)]
struct Ahead(SignedDuration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().checked_add(self.0).unwrap()
    }

    fn new_id(&self) -> uuid::Uuid {
        SystemClock.new_id()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweeper_whose_clock_is_ahead_takes_nothing() {
    for work in WORKS {
        let place = Place::new().await;
        let sweeper = place.target(work).with_clock(Arc::new(Ahead(SignedDuration::from_hours(1_000 * 24))));
        let table = Intercepted::before(place.target(work).shared_table(), is_commit, async move {
            assert_eq!(sweeper.sweeper().sweep().await.unwrap(), Swept::default());
        });
        place.run(work, table).await.unwrap();
        place.assert_done_in_the_end(work).await;
    }
}

/// A process that slept for days between its upload and its commit, while a sweep went over the region.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sweep_has_taken_is_not_committed() {
    for (work, forgotten) in WORKS.into_iter().flat_map(|work| [(work, false), (work, true)]) {
        let place = Arc::new(Place::new().await);
        let region = place.target(work);
        let (during, sweeper) = (place.clone(), region.clone());
        let table = Intercepted::before(region.shared_table(), is_commit, async move {
            during.age_objects(&sweeper);
            let swept = sweeper.sweeper().sweep().await.unwrap();
            assert!(swept.orphans >= 2, "{swept:?}");
            if forgotten {
                // So long that the claim itself has come to its end.
                age_rows(&sweeper).await;
                assert!(sweeper.sweeper().sweep().await.unwrap().claims >= 1);
            }
        });
        match place.run(work, table).await {
            Ok(()) => assert_ne!(work, Work::Push, "the client would have to send it again"),
            Err(error) => {
                assert!(matches!(error, RegionError::UploadGone { .. }), "{work:?}: {error}");
                assert!(error.proves_nothing_happened() && error.kind() == Kind::Transient);
            }
        }
        place.assert_done_in_the_end(work).await;
        // What was there before is old, too, and named.
        place.age_objects(&region);
        assert_eq!(region.sweeper().sweep().await.unwrap().orphans, 0);
        assert_sound(&region).await;
    }
}

/// A sweep that takes other packs while the work is under way costs it a look at the claims: nothing is uploaded again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_on_other_packs_repeat_no_upload() {
    for work in WORKS {
        let mut uploads = Vec::new();
        for disturbed in [false, true] {
            let place = Place::new().await;
            let (mut region, meter) = (place.target(work), Arc::new(Meter::new()));
            region = region.with_objects(Arc::new(MeteredStore::new(region.shared_objects().clone(), meter.clone())));
            if disturbed {
                let (id, table) = (region.repositories().get("app").await.unwrap().id, region.shared_table().clone());
                region = region.with_table(Intercepted::before(region.shared_table(), is_commit, async move {
                    let claims = json!({ "format": 1, "claimed": { "pack-0.pack": SystemClock.now() } });
                    let write = Write::put(keys::claims(id), Condition::Absent, claims);
                    table.transact(vec![write]).await.unwrap();
                }));
            }
            place.run_in(work, region).await.unwrap();
            let counted = meter.snapshot();
            uploads.push(counted.of(Operation::ObjectPut).calls + counted.of(Operation::ObjectPutFile).calls);
            place.assert_done_in_the_end(work).await;
        }
        assert!(uploads[0] > 0 && uploads[0] == uploads[1], "{work:?}: {uploads:?}");
    }
}

/// The commit comes after the sweep has read what is named, and before its claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_before_the_claim_stays() {
    for work in WORKS {
        let place = Arc::new(Place::new().await);
        let region = place.target(work);
        let (during, table) = (place.clone(), region.shared_table().clone());
        let inner = table.clone();
        let table = Intercepted::new(&table, is_commit, move |writes| {
            Box::pin(async move { during.commit_during_a_sweep(region, inner, writes).await })
        });
        place.run(work, table).await.unwrap();
        place.assert_done_in_the_end(work).await;
    }
}

/// Claims come to an end; their row stays with its repository, so that its revision never starts again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_end_and_orphans_of_nothing_leave_no_row() {
    let place = Place::new().await;
    let us = place.sites.region("us");
    let id = us.repositories().get("app").await.unwrap().id;
    let strange = gitferry_engine::ledger::head::RepositoryId(us.clock().new_id());
    let pack = gix::ObjectId::null(gix::hash::Kind::Sha1);
    for id in [id, strange] {
        let key = keys::pack(id, pack, &us.clock().new_id().simple().to_string());
        us.objects().put(&key, "pack".into()).await.unwrap();
        us.objects().put(&keys::index_of(&key), "index".into()).await.unwrap();
    }
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept::default());
    place.age_objects(&us);
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept { orphans: 4, ..Swept::default() });
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept::default());
    let revision = us.table().get(&keys::claims(id)).await.unwrap().unwrap().revision;
    age_rows(&us).await;
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept { claims: 2, ..Swept::default() });
    let row = us.table().get(&keys::claims(id)).await.unwrap().unwrap();
    assert!(row.revision > revision && row.document["claimed"] == json!({}), "{row:?}");
    assert!(us.table().get(&keys::claims(strange)).await.unwrap().is_none());
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept::default());
    assert_sound(&us).await;
}

/// Rows are old when a sweep has seen them long ago by the store's time, whatever the clocks of those say who wrote them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_packs_and_uploads_stay_for_the_recovery_window() {
    let place = Place::new().await;
    let mut us = place.sites.region("us");
    let item = us.repositories().get("app").await.unwrap();
    let named = us.reader().manifest(&item).await.unwrap().0.packs[0].key.clone();
    let replaced =
        keys::pack(item.id, gix::ObjectId::null(gix::hash::Kind::Sha1), &us.clock().new_id().simple().to_string());
    us.objects().put(&replaced, "pack".into()).await.unwrap();
    let row = |key: Key| Write::put(key, Condition::Absent, json!({ "key": "k", "until": "2020-01-01T00:00:00Z" }));
    let rows = [
        keys::retired(item.id, &replaced),
        // As a table names it that was restored to a moment before it was replaced.
        keys::retired(item.id, &named),
        keys::staging(item.id, "lfs-0"),
    ];
    us.table().transact(rows.iter().cloned().map(row).collect()).await.unwrap();
    place.age_objects(&us);
    for hours in [0, 1_000 * 24, -1_000 * 24] {
        us = us.with_clock(Arc::new(Ahead(SignedDuration::from_hours(hours))));
        assert_eq!(us.sweeper().sweep().await.unwrap(), Swept::default());
    }
    age_rows(&us).await;
    us = us.with_recovery_window(SignedDuration::from_hours(35 * 24));
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept::default());
    us = us.with_recovery_window(gitferry_config::RECOVERY_WINDOW);
    assert_eq!(us.sweeper().sweep().await.unwrap(), Swept { retired: 1, staging: 1, ..Swept::default() });
    assert!(us.objects().head(&replaced).await.unwrap().is_none());
    for row in rows {
        assert!(us.table().get(&row).await.unwrap().is_none(), "{row}");
    }
    assert_sound(&us).await;
}
