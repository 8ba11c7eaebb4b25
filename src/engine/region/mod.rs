//! A region: an object store and a table, and in them the ledger, manifest and packs of each repository.

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
use crate::ledger::log::{ChangeRow, LOOK_AGAIN_AFTER, Log, read_chain_above};
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

/// The repositories of a region, tombstones too.
#[derive(Debug, Default)]
pub struct Heads {
    /// Those that can be read.
    pub items: Vec<HeadItem>,
    /// Those that cannot.
    pub unreadable: Vec<Unreadable>,
}

/// A repository that its region lists and whose head cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Its id; the entry as it stands, where the listing itself is damaged.
    pub id: String,
    /// Its name, where the damaged head still shows one.
    pub name: Option<String>,
    /// The damage.
    pub error: RegionError,
}

impl Unreadable {
    /// A head that could not be read.
    pub fn head(id: RepositoryId, error: LedgerError) -> Self {
        let name = match &error {
            LedgerError::BadHead { name, .. } => name.clone(),
            _ => None,
        };
        Unreadable { id: id.to_string(), name, error: error.into() }
    }

    /// A repository that is listed and has no head.
    pub fn without_head(id: RepositoryId) -> Self {
        let row = keys::head(id);
        let reason = format!(
            "the repository is listed, but its head is missing; put the row `{row}` back from a backup of the table"
        );
        Unreadable::head(id, LedgerError::BadHead { id, name: None, reason })
    }

    /// The name, or else the id.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// A named object store and table.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Where packs are.
    pub objects: Arc<dyn ObjectStore>,
    /// Where heads, changes and manifests are.
    pub table: Arc<dyn Table>,
    /// Where time and identifiers come from.
    pub clock: Arc<dyn Clock>,
    /// Packs as local files, where the object store is not local.
    pub cache: Arc<PackCache>,
    /// For how long what it no longer names stays: see [`gitferry_config::RegionConfig::recovery_window`].
    pub recovery_window: jiff::SignedDuration,
    /// Why it takes no changes of its own: its replicas have changes that it lacks.
    pub set_back: Option<Arc<str>>,
    /// What the last look at its stores showed.
    pub standing: Arc<Standing>,
    /// What is known of the packs that are read where they lie.
    pub checks: Arc<PackChecks>,
}

/// The recovery window of a region whose configuration says nothing.
pub const RECOVERY_WINDOW: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

impl Region {
    /// Puts a region together.
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

    /// The same region with a cache of packs of its own.
    #[must_use]
    pub fn with_cache(mut self, options: CacheOptions) -> Self {
        self.cache = PackCache::new(options);
        self
    }

    /// The same region with a cache of packs that all regions of this process with the same options share, and a
    /// recovery window of its own.
    #[must_use]
    pub fn with_settings(mut self, cache: CacheOptions, recovery_window: jiff::SignedDuration) -> Self {
        self.cache = PackCache::shared(cache);
        self.recovery_window = recovery_window;
        self
    }

    /// Opens a region on the embedded stores, which are made where they are missing, without a look at who they are.
    pub fn open_embedded(name: &str, objects: &Path, table: &Path) -> Result<Region> {
        let objects = FilesystemStore::open(objects, format!("object store of {name}"))?;
        let table = SqliteTable::open(table, format!("of {name}"))?;
        Ok(Region::new(name, Arc::new(objects), Arc::new(table), SystemClock::shared()))
    }

    /// The same region with what this process knows of its stores' standing.
    #[must_use]
    pub fn with_standing(mut self, standing: Arc<Standing>) -> Self {
        self.standing = standing;
        self
    }

    /// The log of its repositories.
    pub fn log(&self) -> Log {
        Log { table: self.table.clone(), objects: self.objects.clone() }
    }

    /// A folder for temporary files: on the object store's own disk where it has one.
    pub fn spool_dir(&self) -> std::path::PathBuf {
        self.objects.spool_dir().unwrap_or_else(std::env::temp_dir)
    }

    /// The repository that holds a name, or that has this text as its id.
    pub async fn find(&self, name: &str) -> Result<Option<HeadItem>> {
        if let Some(item) = self.table.get(&keys::name(name)).await? {
            let id = serde_json::Value::deserialize(&item.document)
                .ok()
                .and_then(|document| document.get("id")?.as_str()?.parse().ok())
                .ok_or_else(|| RegionError::corrupt(&self.name, name, "the row of its name has no id"))?;
            // The row is only a pointer; the head has the last word.
            let item = self.head_behind_name(id, name).await?;
            return Ok(Some(item).filter(|item| item.head.named && item.head.name == name));
        }
        match name.parse::<RepositoryId>() {
            Ok(id) => Ok(read_head(&*self.table, id).await?),
            Err(_) => Ok(None),
        }
    }

    /// Like [`Region::find`], but its absence is an error.
    pub async fn get(&self, name: &str) -> Result<HeadItem> {
        let found = self.find(name).await?;
        found.ok_or_else(|| RegionError::NoRepository { name: name.into(), region: self.name.clone() })
    }

    /// A repository read again by its id, for a request that named it `name` (or by its id) when it began.
    ///
    /// # Errors
    /// [`RegionError::Replaced`] when it is not called so any more: the name may mean another repository now.
    pub async fn same(&self, name: &str, id: RepositoryId) -> Result<HeadItem> {
        let item = read_head(&*self.table, id).await?;
        let is_meant = |item: &HeadItem| (item.head.named && item.head.name == name) || name.parse() == Ok(id);
        let replaced = || RegionError::Replaced { name: name.into(), region: self.name.clone(), id };
        item.filter(is_meant).ok_or_else(replaced)
    }

    /// The ids of all repositories, tombstones too, in the order of their making within each shard. All shards
    /// are read at a time: a region that is far away costs one round trip for each page of the longest.
    /// Entries that are no ids are left out with a warning; [`Region::heads`] returns them.
    pub async fn list(&self) -> Result<Vec<RepositoryId>> {
        let (ids, damaged) = self.listing().await?;
        for entry in damaged {
            tracing::warn!(error = %entry.error, region = self.name, "an entry of the listing is passed over");
        }
        Ok(ids)
    }

    async fn listing(&self) -> Result<(Vec<RepositoryId>, Vec<Unreadable>)> {
        let shards = (0..keys::SHARDS).map(|shard| self.list_shard(shard));
        let entries = futures::future::try_join_all(shards).await?.concat();
        let (mut ids, mut damaged) = (Vec::with_capacity(entries.len()), Vec::new());
        for entry in entries {
            match entry.parse() {
                Ok(id) => ids.push(id),
                Err(_) => {
                    let id = entry.escape_debug().to_string();
                    let error = RegionError::corrupt(&self.name, &id, "it is listed, and the entry is no id");
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

    /// The heads of all repositories. One that cannot be read takes nothing from the others.
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

    /// The manifest now, and the revision of its item (0 for none yet). It holds all objects of the head's state, and
    /// perhaps more: consolidation and later changes raise its generation above the head's.
    pub async fn manifest(&self, item: &HeadItem) -> Result<(Manifest, u64)> {
        if item.head.manifest == 0 {
            return Ok((Manifest::default(), 0));
        }
        let row = self.table.get(&keys::manifest(item.id)).await?;
        self.manifest_from(item, row).await
    }

    /// [`Region::manifest`] where its row has just been read.
    pub(crate) async fn manifest_from(&self, item: &HeadItem, row: Option<Item>) -> Result<(Manifest, u64)> {
        if item.head.manifest == 0 {
            return Ok((Manifest::default(), 0));
        }
        let damaged = |what: &str| RegionError::corrupt(&self.name, &item.head.name, what);
        let mut found = self.parse_manifest(item, row)?;
        for pause in LOOK_AGAIN_AFTER {
            // The head may come from a query that saw only a part of the transaction that wrote both.
            if found.as_ref().is_some_and(|(manifest, _)| manifest.generation >= item.head.manifest) {
                break;
            }
            tokio::time::sleep(pause).await;
            found = self.parse_manifest(item, self.table.get(&keys::manifest(item.id)).await?)?;
        }
        let (manifest, revision) = found.ok_or_else(|| damaged("its manifest is missing"))?;
        match manifest.generation >= item.head.manifest {
            true => Ok((manifest, revision)),
            false => Err(damaged("its manifest is older than its head")),
        }
    }

    fn parse_manifest(&self, item: &HeadItem, row: Option<Item>) -> Result<Option<(Manifest, u64)>> {
        let Some(row) = row else { return Ok(None) };
        let manifest = Manifest::deserialize(&row.document);
        let manifest =
            manifest.map_err(|_| RegionError::corrupt(&self.name, &item.head.name, "its manifest is not valid"))?;
        Ok(Some((manifest, row.revision)))
    }

    /// The changes above number `seq`, oldest first.
    pub async fn changes_above(&self, item: &HeadItem, seq: u64) -> Result<Vec<ChangeRow>> {
        let rows = read_chain_above(&*self.table, item.id, seq, item.head.frontier).await;
        rows.map_err(|error| RegionError::from(error).locate(&self.name, &item.head.name))
    }

    /// All that is needed to stream the refs of a head.
    pub async fn refs(&self, item: &HeadItem) -> Result<RefsAt> {
        let refs = RefsAt::load(self.log(), item.id, &item.head).await;
        refs.map_err(|error| RegionError::from(error).locate(&self.name, &item.head.name))
    }
}

/// What HEAD is in a repository that nobody has said anything about.
pub fn default_head() -> RefValue {
    RefValue::parse(b"ref:refs/heads/main").unwrap_or_else(|_| unreachable!("a constant that is a valid value"))
}

/// Whether a repository is there for its users.
pub fn is_visible(head: &Head) -> bool {
    head.state != State::Deleted
}

/// Runs blocking work off the async threads.
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
