//! A region: an object store and a table that together hold the ledger, manifest and packs of each repository.

pub mod cache;
pub mod claims;
pub mod commit;
pub mod consolidate;
pub mod edit;
pub mod error;
pub mod export;
pub mod fold;
pub mod identity;
pub mod import;
pub mod lfs;
pub mod local;
mod lost_rows;
pub mod manifest;
pub mod new_pack;
pub mod pack_checks;
pub mod probe;
pub mod push;
pub mod server;
pub mod standing;
pub mod sweep;
pub mod verify;

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize as _;

use crate::ledger::LedgerError;
use crate::ledger::advance::{read_head, read_heads};
use crate::ledger::head::{Head, HeadItem, RepositoryId, State};
use crate::ledger::keys;
use crate::ledger::log::{ChangeRow, Log, REREAD_PAUSES, read_chain_above};
use crate::ledger::refs::RefsAt;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_git::refs::RefValue;
use gitferry_store::objects::{FilesystemStore, ObjectStore};
use gitferry_store::table::{Item, Query, SqliteTable, Table};

use cache::{CacheOptions, PackCache};
pub use error::RegionError;
use manifest::Manifest;
use pack_checks::PackChecks;
use standing::Standing;

/// Result of an operation on a region.
pub type Result<T> = std::result::Result<T, RegionError>;

/// All repositories of a region, tombstones included.
#[derive(Debug, Default)]
pub struct Heads {
    /// Heads that can be read.
    pub items: Vec<HeadItem>,
    /// Repositories with a damaged or missing head.
    pub unreadable: Vec<Unreadable>,
}

/// A repository that its region lists and whose head cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Id of the repository, or the raw entry when the listing itself is damaged.
    pub id: String,
    /// Name of the repository, if the damaged head still shows one.
    pub name: Option<String>,
    /// The damage.
    pub error: RegionError,
}

impl Unreadable {
    /// Reports a head that failed to load.
    pub fn head(id: RepositoryId, error: LedgerError) -> Self {
        let name = match &error {
            LedgerError::BadHead { name, .. } => name.clone(),
            _ => None,
        };
        Unreadable { id: id.to_string(), name, error: error.into() }
    }

    /// Reports a listed repository without a head.
    pub fn without_head(id: RepositoryId) -> Self {
        let row = keys::head(id);
        let reason = format!(
            "the repository is listed, but its head is missing; put the row `{row}` back from a backup of the table"
        );
        Unreadable::head(id, LedgerError::BadHead { id, name: None, reason })
    }

    /// Returns the name, or the id when the name is unknown.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// A named object store and table with one identity.
#[derive(Clone, Debug)]
pub struct Region {
    /// Name of the region, as in the configuration.
    pub name: String,
    /// Object store with packs, large changes, snapshots and LFS objects.
    pub objects: Arc<dyn ObjectStore>,
    /// Table with heads, changes, manifests, claims and checkpoints.
    pub table: Arc<dyn Table>,
    /// Source of time and of new identifiers.
    pub clock: Arc<dyn Clock>,
    /// Local copies of packs, for object stores on other machines.
    pub cache: Arc<PackCache>,
    /// Time for which replaced and unreferenced data stays: `recovery_window` in the configuration.
    pub recovery_window: jiff::SignedDuration,
    /// Reason for refusing local changes when replicas are ahead of this region, for example after a restore.
    pub set_back: Option<Arc<str>>,
    /// Outcome of the last comparison of both stores with their identity, shared by the handles of this process.
    pub standing: Arc<Standing>,
    /// Verdicts on pack files that are read in place.
    pub checks: Arc<PackChecks>,
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
            set_back: None,
            standing: Arc::default(),
            checks: Arc::default(),
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

    /// Returns a reader of the change logs of this region.
    pub fn log(&self) -> Log {
        Log { table: self.table.clone(), objects: self.objects.clone() }
    }

    /// Returns the folder for temporary files: on the object store's own disk if the store is local.
    pub fn spool_dir(&self) -> std::path::PathBuf {
        self.objects.spool_dir().unwrap_or_else(std::env::temp_dir)
    }

    /// Finds a repository by its name or by the text of its id.
    pub async fn find(&self, name: &str) -> Result<Option<HeadItem>> {
        if let Some(item) = self.table.get(&keys::name(name)).await? {
            let id = serde_json::Value::deserialize(&item.document)
                .ok()
                .and_then(|document| document.get("id")?.as_str()?.parse().ok())
                .ok_or_else(|| RegionError::corrupt(&self.name, name, "the row of its name has no id"))?;
            // The name row is a pointer; the head is authoritative.
            let item = self.head_behind_name(id, name).await?;
            return Ok(Some(item).filter(|item| item.head.named && item.head.name == name));
        }
        match name.parse::<RepositoryId>() {
            Ok(id) => Ok(read_head(&*self.table, id).await?),
            Err(_) => Ok(None),
        }
    }

    /// Finds a repository like [`Region::find`].
    ///
    /// # Errors
    /// [`RegionError::NoRepository`] if no repository has this name or id.
    pub async fn get(&self, name: &str) -> Result<HeadItem> {
        let found = self.find(name).await?;
        found.ok_or_else(|| RegionError::NoRepository { name: name.into(), region: self.name.clone() })
    }

    /// Reads a repository again by `id`, for a request that began with `name` (a name or an id).
    ///
    /// # Errors
    /// [`RegionError::Replaced`] if the repository no longer has this name: the name may denote another repository now.
    pub async fn same(&self, name: &str, id: RepositoryId) -> Result<HeadItem> {
        let item = read_head(&*self.table, id).await?;
        let is_meant = |item: &HeadItem| (item.head.named && item.head.name == name) || name.parse() == Ok(id);
        let replaced = || RegionError::Replaced { name: name.into(), region: self.name.clone(), id };
        item.filter(is_meant).ok_or_else(replaced)
    }

    /// Lists the ids of all repositories, tombstones included, by creation time within each shard. All shards are read
    /// concurrently: a distant region costs one round trip for each page of the longest shard. Entries that are not ids
    /// are skipped with a warning; [`Region::heads`] returns them.
    pub async fn list(&self) -> Result<Vec<RepositoryId>> {
        let (ids, damaged) = self.listing().await?;
        for entry in damaged {
            tracing::warn!(error = %entry.error, region = self.name, "skipped an entry of the repository listing");
        }
        Ok(ids)
    }

    async fn listing(&self) -> Result<(Vec<RepositoryId>, Vec<Unreadable>)> {
        let shards = (0..keys::SHARDS).map(|shard| self.list_shard(shard));
        let entries = futures::future::try_join_all(shards).await?.concat();
        let mut ids = Vec::with_capacity(entries.len());
        let mut damaged = Vec::new();
        for entry in entries {
            match entry.parse() {
                Ok(id) => ids.push(id),
                Err(_) => {
                    let id = entry.escape_debug().to_string();
                    let error = RegionError::corrupt(&self.name, &id, "its entry in the listing is not an id");
                    damaged.push(Unreadable { id, name: None, error });
                }
            }
        }
        Ok((ids, damaged))
    }

    async fn list_shard(&self, shard: u8) -> Result<Vec<String>> {
        let mut entries = Vec::new();
        let mut query = Query::prefix(keys::listing_partition(shard), "");
        loop {
            let page = self.table.query(&query).await?;
            entries.extend(page.keys().map(|key| key.sk.clone()));
            match page.next {
                None => return Ok(entries),
                next => query.after = next,
            }
        }
    }

    /// Reads the heads of all repositories. An unreadable head does not affect the others.
    pub async fn heads(&self) -> Result<Heads> {
        let (ids, unreadable) = self.listing().await?;
        let mut heads = Heads { items: Vec::with_capacity(ids.len()), unreadable };
        for (id, read) in ids.iter().zip(read_heads(&*self.table, &ids).await?) {
            match read {
                Ok(Some(item)) => heads.items.push(item),
                Ok(None) => heads.unreadable.push(Unreadable::without_head(*id)),
                Err(error) => heads.unreadable.push(Unreadable::head(*id, error)),
            }
        }
        Ok(heads)
    }

    /// Reads the current manifest and the revision of its row (0 if there is none). The manifest holds all objects of
    /// the head's state, and perhaps more: consolidation and later changes raise the manifest's generation above the
    /// head's.
    pub async fn manifest(&self, item: &HeadItem) -> Result<(Manifest, u64)> {
        if item.head.manifest == 0 {
            return Ok((Manifest::default(), 0));
        }
        let row = self.table.get(&keys::manifest(item.id)).await?;
        self.manifest_from(item, row).await
    }

    /// Completes [`Region::manifest`] from a row that was just read.
    pub(crate) async fn manifest_from(&self, item: &HeadItem, row: Option<Item>) -> Result<(Manifest, u64)> {
        if item.head.manifest == 0 {
            return Ok((Manifest::default(), 0));
        }
        let damaged = |what: &str| RegionError::corrupt(&self.name, &item.head.name, what);
        let mut found = self.parse_manifest(item, row)?;
        for pause in REREAD_PAUSES {
            // A query may have seen the head, but not yet the manifest, of the transaction that wrote both.
            if found.as_ref().is_some_and(|(manifest, _)| manifest.generation >= item.head.manifest) {
                break;
            }
            tokio::time::sleep(pause).await;
            found = self.parse_manifest(item, self.table.get(&keys::manifest(item.id)).await?)?;
        }
        let (manifest, revision) = found.ok_or_else(|| damaged("its manifest is missing"))?;
        if manifest.generation < item.head.manifest {
            return Err(damaged("its manifest is older than its head"));
        }
        Ok((manifest, revision))
    }

    fn parse_manifest(&self, item: &HeadItem, row: Option<Item>) -> Result<Option<(Manifest, u64)>> {
        let Some(row) = row else { return Ok(None) };
        let manifest = Manifest::deserialize(&row.document);
        let manifest =
            manifest.map_err(|_| RegionError::corrupt(&self.name, &item.head.name, "its manifest is not valid"))?;
        Ok(Some((manifest, row.revision)))
    }

    /// Reads the changes above `seq` up to the head, oldest first.
    pub async fn changes_above(&self, item: &HeadItem, seq: u64) -> Result<Vec<ChangeRow>> {
        let rows = read_chain_above(&*self.table, item.id, seq, item.head.frontier).await;
        rows.map_err(|error| RegionError::from(error).locate(&self.name, &item.head.name))
    }

    /// Loads the snapshot and changes from which the refs of a head are streamed.
    pub async fn refs(&self, item: &HeadItem) -> Result<RefsAt> {
        let refs = RefsAt::load(self.log(), item.id, &item.head).await;
        refs.map_err(|error| RegionError::from(error).locate(&self.name, &item.head.name))
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

/// Runs blocking work on a thread of its own, off the async threads.
pub async fn blocking<T, E, F>(work: F) -> std::result::Result<T, E>
where
    F: FnOnce() -> std::result::Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(format!("a background task failed: {error}")).into()),
    }
}
