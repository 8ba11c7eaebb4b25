//! A region: an object store and a table that together hold the ledger, manifest and packs of each repository.
//!
//! [`Region`] is a handle on the stores. The work is done by values that borrow it, each in the file of its name:
//! `region.repositories().get("app")`, `region.verifier().verify(...)`. They depend on each other in one direction:
//! [`reader`] and [`claims`] read the state of a repository, [`commit`] changes it, and [`import`], [`push`],
//! [`consolidate`] and [`edit`] stand on both.

mod blocking;
pub mod cache;
pub mod claims;
pub mod commit;
pub mod consolidate;
pub mod detach;
pub mod edit;
pub mod encryption;
pub mod error;
pub mod export;
pub mod fold;
pub mod identity;
pub mod import;
pub mod lfs;
pub mod local;
pub mod lost_rows;
pub mod manifest;
pub mod new_pack;
pub mod pack_checks;
pub mod packs;
pub mod probe;
pub mod push;
pub mod reader;
pub mod repositories;
pub mod reserved;
pub mod server;
pub mod snapshots;
pub mod standing;
pub mod stores;
pub mod sweep;
pub mod uploads;
pub mod usage;
pub mod verify;

use std::path::Path;
use std::sync::Arc;

use crate::ledger::head::{Head, State};
use crate::ledger::log::Log;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_git::refs::RefValue;
use gitferry_store::objects::{FilesystemStore, ObjectStore};
use gitferry_store::table::{SqliteTable, Table};

pub use blocking::blocking;
use cache::{CacheOptions, PackCache};
use encryption::RepositoryKeys;
pub use error::{RegionError, Result};
use pack_checks::PackChecks;
pub use repositories::{Heads, Unreadable};
use standing::Standing;

/// A named object store and table with one identity. Clones are handles on the same region.
#[derive(Clone, Debug)]
pub struct Region {
    name: String,
    objects: Arc<dyn ObjectStore>,
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    cache: Arc<PackCache>,
    recovery_window: jiff::SignedDuration,
    rolled_back: Option<Arc<str>>,
    standing: Arc<Standing>,
    checks: Arc<PackChecks>,
    repository_keys: Option<Arc<RepositoryKeys>>,
}

/// Recovery window of a region without a configured one.
pub const RECOVERY_WINDOW: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

impl Region {
    /// Creates a region from its stores, with the default cache and recovery window.
    pub fn new(
        name: impl Into<String>,
        objects: Arc<dyn ObjectStore>,
        table: Arc<dyn Table>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let name = name.into();
        let spool = objects.spool_dir().unwrap_or_else(std::env::temp_dir);
        let cache = PackCache::shared(CacheOptions::default_for(&name, &spool));
        let recovery_window = RECOVERY_WINDOW;
        Region {
            name,
            objects,
            table,
            clock,
            cache,
            recovery_window,
            rolled_back: None,
            standing: Arc::default(),
            checks: Arc::default(),
            repository_keys: None,
        }
    }

    /// Replaces the pack cache by a private one.
    #[must_use]
    pub fn with_cache(mut self, options: CacheOptions) -> Self {
        self.cache = PackCache::new(options);
        self
    }

    /// Sets the recovery window and a pack cache that this process shares between regions with the same folder.
    #[must_use]
    pub fn with_settings(mut self, cache: CacheOptions, recovery_window: jiff::SignedDuration) -> Self {
        self.cache = PackCache::shared(cache);
        self.recovery_window = recovery_window;
        self
    }

    /// Returns a handle with another recovery window.
    #[must_use]
    pub fn with_recovery_window(&self, recovery_window: jiff::SignedDuration) -> Self {
        Region { recovery_window, ..self.clone() }
    }

    /// Returns a handle that refuses local changes for this reason: replicas are ahead of the region, for example after
    /// a restore.
    #[must_use]
    pub fn with_rolled_back(&self, reason: impl Into<Arc<str>>) -> Self {
        Region { rolled_back: Some(reason.into()), ..self.clone() }
    }

    /// Returns a handle that reads and writes objects through `objects`, for example a decorator of the region's store.
    #[must_use]
    pub fn with_objects(&self, objects: Arc<dyn ObjectStore>) -> Self {
        Region { objects, ..self.clone() }
    }

    /// Returns a handle that reads and writes rows through `table`, for example a decorator of the region's table.
    #[must_use]
    pub fn with_table(&self, table: Arc<dyn Table>) -> Self {
        Region { table, ..self.clone() }
    }

    /// Returns a handle with another source of time and of new identifiers.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Region { clock, ..self.clone() }
    }

    /// Opens a region on the embedded stores and creates missing ones. The identities of the stores are not checked.
    pub fn open_embedded(name: &str, objects: &Path, table: &Path) -> Result<Region> {
        let objects = FilesystemStore::open(objects, format!("object store of {name}"))?;
        let table = SqliteTable::open(table, format!("of {name}"))?;
        Ok(Region::new(name, Arc::new(objects), Arc::new(table), SystemClock::shared()))
    }

    /// Sets the shared [`Standing`] of the stores.
    #[must_use]
    pub fn with_standing(mut self, standing: Arc<Standing>) -> Self {
        self.standing = standing;
        self
    }

    /// Sets the KMS keys of repositories, which the object store uses.
    #[must_use]
    pub fn with_repository_keys(mut self, keys: Arc<RepositoryKeys>) -> Self {
        self.repository_keys = Some(keys);
        self
    }

    /// Returns the name of the region, as in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the object store with packs, large changes, snapshots and LFS objects.
    pub fn objects(&self) -> &dyn ObjectStore {
        &*self.objects
    }

    /// Returns the object store like [`Region::objects`], for owners that outlive the borrow of the region.
    pub fn shared_objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Returns the table with heads, changes, manifests, claims and checkpoints.
    pub fn table(&self) -> &dyn Table {
        &*self.table
    }

    /// Returns the table like [`Region::table`], for owners that outlive the borrow of the region.
    pub fn shared_table(&self) -> &Arc<dyn Table> {
        &self.table
    }

    /// Returns the source of time and of new identifiers.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Returns the clock like [`Region::clock`], for owners that outlive the borrow of the region.
    pub fn shared_clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the local copies of packs, for object stores on other machines.
    pub fn cache(&self) -> &Arc<PackCache> {
        &self.cache
    }

    /// Returns the time for which replaced and unreferenced data stays: `recovery_window` in the configuration.
    pub fn recovery_window(&self) -> jiff::SignedDuration {
        self.recovery_window
    }

    /// Returns the reason for refusing local changes while replicas are ahead of this region, if there is one.
    pub fn rolled_back(&self) -> Option<&Arc<str>> {
        self.rolled_back.as_ref()
    }

    /// Returns a reader of the change logs of this region.
    pub fn log(&self) -> Log {
        Log { table: self.table.clone(), objects: self.objects.clone() }
    }

    /// Returns the folder for temporary files: on the object store's own disk if the store is local.
    pub fn spool_dir(&self) -> std::path::PathBuf {
        self.objects.spool_dir().unwrap_or_else(std::env::temp_dir)
    }

    /// Returns the outcome of the last comparison of both stores with their identity, shared by the handles of this
    /// process.
    fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Returns the KMS keys of repositories; `None` if the objects are files.
    fn repository_keys(&self) -> Option<&Arc<RepositoryKeys>> {
        self.repository_keys.as_ref()
    }

    /// Returns the verdicts on pack files that are read in place.
    fn checks(&self) -> &Arc<PackChecks> {
        &self.checks
    }
}

/// Returns the HEAD of a new repository: `refs/heads/main`.
pub fn default_head() -> RefValue {
    RefValue::parse(b"ref:refs/heads/main").unwrap_or_else(|_| unreachable!("a constant that is a valid value"))
}

/// Returns true if clients can see the repository, that is, if it is not a tombstone.
pub fn is_visible(head: &Head) -> bool {
    head.state != State::Deleted
}
