//! Regions whose packs are in S3: how many requests a change costs, and that copies pass nobody.

use std::path::Path;
use std::sync::Arc;

use gitferry_base::clock::SystemClock;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_engine::region::cache::CacheOptions;
use gitferry_engine::region::import::ImportOptions;
use gitferry_git::local::RefPatterns;
use gitferry_store::objects::{ObjectStore, Upload};
use gitferry_store::table::SqliteTable;
use gitferry_test_support::faults::{Faults, Operation, When};
use gitferry_test_support::objects::FaultyStore;

use crate::aws_objects::wire::{Answer, Wire, bucket};
use gitferry_test_support::faulty::{assert_equal, assert_sound, link, staging_rows};
use gitferry_test_support::git::{GitRepo, noise};

/// A region with its packs in a bucket of its own.
struct Site {
    wire: Wire,
    region: Region,
}

async fn site(dir: &Path, name: &str) -> Site {
    let wire = Wire::default();
    let objects: Arc<dyn ObjectStore> = Arc::new(wire.store(bucket().await).await);
    let table = Arc::new(SqliteTable::open(dir.join(format!("{name}.db")), name).unwrap());
    let cache = CacheOptions { dir: dir.join(format!("{name}-cache")), max_bytes: 1 << 30 };
    Site { wire, region: Region::new(name, objects, table, SystemClock::shared()).with_cache(cache) }
}

pub async fn import(region: &Region, source: &GitRepo) {
    let patterns = RefPatterns::default();
    let options = ImportOptions { patterns, allow_empty: false, actor: "me".into() };
    region.importer().import(&source.path, "repo", &options, Default::default()).await.unwrap();
}

async fn replicate(from: &Site, to: &Site) {
    let id = from.region.repositories().get("repo").await.unwrap().id;
    link(from.region.clone(), to.region.clone()).deliver(id).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_change_is_two_puts_and_two_copies() {
    let dir = tempfile::tempdir().unwrap();
    let (us, eu) = (site(dir.path(), "us").await, site(dir.path(), "eu").await);
    let source = GitRepo::init(dir.path().join("source.git"), &[]);
    for round in 0..3 {
        source.commit("main", "file", &format!("round {round}"));
        us.wire.reset();
        import(&us.region, &source).await;
        assert_eq!(us.wire.count("PutObject"), 2, "{:?}", us.wire.counts());
        // What the region reads of older packs is in the cache after the first time.
        let writes = ["CopyObject", "CreateMultipartUpload", "UploadPart", "DeleteObject"];
        assert_eq!(writes.map(|operation| us.wire.count(operation)), [0; 4]);
        us.wire.reset();
        eu.wire.reset();
        replicate(&us, &eu).await;
        assert_eq!(us.wire.counts(), Default::default(), "nothing is asked of the source's bucket");
        // The emulator's answer to a copy tells no checksum, so it is looked up; S3's does.
        assert_eq!(eu.wire.counts(), [("CopyObject", 2), ("HeadObject", 2)].into());
    }
    assert_equal(&us.region, &eu.region).await;
    assert_sound(&eu.region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_allowed_is_carried() {
    let dir = tempfile::tempdir().unwrap();
    let (us, eu) = (site(dir.path(), "us").await, site(dir.path(), "eu").await);
    let source = GitRepo::init(dir.path().join("source.git"), &[]);
    eu.wire.answer(Answer::error("CopyObject", 403, "AccessDenied"));
    for round in 0..3 {
        source.commit("main", "file", &format!("round {round}"));
        import(&us.region, &source).await;
        us.wire.reset();
        replicate(&us, &eu).await;
        assert_eq!(us.wire.counts(), [("GetObject", 2)].into());
    }
    assert_eq!(eu.wire.count("PutObject"), 6);
    assert!(eu.wire.count("CopyObject") <= 2, "it is not asked for again and again");
    assert_equal(&us.region, &eu.region).await;
    assert_sound(&eu.region).await;
}

/// Of the large pack.
const PARTS: u64 = 5;

/// How many parts the one upload in progress has.
async fn held_parts(region: &Region, id: RepositoryId) -> u64 {
    let rows = staging_rows(region, id).await;
    let row = &rows[0].document;
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let upload = Upload { key: text("key"), token: text("pack_upload") };
    region.objects().parts(&upload).await.unwrap().len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_transfer_goes_on_with_the_parts_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (objects, table) = (dir.path().join("objects"), dir.path().join("table.db"));
    let us = Region::open_embedded("us", &objects, &table).unwrap();
    let eu = site(dir.path(), "eu").await;
    let source = GitRepo::init(dir.path().join("source.git"), &[]);
    source.commit_bytes("main", "large", &noise(1, 36 << 20));
    import(&us, &source).await;
    let id = us.repositories().get("repo").await.unwrap().id;
    let faults = Arc::new(Faults::none());
    let objects = Arc::new(FaultyStore::new(eu.region.shared_objects().clone(), faults.clone()));
    let dying = eu.region.with_objects(objects);
    faults.fail_nth(Operation::ObjectPutPart, PARTS, When::Before);
    link(us.clone(), dying).deliver(id).await.unwrap_err();
    assert_eq!(faults.injected(), 1);
    let held = held_parts(&eu.region, id).await;
    assert!((1..PARTS).contains(&held), "{held} of {PARTS} parts had arrived");
    eu.wire.reset();
    link(us.clone(), eu.region.clone()).deliver(id).await.unwrap().unwrap();
    // What was on its way when the transfer died may arrive after it was counted.
    let sent = eu.wire.count("UploadPart") as u64;
    assert!((1..=PARTS - held).contains(&sent), "{sent} parts were sent, {held} of {PARTS} were there");
    assert_eq!(eu.wire.count("CreateMultipartUpload"), 0, "the upload is the one that was begun");
    assert_equal(&us, &eu.region).await;
    assert_sound(&eu.region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_read_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let us = site(dir.path(), "us").await;
    let source = GitRepo::with_history(dir.path().join("source.git"), &[]);
    import(&us.region, &source).await;
    us.wire.reset();
    us.region.exporter().export("repo", &dir.path().join("first.git")).await.unwrap();
    let packs =
        us.region.reader().manifest(&us.region.repositories().get("repo").await.unwrap()).await.unwrap().0.packs.len();
    assert_eq!(us.wire.count("GetObject"), 2 * packs);
    us.wire.reset();
    us.region.exporter().export("repo", &dir.path().join("second.git")).await.unwrap();
    assert_eq!(us.wire.counts(), Default::default());
    let export = GitRepo::at(dir.path().join("second.git"));
    assert_eq!((export.refs(), export.reachable()), (source.refs(), source.reachable()));
    assert_eq!(export.fsck(), source.fsck());
}
