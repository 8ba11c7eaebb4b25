//! Local cache of packs, for object stores on other machines.
//!
//! A folder holds packs under their object keys, so that each repository is laid out like a bare one. Packs never
//! change and their keys are never reused, so a cached file stays valid: its size is compared at each use, its
//! CRC-64/NVME after the fetch, or at the first use if another process left it. All of it may be deleted at any time. A
//! process has its cache to itself, because the use of a file by another process cannot be detected; a second process
//! on the same folder works in a private folder below it, which is removed with the process.

mod entries;
mod fetch;
mod root;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use tokio::sync::{OnceCell, Semaphore};

use super::manifest::LivePack;
use super::{RegionError, Result, blocking};
use crate::ledger::keys;
use entries::Entries;
pub use fetch::RANGES_IN_FLIGHT;
pub(super) use fetch::fetch;
use gitferry_base::counter::Counter;
use gitferry_store::objects::ObjectStore;
use root::Root;

/// Size of a cache without a configured one, in bytes.
pub const DEFAULT_MAX_BYTES: u64 = 20 * 1024 * 1024 * 1024;
/// Packs that are fetched concurrently for one reader.
pub const PACKS_IN_FLIGHT: usize = 4;
/// Ranges of all files that a cache holds in memory at a time: 6 × 8 MiB.
pub const RANGES_IN_MEMORY: usize = 6;
/// Fetches of a pack that arrives damaged, before the fetch fails.
const MAX_FETCHES: u32 = 2;

/// Location and size of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Folder of the cache; created when the first pack is fetched.
    pub dir: PathBuf,
    /// Limit for the bytes of packs and indexes. Only packs in use may exceed it.
    pub max_bytes: u64,
}

impl CacheOptions {
    /// Returns the options of a region without configured ones: below the user's cache folder (`XDG_CACHE_HOME`,
    /// `~/.cache`), otherwise below `spool`.
    pub fn default_for(region: &str, spool: &Path) -> Self {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
        let dir = user.unwrap_or_else(|| spool.to_owned()).join("gitferry").join(region);
        CacheOptions { dir, max_bytes: DEFAULT_MAX_BYTES }
    }
}

/// Packs of a region as local files. Touches the disk only when the first pack is read.
#[derive(Debug)]
pub struct PackCache {
    options: CacheOptions,
    root: OnceCell<Root>,
    entries: Mutex<Entries>,
    /// Locks by object key: one task fetches a pack, others wait for it.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    memory: Semaphore,
    hits: Counter,
    misses: Counter,
}

/// A pack and its index in the cache. The files stay until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    cache: Arc<PackCache>,
    key: String,
    /// Path of the pack.
    pub pack: PathBuf,
    /// Path of the index.
    pub index: PathBuf,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.cache.entries().unpin(&self.key);
    }
}

impl PackCache {
    /// Creates a private cache.
    pub fn new(options: CacheOptions) -> Arc<Self> {
        Arc::new(PackCache {
            entries: Mutex::new(Entries::new(options.max_bytes)),
            options,
            root: OnceCell::new(),
            locks: Mutex::default(),
            memory: Semaphore::new(RANGES_IN_MEMORY),
            hits: Counter::default(),
            misses: Counter::default(),
        })
    }

    /// Returns the cache of this process in a folder, shared by all regions on it. The first caller sets the size.
    pub fn shared(options: CacheOptions) -> Arc<Self> {
        static SHARED: Mutex<BTreeMap<PathBuf, Weak<PackCache>>> = Mutex::new(BTreeMap::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = shared.get(&options.dir).and_then(Weak::upgrade) {
            return cache;
        }
        shared.retain(|_, cache| cache.strong_count() > 0);
        let cache = PackCache::new(options);
        shared.insert(cache.options.dir.clone(), Arc::downgrade(&cache));
        cache
    }

    /// Returns location and size.
    pub fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// Returns the bytes of the packs and indexes in the cache.
    pub fn bytes(&self) -> u64 {
        self.entries().bytes()
    }

    /// Packs that were in the cache when they were needed, since the start.
    pub fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Packs that had to be fetched from the object store, since the start.
    pub fn misses(&self) -> u64 {
        self.misses.get()
    }

    /// Returns true if packs in use exceed the size limit.
    pub fn is_full(&self) -> bool {
        self.bytes() > self.options.max_bytes
    }

    pub(super) fn memory(&self) -> &Semaphore {
        &self.memory
    }

    /// Returns a pack as files, fetched if it is not cached.
    ///
    /// # Errors
    /// [`gitferry_store::objects::ObjectError::NotFound`] if the store does not have the pack (any more).
    pub(super) async fn pin(self: &Arc<Self>, store: &dyn ObjectStore, live: &LivePack) -> Result<Pinned> {
        let root = self.root.get_or_try_init(|| self.open()).await?;
        let pack = root.path().join(&live.key);
        let index = root.path().join(keys::index_of(&live.key));
        let queue = FetchLock::take(self, &live.key);
        let _guard = queue.lock.lock().await;
        let size = live.bytes.saturating_add(live.index_bytes);
        let (checked, removed) = self.entries().pin(&live.key, size, root);
        let pinned = Pinned { cache: Arc::clone(self), key: live.key.clone(), pack, index };
        root::discard(removed).await?;
        if self.is_good(&pinned, live, checked).await? {
            self.hits.add(1);
        } else {
            self.misses.add(1);
            self.fill(root, store, &pinned, live).await?;
        }
        self.entries().keep(&live.key);
        Ok(pinned)
    }

    async fn open(&self) -> Result<Root> {
        let dir = self.options.dir.clone();
        let (root, found) = blocking(move || Root::open(&dir)).await?;
        self.entries().adopt(found);
        Ok(root)
    }

    /// Returns true if a pack is cached with the right bytes, and records the use for the next process.
    async fn is_good(&self, pinned: &Pinned, live: &LivePack, checked: bool) -> Result<bool> {
        let files =
            [(pinned.pack.clone(), live.bytes, live.crc64), (pinned.index.clone(), live.index_bytes, live.index_crc64)];
        let key = live.key.clone();
        blocking(move || {
            for (path, size, crc64) in &files {
                match std::fs::metadata(path) {
                    Ok(metadata) if metadata.len() == *size => {}
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => return Ok(false),
                }
                if !checked && gitferry_base::checksum::file_crc64(path)? != *crc64 {
                    tracing::warn!(key, "a pack in the cache is damaged; fetching it again");
                    return Ok(false);
                }
            }
            // File times order the packs by use for the next process; a failure only makes its choices worse. The wall
            // clock is compared with file times of the same machine.
            #[allow(clippy::disallowed_methods)]
            let _ = std::fs::File::open(&files[0].0).and_then(|file| file.set_modified(SystemTime::now()));
            Ok::<_, RegionError>(true)
        })
        .await
    }

    async fn fill(&self, root: &Root, store: &dyn ObjectStore, pinned: &Pinned, live: &LivePack) -> Result<()> {
        for _ in 0..MAX_FETCHES {
            let pack = root.temporary();
            let index = root.temporary();
            let index_key = keys::index_of(&live.key);
            let (got, got_index) = futures::join!(
                fetch(store, &live.key, live.bytes, &pack, &self.memory),
                fetch(store, &index_key, live.index_bytes, &index, &self.memory),
            );
            if (got?, got_index?) != (live.crc64, live.index_crc64) {
                continue;
            }
            let to = pinned.pack.clone();
            let index_to = pinned.index.clone();
            return blocking(move || {
                if let Some(folder) = to.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                // Index first: Git ignores an index without a pack.
                index.persist(index_to).map_err(|failed| failed.error)?;
                pack.persist(to).map_err(|failed| failed.error)?;
                Ok::<_, RegionError>(())
            })
            .await;
        }
        let store = store.name().to_owned();
        let reason = format!("its CRC-64/NVME differs from the manifest in each of {MAX_FETCHES} reads");
        Err(gitferry_store::objects::ObjectError::Corrupt { store, key: live.key.clone(), reason }.into())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue for one pack. The lock is forgotten when the last one leaves.
struct FetchLock<'a> {
    cache: &'a PackCache,
    key: &'a str,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> FetchLock<'a> {
    fn take(cache: &'a PackCache, key: &'a str) -> Self {
        let mut locks = cache.locks.lock().unwrap_or_else(PoisonError::into_inner);
        FetchLock { cache, key, lock: Arc::clone(locks.entry(key.to_owned()).or_default()) }
    }
}

impl Drop for FetchLock<'_> {
    fn drop(&mut self) {
        let mut locks = self.cache.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's, the other one is this one.
        if Arc::strong_count(&self.lock) <= 2 {
            locks.remove(self.key);
        }
    }
}
