//! Consolidation of a repository whose packs are in S3: a merged pack that goes up in parts while S3 is throttled, loses
//! answers, or is slow, and with two processes at work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gitferry_base::clock::SystemClock;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_engine::region::cache::CacheOptions;
use gitferry_engine::region::consolidate::CONSOLIDATE_ABOVE;
use gitferry_store::objects::{PART_BYTES, S3Options, S3Store};
use gitferry_store::table::{Condition, SqliteTable, Write};
use serde_json::json;

use crate::aws_objects::regions::import;
use crate::aws_objects::wire::bucket;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::faulty::{assert_sound, refs_of};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::proxy::{Fault, Gate, Proxy, s3_refusal};

/// Bytes of each pack: those that are merged make three parts of an upload.
const PACK_BYTES: usize = 220_000;
const PARTS: usize = 3;
/// Packs that become one in a round.
const MERGED: usize = 80;

/// A repository with one pack more than consolidation leaves alone.
struct Place {
    dir: tempfile::TempDir,
    proxy: Proxy,
    options: S3Options,
    region: Region,
    id: RepositoryId,
}

impl Place {
    async fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(Emulator::get().endpoint()).await;
        let options = bucket().await;
        let region = open(&proxy, &options, dir.path(), "one").await;
        let source = GitRepo::init(dir.path().join("source.git"), &[]);
        source.commit("main", "file", "first");
        import(&region, &source).await;
        let id = region.repositories().get("repo").await.unwrap().id;
        // As long as another process seems to consolidate, imports leave it alone.
        lease(&region, id, Some("another")).await;
        for number in 1..=CONSOLIDATE_ABOVE {
            source.commit_bytes("main", "file", &noise(number as u64, PACK_BYTES));
            import(&region, &source).await;
        }
        lease(&region, id, None).await;
        let place = Place { dir, proxy, options, region, id };
        assert_eq!(place.packs().await, CONSOLIDATE_ABOVE + 1);
        place.proxy.requests();
        place
    }

    async fn packs(&self) -> usize {
        let item = self.region.repositories().get("repo").await.unwrap();
        self.region.reader().manifest(&item).await.unwrap().0.packs.len()
    }

    /// Another process at work on the region.
    async fn another(&self) -> Region {
        open(&self.proxy, &self.options, self.dir.path(), "two").await
    }

    /// Keys of all objects in the bucket.
    async fn keys(&self) -> Vec<String> {
        let listed = self.region.objects().list("", None, 1_000).await.unwrap();
        listed.objects.into_iter().map(|object| object.key).collect()
    }

    /// Uploads that were begun and neither completed nor aborted.
    async fn uploads(&self) -> usize {
        let s3 = aws_sdk_s3::Client::from_conf(
            aws_sdk_s3::config::Builder::from(&Emulator::get().sdk_config().await).force_path_style(true).build(),
        );
        let listed = s3.list_multipart_uploads().bucket(&self.options.bucket).send().await.unwrap();
        listed.uploads().len()
    }

    /// The requests to S3 since the last time, by operation.
    fn costs(&self) -> BTreeMap<String, usize> {
        let mut costs = BTreeMap::new();
        for request in self.proxy.requests() {
            *costs.entry(request.operation).or_default() += 1;
        }
        costs
    }
}

async fn open(proxy: &Proxy, options: &S3Options, dir: &Path, process: &str) -> Region {
    let sdk = Emulator::get().sdk_config().await.into_builder().endpoint_url(&proxy.endpoint).build();
    let objects = S3Store::new(&sdk, options.clone(), "us");
    let table = Arc::new(SqliteTable::open(dir.join("us.db"), "us").unwrap());
    let cache = CacheOptions { dir: dir.join(format!("{process}-cache")), max_bytes: 1 << 30 };
    Region::new("us", Arc::new(objects), table, SystemClock::shared()).with_cache(cache)
}

/// Gives the lease of consolidation to a process, or to none.
async fn lease(region: &Region, id: RepositoryId, holder: Option<&str>) {
    let key = keys::consolidation_lease(id);
    let write = match holder {
        Some(holder) => Write::put(key, Condition::Any, json!({ "holder": holder })),
        None => Write::delete(key, Condition::Any),
    };
    region.table().transact(vec![write]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_pack_that_does_not_arrive_leaves_the_old_state_and_nothing_behind() {
    let place = Place::new().await;
    let before = (place.keys().await, place.packs().await);
    let refs = refs_of(&place.region, &place.region.repositories().get("repo").await.unwrap()).await;
    type Plan = (&'static str, Fault);
    let plans: [Plan; 6] = [
        ("CreateMultipartUpload", s3_refusal(503, "SlowDown")),
        ("UploadPart", s3_refusal(503, "SlowDown")),
        ("UploadPart", Fault::LoseAnswer),
        ("CompleteMultipartUpload", s3_refusal(503, "SlowDown")),
        // The index is small and goes beside the pack, which has arrived when the index fails.
        ("PutObject", s3_refusal(503, "SlowDown")),
        ("PutObject", Fault::Lose),
    ];
    for (operation, fault) in plans {
        let told = fault.clone();
        place.proxy.rule(move |request| request.is_s3(operation).then(|| told.clone()));
        let error = place.region.consolidator().consolidate(place.id).await.unwrap_err();
        assert!(error.kind().is_retryable(), "{operation}: {error}");
        place.proxy.relent();
        assert_eq!((place.keys().await, place.packs().await), before, "{operation} {fault:?}");
        assert_eq!(place.uploads().await, 0, "{operation} {fault:?}: an upload with its parts is left");
    }
    // An answer that is lost once costs a look, and two processes do it once.
    place.proxy.requests();
    place.proxy.spoil("UploadPart", Fault::LoseAnswer);
    place.proxy.spoil("CompleteMultipartUpload", Fault::LoseAnswer);
    let another = place.another().await;
    let (one, two) =
        futures::join!(place.region.consolidator().consolidate(place.id), another.consolidator().consolidate(place.id));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.merged.max(two.merged), MERGED as u64, "{one:?} {two:?}");
    assert!(one.merged == 0 || two.merged == 0, "both have done it: {one:?} {two:?}");
    assert_eq!((place.packs().await, place.uploads().await), (CONSOLIDATE_ABOVE + 2 - MERGED, 0));
    assert_eq!(refs_of(&place.region, &place.region.repositories().get("repo").await.unwrap()).await, refs);
    assert_sound(&place.region).await;
}

/// By a process that has none of the packs in its cache, as a worker has.
#[tokio::test(flavor = "multi_thread")]
async fn a_consolidation_reads_each_pack_once_and_costs_one_upload() {
    let place = Place::new().await;
    let another = place.another().await;
    assert_eq!(another.consolidator().consolidate(place.id).await.unwrap().merged, MERGED as u64);
    let costs = place.costs();
    let cost = |operation: &str| costs.get(operation).copied().unwrap_or_default();
    let expected = [
        ("CreateMultipartUpload", 1),
        ("UploadPart", PARTS),
        // The index of the merged pack.
        ("PutObject", 1),
        // Each pack and its index.
        ("GetObject", 2 * MERGED),
    ];
    for (operation, count) in expected {
        assert_eq!(cost(operation), count, "{operation}: {costs:?}");
    }
    // The emulator knows no checksums of the whole, and is asked twice to complete the upload.
    assert!(costs.values().sum::<usize>() <= 2 * MERGED + PARTS + 7, "{costs:?}");
    let item = place.region.repositories().get("repo").await.unwrap();
    let packs = place.region.reader().manifest(&item).await.unwrap().0.packs;
    let largest = packs.iter().map(|pack| pack.bytes).max().unwrap();
    assert_eq!(largest.div_ceil(PART_BYTES), PARTS as u64);
    assert_sound(&place.region).await;
}

/// Another process takes the lease over while the upload is under way: the first one stops, and its upload, which S3
/// completes after all, stops no later consolidation.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_during_the_upload_ends_the_work() {
    let place = Place::new().await;
    let gate = Gate::default();
    let held = gate.clone();
    place.proxy.rule(move |request| request.is_s3("CompleteMultipartUpload").then(|| Fault::Hold(held.clone())));
    let (first, id) = (place.another().await, place.id);
    let work = tokio::spawn(async move { first.consolidator().consolidate(id).await });
    while !place.costs().contains_key("CompleteMultipartUpload") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lease(&place.region, id, Some("another")).await;
    let stopped = work.await.unwrap().unwrap();
    assert_eq!(stopped.merged, 0, "{stopped:?}");
    assert_eq!(place.packs().await, CONSOLIDATE_ABOVE + 1);
    lease(&place.region, id, None).await;
    place.proxy.relent();
    let done = place.region.consolidator().consolidate(id).await.unwrap();
    assert_eq!(done.merged, MERGED as u64);
    let named = place.packs().await;
    gate.open();
    while place.proxy.answered(|request| request.is_s3("CompleteMultipartUpload")) < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(place.packs().await, named);
    assert_sound(&place.region).await;
}
