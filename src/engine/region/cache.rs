//! The local cache of packs, for object stores that are not on this machine.
//!
//! A folder in which packs lie under their object keys, so that each repository has the shape of a bare one.
//! Packs never change and their keys are never used twice, so what is there is right: its size is compared
//! each time, its CRC-64/NVME when it was fetched and when another process had left it. All of it may go at
//! any time. A process has its cache for itself; the second one on a folder works in a folder of its own
//! below, which goes with it. (Whether another process uses a file could not be known.)

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
pub(super) use fetch::fetch;
use gitferry_store::objects::ObjectStore;
use root::Root;

/// Size of a cache of which nothing else is said.
pub const DEFAULT_MAX_BYTES: u64 = 20 * 1024 * 1024 * 1024;
/// Packs that are fetched at a time for one reader.
pub const PACKS_IN_FLIGHT: usize = 4;
/// Ranges of one file that are fetched at a time.
pub const RANGES_IN_FLIGHT: usize = 4;
/// Ranges of all files that a cache holds in memory at a time: 6 × 8 MiB.
pub const RANGES_IN_MEMORY: usize = 6;
/// How often a pack that arrives damaged is fetched.
const MAX_FETCHES: u32 = 2;

/// Where a cache is, and how large it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Its folder; made when the first pack is fetched.
    pub dir: PathBuf,
    /// Bytes of packs and indexes. Only packs that are in use may make it larger.
    pub max_bytes: u64,
}

impl CacheOptions {
    /// For a region of which nothing else is said: in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`),
    /// or beside temporary files.
    pub fn default_for(region: &str, spool: &Path) -> Self {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
        let dir = user.unwrap_or_else(|| spool.to_owned()).join("gitferry").join(region);
        CacheOptions { dir, max_bytes: DEFAULT_MAX_BYTES }
    }
}

/// Packs of a region as local files. Does nothing before it is used.
#[derive(Debug)]
pub struct PackCache {
    options: CacheOptions,
    root: OnceCell<Root>,
    entries: Mutex<Entries>,
    /// Who works on a pack; others wait for it instead of fetching it as well.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    memory: Semaphore,
}

/// A pack and its index in the cache. They stay there until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    cache: Arc<PackCache>,
    key: String,
    /// The pack.
    pub pack: PathBuf,
    /// Its index.
    pub index: PathBuf,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.cache.entries().unpin(&self.key);
    }
}

impl PackCache {
    /// A cache of its own.
    pub fn new(options: CacheOptions) -> Arc<Self> {
        Arc::new(PackCache {
            entries: Mutex::new(Entries::new(options.max_bytes)),
            options,
            root: OnceCell::new(),
            turns: Mutex::default(),
            memory: Semaphore::new(RANGES_IN_MEMORY),
        })
    }

    /// The cache of this process in a folder: all that open a region there share one. Whoever comes first says
    /// how large it gets.
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

    /// Where it is, and how large it gets.
    pub fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// Bytes of the packs and indexes that it holds now.
    pub fn bytes(&self) -> u64 {
        self.entries().bytes()
    }

    /// Whether packs in use have made it larger than it should be.
    pub fn is_full(&self) -> bool {
        self.bytes() > self.options.max_bytes
    }

    pub(super) fn memory(&self) -> &Semaphore {
        &self.memory
    }

    /// A pack as files; fetched where it is not here.
    ///
    /// # Errors
    /// [`gitferry_store::objects::ObjectError::NotFound`] when the store does not have it (any more).
    pub(super) async fn pin(self: &Arc<Self>, store: &dyn ObjectStore, live: &LivePack) -> Result<Pinned> {
        let root = self.root.get_or_try_init(|| self.open()).await?;
        let (pack, index) = (root.path().join(&live.key), root.path().join(keys::index_of(&live.key)));
        let turn = Turn::take(self, &live.key);
        let _turn = turn.lock.lock().await;
        let size = live.bytes.saturating_add(live.index_bytes);
        let (checked, removed) = self.entries().pin(&live.key, size, root);
        let pinned = Pinned { cache: Arc::clone(self), key: live.key.clone(), pack, index };
        root::discard(removed).await?;
        if !self.is_good(&pinned, live, checked).await? {
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

    /// Whether a pack is here as it should be. Notes that it is used, for the next process.
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
                    tracing::warn!(key, "a pack in the cache is damaged; it is fetched again");
                    return Ok(false);
                }
            }
            // Orders the packs by use for the next process; without it, it only chooses worse.
            // Compared with file times, which are the machine's.
            #[allow(clippy::disallowed_methods)]
            let _ = std::fs::File::open(&files[0].0).and_then(|file| file.set_modified(SystemTime::now()));
            Ok::<_, RegionError>(true)
        })
        .await
    }

    async fn fill(&self, root: &Root, store: &dyn ObjectStore, pinned: &Pinned, live: &LivePack) -> Result<()> {
        for _ in 0..MAX_FETCHES {
            let (pack, index) = (root.temporary(), root.temporary());
            let index_key = keys::index_of(&live.key);
            let (got, got_index) = futures::join!(
                fetch(store, &live.key, live.bytes, &pack, &self.memory),
                fetch(store, &index_key, live.index_bytes, &index, &self.memory),
            );
            if (got?, got_index?) != (live.crc64, live.index_crc64) {
                continue;
            }
            let (to, index_to) = (pinned.pack.clone(), pinned.index.clone());
            return blocking(move || {
                if let Some(folder) = to.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                // Git passes over an index without a pack.
                index.persist(index_to).map_err(|failed| failed.error)?;
                pack.persist(to).map_err(|failed| failed.error)?;
                Ok::<_, RegionError>(())
            })
            .await;
        }
        let store = store.name().to_owned();
        let reason = format!("it has not the CRC-64/NVME that its manifest records ({MAX_FETCHES} reads)");
        Err(gitferry_store::objects::ObjectError::Corrupt { store, key: live.key.clone(), reason }.into())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue for one pack. Forgotten when the last one leaves.
struct Turn<'a> {
    cache: &'a PackCache,
    key: &'a str,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Turn<'a> {
    fn take(cache: &'a PackCache, key: &'a str) -> Self {
        let mut turns = cache.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { cache, key, lock: Arc::clone(turns.entry(key.to_owned()).or_default()) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.cache.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own and this one.
        if Arc::strong_count(&self.lock) <= 2 {
            turns.remove(self.key);
        }
    }
}
