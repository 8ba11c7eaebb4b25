//! The local cache of packs, before a store that hides that its objects are files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gitferry_base::Kind;
use gitferry_engine::region::cache::CacheOptions;
use gitferry_engine::region::import::ImportOptions;
use gitferry_engine::region::manifest::LivePack;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::local::RefPatterns;
use gitferry_test_support::faults::{Meter, Operation};
use gitferry_test_support::objects::{MeteredStore, Remote, RemoteStore};

use gitferry_test_support::git::GitRepo;

/// A region, its store "elsewhere", with a cache of its own.
struct Place {
    dir: tempfile::TempDir,
    meter: Arc<Meter>,
    region: Region,
}

const PLENTY: u64 = 1 << 30;

impl Place {
    /// With a repository `repo` of several packs.
    async fn new() -> (Place, Vec<LivePack>) {
        let dir = tempfile::tempdir().unwrap();
        let region = Region::open_embedded("us", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
        let source = GitRepo::init(dir.path().join("source.git"), &[]);
        for round in 0..4 {
            source.commit_bytes("main", "file", &gitferry_test_support::git::noise(round, 10_000));
            let options = ImportOptions { patterns: RefPatterns::default(), allow_empty: false, actor: "me".into() };
            region.importer().import(&source.path, "repo", &options, Default::default()).await.unwrap();
        }
        let (manifest, _) = region.reader().manifest(&region.repositories().get("repo").await.unwrap()).await.unwrap();
        assert_eq!(manifest.packs.len(), 4);
        let meter = Arc::new(Meter::new());
        let place = Place { dir, meter, region };
        (place, manifest.packs)
    }

    /// The region as a process sees it that has just started.
    fn process(&self, max_bytes: u64) -> Region {
        let far = Arc::new(RemoteStore::new(self.region.shared_objects().clone(), Remote));
        let region = self.region.with_objects(Arc::new(MeteredStore::new(far, self.meter.clone())));
        region.with_cache(CacheOptions { dir: self.cache(), max_bytes })
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Reads from the store so far.
    fn reads(&self) -> u64 {
        self.meter.snapshot().of(Operation::ObjectGet).calls
    }

    /// What the store has.
    fn stored(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.region.objects().local_path(key).unwrap()).unwrap()
    }

    fn cached(&self, pack: &LivePack) -> PathBuf {
        self.cache().join(&pack.key)
    }
}

fn size(pack: &LivePack) -> u64 {
    pack.bytes + pack.index_bytes
}

fn assert_same(place: &Place, files: &gitferry_engine::region::local::LocalPacks) {
    for local in &files.packs {
        assert_eq!(std::fs::read(&local.pack).unwrap(), place.stored(&local.live.key));
        let index_key = gitferry_engine::ledger::keys::index_of(&local.live.key);
        assert_eq!(std::fs::read(&local.index).unwrap(), place.stored(&index_key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_fetched_once_for_all_readers_and_later_processes() {
    let (place, packs) = Place::new().await;
    let region = place.process(PLENTY);
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let (region, packs) = (region.clone(), packs.clone());
            tokio::spawn(async move { region.packs().local(&packs).await.unwrap() })
        })
        .collect();
    for reader in readers {
        assert_same(&place, &reader.await.unwrap());
    }
    assert_eq!(place.reads(), 8, "four packs and their indexes");
    assert_eq!(region.cache().bytes(), packs.iter().map(size).sum::<u64>());
    drop(region);
    let region = place.process(PLENTY);
    assert_same(&place, &region.packs().local(&packs).await.unwrap());
    assert_eq!((place.reads(), region.cache().bytes()), (8, packs.iter().map(size).sum()));
    assert!(std::fs::read_dir(place.cache().join(".temporary")).unwrap().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_gone_is_fetched_again() {
    let (place, packs) = Place::new().await;
    drop(place.process(PLENTY).packs().local(&packs).await.unwrap());
    let mut bytes = place.stored(&packs[0].key);
    bytes[100] ^= 1;
    std::fs::write(place.cached(&packs[0]), &bytes).unwrap();
    std::fs::write(place.cached(&packs[1]), b"short").unwrap();
    std::fs::remove_file(place.cached(&packs[2])).unwrap();
    let region = place.process(PLENTY);
    assert_same(&place, &region.packs().local(&packs).await.unwrap());
    assert_eq!(place.reads(), 8 + 6);
    // In the middle of everything, somebody clears the folder.
    std::fs::remove_dir_all(place.cache().join("repositories")).unwrap();
    assert_same(&place, &region.packs().local(&packs).await.unwrap());
    assert_eq!(place.reads(), 8 + 6 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_go_first_and_never_what_is_in_use() {
    let (place, packs) = Place::new().await;
    let max: u64 = packs[..2].iter().map(size).sum::<u64>() + 100;
    let region = place.process(max);
    let there = || packs.iter().map(|pack| place.cached(pack).exists()).collect::<Vec<_>>();
    for pack in &packs[..2] {
        region.packs().local(std::slice::from_ref(pack)).await.unwrap();
    }
    region.packs().local(&packs[..1]).await.unwrap();
    region.packs().local(&packs[2..3]).await.unwrap();
    assert!(there()[0] && !there()[1] && there()[2], "the second was used least recently: {:?}", there());
    assert!(region.cache().bytes() <= max);
    // All at once need more than there may be; nobody loses what is being read.
    let all = region.packs().local(&packs).await.unwrap();
    assert_eq!(there(), [true; 4]);
    assert!(region.cache().is_full());
    assert_same(&place, &all);
    drop(all);
    region.packs().local(&packs[3..]).await.unwrap();
    assert!(!region.cache().is_full(), "{} bytes", region.cache().bytes());
    // A later process goes on in the same order.
    drop(region);
    let smaller = place.process(size(&packs[3]));
    smaller.packs().local(&packs[3..]).await.unwrap();
    assert_eq!(there(), [false, false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_works_apart_and_leaves_nothing() {
    let (place, packs) = Place::new().await;
    let (first, second) = (place.process(PLENTY), place.process(PLENTY));
    let held = first.packs().local(&packs).await.unwrap();
    let apart = second.packs().local(&packs).await.unwrap();
    assert_same(&place, &apart);
    assert!(apart.packs.iter().zip(&held.packs).all(|(a, b)| a.pack != b.pack));
    assert_eq!(place.reads(), 16);
    drop((apart, second));
    assert!(std::fs::read_dir(place.cache().join(".private")).unwrap().next().is_none());
    assert_same(&place, &held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_pack_sends_the_reader_back_to_the_manifest() {
    let (place, packs) = Place::new().await;
    let region = place.process(PLENTY);
    place.region.objects().delete(&packs[1].key).await.unwrap();
    // Still in the manifest: damage, not a race.
    let error = region.packs().local(&packs).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Missing, "{error}");
    assert!(error.to_string().contains(&packs[1].key), "{error}");
    let mut retired = packs[1].clone();
    retired.key = retired.key.replace("pack-", "pack-0");
    let error = region.packs().local(&[retired]).await.unwrap_err();
    assert!(matches!(error, RegionError::Moved { .. }), "{error}");
    // The others came all the same, or not at all; nothing stays that is not right.
    assert!(!place.cached(&packs[1]).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_damaged_is_refused_and_not_kept() {
    let (place, packs) = Place::new().await;
    let path = place.region.objects().local_path(&packs[0].key).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let region = place.process(PLENTY);
    let error = region.packs().local(&packs[..1]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(!place.cached(&packs[0]).exists());
    assert_eq!(region.cache().bytes(), 0);
    // A deep verification finds it past the cache, which knows better from before.
    let item = region.repositories().get("repo").await.unwrap();
    let verified = region.verifier().verify(&item, true, Default::default()).await.unwrap();
    assert!(verified.findings.iter().any(|finding| finding.contains(&packs[0].id.to_string())), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let (place, packs) = Place::new().await;
    std::fs::create_dir(place.cache()).unwrap();
    std::fs::set_permissions(place.cache(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = place.process(PLENTY).packs().local(&packs).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Environment, "{error}");
    assert!(error.to_string().contains(&place.cache().display().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_reads_packs_reads_through_the_cache() {
    let (place, packs) = Place::new().await;
    let region = place.process(PLENTY);
    let to = place.dir.path().join("export.git");
    region.exporter().export("repo", &to).await.unwrap();
    let (export, source) = (GitRepo::at(&to), GitRepo::at(place.dir.path().join("source.git")));
    assert_eq!((export.refs(), export.reachable()), (source.refs(), source.reachable()));
    assert_eq!(place.reads(), 2 * packs.len() as u64);
    source.commit("main", "file", "more");
    let options = ImportOptions { patterns: RefPatterns::default(), allow_empty: false, actor: "me".into() };
    region.importer().import(Path::new(&source.path), "repo", &options, Default::default()).await.unwrap();
    assert_eq!(place.reads(), 2 * packs.len() as u64, "an import needs only what is held already");
}
