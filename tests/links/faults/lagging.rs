//! A target that lags behind a consolidation at its source copies what it missed, and not what that was merged with.

use std::sync::Arc;

use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_engine::region::consolidate::CONSOLIDATE_ABOVE;
use gitferry_engine::region::import::ImportOptions;
use gitferry_git::local::RefPatterns;
use gitferry_replication::link::Delivered;
use gitferry_store::table::{Condition, Query, Write};
use gitferry_test_support::faults::{Meter, Operation};
use gitferry_test_support::objects::MeteredStore;

use gitferry_test_support::faulty::{Sites, assert_equal, assert_sound, link};
use gitferry_test_support::git::{GitRepo, noise};

/// The size of the one new file of each commit.
const SIZE: usize = 40_000;
/// Commits that the target misses.
const MISSED: usize = 8;

/// Two regions and a repository of which the target misses some changes. The source has merged their packs with many
/// others that the target holds as they came.
struct Place {
    sites: Sites,
    repo: GitRepo,
    id: RepositoryId,
    /// Bytes of the packs, with indexes, of the changes that the target misses.
    delta: u64,
}

impl Place {
    async fn new() -> Place {
        let sites = Sites::new(&["us", "eu"]);
        let (us, eu) = (sites.region("us"), sites.region("eu"));
        let repo = GitRepo::init(sites.path("src.git"), &[]);
        // In step right up to the point where the source consolidates.
        for number in 0..=CONSOLIDATE_ABOVE - MISSED {
            import(&us, &repo, number).await;
        }
        let id = us.repositories().get("app").await.unwrap().id;
        link(us.clone(), eu.clone()).deliver(id).await.unwrap().unwrap();
        let seen = us.repositories().get("app").await.unwrap().head.frontier.seq;
        for number in 0..MISSED {
            import(&us, &repo, 1_000 + number).await;
        }
        let item = us.repositories().get("app").await.unwrap();
        let live = us.reader().manifest(&item).await.unwrap().0.packs.len();
        assert!(live < CONSOLIDATE_ABOVE / 2, "nothing was consolidated: {live} packs");
        let missed = us.reader().changes_above(&item, seen).await.unwrap();
        assert_eq!(missed.len(), MISSED);
        let delta = missed.iter().map(|row| row.facts.pack_bytes).sum();
        Place { sites, repo, id, delta }
    }

    /// The same place once more, apart from this one.
    fn copy(&self) -> Place {
        let sites = self.sites.copy();
        let to = sites.path("src.git");
        self.repo.git(&["clone", "-q", "--mirror", self.repo.path.to_str().unwrap(), to.to_str().unwrap()]);
        Place { sites, repo: GitRepo::at(to), id: self.id, delta: self.delta }
    }

    /// Keys of the packs that the source has replaced and that the target misses.
    async fn replaced(&self) -> Vec<String> {
        let (us, eu) = (self.sites.region("us"), self.sites.region("eu"));
        let held = eu.reader().manifest(&eu.repositories().get("app").await.unwrap()).await.unwrap().0;
        let rows = us
            .table()
            .query(&Query::prefix(keys::repository(self.id), keys::RETIRED_PREFIX))
            .await
            .unwrap()
            .whole()
            .unwrap();
        let names = rows.into_iter().map(|row| row.key.sk.strip_prefix(keys::RETIRED_PREFIX).unwrap().to_owned());
        let held: Vec<String> = held.packs.iter().map(|pack| format!("/pack-{}-", pack.id)).collect();
        names.filter(|key| held.iter().all(|id| !key.contains(id))).collect()
    }

    /// Delivers; what that was, and the bytes that were read from the source's object store.
    async fn deliver(&self) -> (Delivered, u64) {
        let meter = Arc::new(Meter::new());
        let us = self.sites.region("us");
        let us = us.with_objects(Arc::new(MeteredStore::new(us.shared_objects().clone(), meter.clone())));
        let delivered = link(us, self.sites.region("eu")).deliver(self.id).await.unwrap().unwrap();
        (delivered, meter.snapshot().of(Operation::ObjectGet).read)
    }

    async fn assert_done(&self) {
        let (us, eu) = (self.sites.region("us"), self.sites.region("eu"));
        assert_equal(&us, &eu).await;
        assert_sound(&eu).await;
        let to = self.sites.path("export");
        eu.exporter().export("app", &to).await.unwrap();
        assert_eq!(GitRepo::at(to).reachable(), self.repo.reachable());
        // And from then on what comes is what is copied.
        import(&us, &self.repo, 5_000).await;
        let (delivered, bytes) = self.deliver().await;
        assert!(delivered.packs == 1 && bytes < 2 * SIZE as u64, "{delivered:?}, {bytes} bytes");
    }
}

async fn import(region: &Region, repo: &GitRepo, number: usize) {
    repo.commit_bytes("main", "file", &noise(number as u64 + 1, SIZE));
    let options = ImportOptions { patterns: RefPatterns::default(), allow_empty: false, actor: "me".into() };
    region.importer().import(&repo.path, "app", &options, Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_that_are_copied_are_those_that_were_missed() {
    let place = Place::new().await;
    assert!(place.replaced().await.len() > MISSED / 2, "too few were merged");
    let (delivered, bytes) = place.deliver().await;
    assert_eq!((delivered.packs, delivered.bytes, bytes), (MISSED as u64, place.delta, place.delta));
    place.assert_done().await;
}

/// Whatever becomes of a replaced pack, live ones hold its objects.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_replaced_pack_live_ones_are_copied() {
    let whole = Place::new().await;
    for trouble in ["no row", "no pack", "no index", "damaged"] {
        let place = whole.copy();
        let us = place.sites.region("us");
        let key = place.replaced().await.pop().unwrap();
        match trouble {
            // A sweep is done with it.
            "no row" => {
                let write = Write::delete(keys::retired(place.id, &key), Condition::Present);
                us.table().transact(vec![write]).await.unwrap();
            }
            // A sweep is in the middle of it.
            "no pack" => us.objects().delete(&key).await.unwrap(),
            "no index" => us.objects().delete(&keys::index_of(&key)).await.unwrap(),
            _ => {
                let path = us.objects().local_path(&key).unwrap();
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[100] ^= 1;
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let (_, bytes) = place.deliver().await;
        assert!(bytes > 3 * place.delta, "{trouble}: {bytes} bytes for {}", place.delta);
        place.assert_done().await;
    }
}
