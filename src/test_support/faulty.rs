//! Regions on the embedded stores, whose calls fail or wait by plan, and whose commits are checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::faults::Faults;
use crate::objects::{DelayedStore, FaultyStore};
use crate::table::{DelayedTable, FaultyTable};
use async_trait::async_trait;
use futures::future::BoxFuture;
use gitferry_config::{CarriedNames, LinkMode};
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::ledger::keys;
use gitferry_engine::ledger::log::{ChangeFacts, read_chain};
use gitferry_engine::region::Region;
use gitferry_engine::region::manifest::Manifest;
use gitferry_replication::link::Link;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_store::objects::ObjectStore;
use gitferry_store::table::{Action, Item, Key, Page, Query, Table, TableError, Write};
use serde::Deserialize;

/// Regions in a temporary folder, which is deleted with this value.
pub struct Sites {
    dir: tempfile::TempDir,
    regions: BTreeMap<String, Region>,
}

impl Sites {
    /// Empty regions of these names.
    pub fn new(names: &[&str]) -> Sites {
        Sites::open(fresh_dir(), names)
    }

    /// Copies all regions with their state into a folder of its own. No task may run in them.
    pub fn copy(&self) -> Sites {
        let dir = fresh_dir();
        let names: Vec<&str> = self.regions.keys().map(String::as_str).collect();
        names.iter().for_each(|name| copy_folder(&self.path(name), &dir.path().join(name)));
        Sites::open(dir, &names)
    }

    fn open(dir: tempfile::TempDir, names: &[&str]) -> Sites {
        let open = |name: &&str| {
            let objects = dir.path().join(name).join("objects");
            let table = dir.path().join(name).join("table.db");
            let region = Region::open_embedded(name, &objects, &table).unwrap();
            let guard = Guard { table: region.shared_table().clone(), objects: region.shared_objects().clone() };
            let region = region.with_table(Arc::new(guard));
            ((*name).to_owned(), region)
        };
        let regions = names.iter().map(open).collect();
        Sites { dir, regions }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A region whose stores work.
    pub fn region(&self, name: &str) -> Region {
        self.regions[name].clone()
    }

    /// A region whose calls fail as `faults` plans.
    pub fn faulty(&self, name: &str, faults: &Arc<Faults>) -> Region {
        faulty(self.region(name), faults)
    }

    /// A region whose calls all take `delay` longer.
    pub fn delayed(&self, name: &str, delay: Duration) -> Region {
        let region = self.region(name);
        let objects = Arc::new(DelayedStore::new(region.shared_objects().clone(), delay));
        let table = Arc::new(DelayedTable::new(region.shared_table().clone(), delay));
        region.with_objects(objects).with_table(table)
    }
}

/// Returns the region with calls that fail as `faults` plans.
pub fn faulty(region: Region, faults: &Arc<Faults>) -> Region {
    let objects = Arc::new(FaultyStore::new(region.shared_objects().clone(), faults.clone()));
    let table = Arc::new(FaultyTable::new(region.shared_table().clone(), faults.clone()));
    region.with_objects(objects).with_table(table)
}

/// In memory where that is possible: nothing has to outlive the test.
fn fresh_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        // SQLite rebuilds the shared memory of open connections from the write-ahead log.
        let is_shared_memory = path.to_string_lossy().ends_with("-shm");
        if path.is_dir() {
            copy_folder(&path, &to);
        } else if !is_shared_memory {
            std::fs::copy(&path, to).unwrap();
        }
    }
}

/// A link between two regions as they are given.
pub fn link(source: Region, target: Region) -> Link {
    Link {
        name: format!("{}-{}", source.name(), target.name()),
        source,
        target,
        repositories: everything(),
        mode: LinkMode::Active,
        active_links: Arc::new([]),
        account_links: Arc::new([]),
        memory: Arc::new(tokio::sync::Semaphore::new(PARTS_IN_MEMORY)),
        progress: Default::default(),
    }
}

/// Matches every repository.
pub fn everything() -> CarriedNames {
    globset::GlobSetBuilder::new().add(globset::Glob::new("*").unwrap()).build().unwrap().into()
}

/// Checks every transaction of a table: at no moment may a row name an object that does not exist.
#[derive(Debug)]
struct Guard {
    table: Arc<dyn Table>,
    objects: Arc<dyn ObjectStore>,
}

impl Guard {
    /// Objects before refs: the packs of a manifest, a large change, the LFS object of a row and the snapshot of a head
    /// exist.
    async fn check(&self, key: &Key, document: &serde_json::Value) {
        if key.sk == "manifest" {
            for pack in Manifest::deserialize(document).unwrap().packs {
                self.check_object(&pack.key, Some(pack.bytes)).await;
                self.check_object(&keys::index_of(&pack.key), Some(pack.index_bytes)).await;
            }
        }
        if let Some(oid) = key.sk.strip_prefix(keys::LFS_PREFIX) {
            let id = key.pk.strip_prefix("repository/").unwrap().parse().unwrap();
            self.check_object(&keys::lfs_object(id, oid.parse().unwrap()), document["size"].as_u64()).await;
        }
        if key.sk.starts_with("change/")
            && let Some(large) = ChangeFacts::deserialize(document).unwrap().object
        {
            self.check_object(&large.key, None).await;
        }
        if key.sk == "head" {
            let id = key.pk.strip_prefix("repository/").unwrap().parse().unwrap();
            let item = read_head(&*self.table, id).await.unwrap().unwrap();
            if let Some(snapshot) = &item.head.snapshot {
                self.check_object(&snapshot.key, Some(snapshot.bytes)).await;
            }
            let origin = gitferry_engine::ledger::head::Frontier::ORIGIN;
            read_chain(&*self.table, id, origin, item.head.frontier).await.unwrap();
        }
    }

    async fn check_object(&self, key: &str, size: Option<u64>) {
        let meta = self.objects.head(key).await.unwrap();
        let found = meta.unwrap_or_else(|| panic!("a row names {key}, which does not exist")).size;
        assert!(size.is_none_or(|size| size == found), "a row names {key} with another size");
    }
}

#[async_trait]
impl Table for Guard {
    fn name(&self) -> &str {
        self.table.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.table.get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.table.query(query).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.table.transact(writes.clone()).await?;
        for write in &writes {
            if let Action::Put { document, .. } = &write.action {
                self.check(&write.key, document).await;
            }
        }
        Ok(())
    }
}

type Act = Box<dyn FnOnce(Vec<Write>) -> BoxFuture<'static, Result<(), TableError>> + Send>;

/// A table whose first transaction with a matching write is run by the test.
pub struct Intercepted {
    inner: Arc<dyn Table>,
    matches: fn(&Write) -> bool,
    act: Mutex<Option<Act>>,
}

impl Intercepted {
    /// Passes the writes of the first transaction with a write that `matches` to `act`, which answers in place of the
    /// table.
    pub fn new(
        inner: &Arc<dyn Table>,
        matches: fn(&Write) -> bool,
        act: impl FnOnce(Vec<Write>) -> BoxFuture<'static, Result<(), TableError>> + Send + 'static,
    ) -> Arc<Intercepted> {
        Arc::new(Intercepted { inner: inner.clone(), matches, act: Mutex::new(Some(Box::new(act))) })
    }

    /// Runs `act` right before the first transaction with a write that `matches`.
    pub fn before(
        inner: &Arc<dyn Table>,
        matches: fn(&Write) -> bool,
        act: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Intercepted> {
        let table = inner.clone();
        let act = move |writes| -> BoxFuture<'static, Result<(), TableError>> {
            Box::pin(async move {
                act.await;
                table.transact(writes).await
            })
        };
        Intercepted::new(inner, matches, act)
    }
}

/// A write that moves a head.
pub fn is_commit(write: &Write) -> bool {
    write.key.sk == "head"
}

impl std::fmt::Debug for Intercepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, of which one transaction is intercepted", self.inner)
    }
}

#[async_trait]
impl Table for Intercepted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.inner.get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.inner.query(query).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let act = writes.iter().any(self.matches).then(|| self.act.lock().unwrap().take()).flatten();
        match act {
            Some(act) => act(writes).await,
            None => self.inner.transact(writes).await,
        }
    }
}

/// All refs of a repository and HEAD, as text.
pub async fn refs_of(region: &Region, item: &HeadItem) -> BTreeMap<String, String> {
    let refs = region.reader().refs(item).await.unwrap();
    let refs = tokio::task::spawn_blocking(move || refs.collect()).await.unwrap().unwrap();
    let mut refs: BTreeMap<String, String> =
        refs.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    refs.insert("HEAD".into(), item.head.head.to_string());
    refs
}

/// A deep verification of each repository of a region finds nothing.
pub async fn assert_sound(region: &Region) {
    for item in region.repositories().heads().await.unwrap().items {
        let verified = region.verifier().verify(&item, true, Default::default()).await.unwrap();
        assert!(verified.findings.is_empty(), "{:#?}", verified);
    }
}

/// Rows of the uploads to a repository that are under way.
pub async fn staging_rows(region: &Region, id: RepositoryId) -> Vec<Item> {
    let query = Query::prefix(keys::repository(id), keys::STAGING_PREFIX);
    region.table().query(&query).await.unwrap().whole().unwrap()
}

/// Each ledger of the target is a prefix of the ledger of the source.
pub async fn assert_prefix(source: &Region, target: &Region) {
    for item in target.repositories().heads().await.unwrap().items {
        let there = read_head(source.table(), item.id).await.unwrap().unwrap();
        read_chain(source.table(), item.id, item.head.frontier, there.head.frontier).await.unwrap();
    }
}

/// Both regions hold the same repositories in the same state.
pub async fn assert_equal(source: &Region, target: &Region) {
    let mut found = 0;
    for item in source.repositories().heads().await.unwrap().items {
        let Some(other) = read_head(target.table(), item.id).await.unwrap() else {
            assert!(item.head.deleted.is_some(), "{} is not in {}", item.head.name, target.name());
            continue;
        };
        found += 1;
        assert_eq!(other.head.frontier, item.head.frontier);
        assert_eq!((&other.head.name, other.head.named), (&item.head.name, item.head.named), "{item:#?}");
        assert_eq!(refs_of(target, &other).await, refs_of(source, &item).await);
    }
    assert_eq!(target.repositories().list().await.unwrap().len(), found);
}

/// The frontier and revision of every repository of a region.
pub async fn states(region: &Region) -> BTreeMap<RepositoryId, (String, u64)> {
    let heads = region.repositories().heads().await.unwrap().items;
    heads.into_iter().map(|item| (item.id, (item.head.frontier.to_string(), item.revision))).collect()
}
