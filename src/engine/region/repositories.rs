//! The repositories of a region: found by name or id, and listed. [`super::edit`] creates and changes them.

use serde::Deserialize as _;

use super::{Region, RegionError, Result};
use crate::ledger::LedgerError;
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::heads::{read_head, read_heads};
use crate::ledger::keys;
use gitferry_store::table::Query;

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

/// Names, ids and heads of all repositories of a region.
#[derive(Clone, Copy, Debug)]
pub struct Repositories<'a> {
    pub(super) region: &'a Region,
}

impl Region {
    /// Returns the repositories of this region, to find, list and change them.
    pub fn repositories(&self) -> Repositories<'_> {
        Repositories { region: self }
    }
}

impl Repositories<'_> {
    /// Finds a repository by its name or by the text of its id.
    pub async fn find(self, name: &str) -> Result<Option<HeadItem>> {
        if let Some(item) = self.region.table().get(&keys::name(name)).await? {
            let id = serde_json::Value::deserialize(&item.document)
                .ok()
                .and_then(|document| document.get("id")?.as_str()?.parse().ok())
                .ok_or_else(|| RegionError::corrupt(self.region.name(), name, "the row of its name has no id"))?;
            // The name row is a pointer; the head is authoritative.
            let item = self.region.lost_rows().head_behind_name(id, name).await?;
            return Ok(Some(item).filter(|item| item.head.named && item.head.name == name));
        }
        match name.parse::<RepositoryId>() {
            Ok(id) => Ok(read_head(self.region.table(), id).await?),
            Err(_) => Ok(None),
        }
    }

    /// Finds a repository like [`Self::find`].
    ///
    /// # Errors
    /// [`RegionError::NoRepository`] if no repository has this name or id.
    pub async fn get(self, name: &str) -> Result<HeadItem> {
        let found = self.find(name).await?;
        found.ok_or_else(|| RegionError::NoRepository { name: name.into(), region: self.region.name().to_owned() })
    }

    /// Reads a repository again by `id`, for a request that began with `name` (a name or an id).
    ///
    /// # Errors
    /// [`RegionError::Replaced`] if the repository no longer has this name: the name may denote another repository now.
    pub async fn same(self, name: &str, id: RepositoryId) -> Result<HeadItem> {
        let item = read_head(self.region.table(), id).await?;
        let is_meant = |item: &HeadItem| (item.head.named && item.head.name == name) || name.parse() == Ok(id);
        let replaced = || RegionError::Replaced { name: name.into(), region: self.region.name().to_owned(), id };
        item.filter(is_meant).ok_or_else(replaced)
    }

    /// Lists the ids of all repositories, tombstones included, by creation time within each shard. All shards are read
    /// concurrently: a distant region costs one round trip for each page of the longest shard. Entries that are not ids
    /// are skipped with a warning; [`Self::heads`] returns them.
    pub async fn list(self) -> Result<Vec<RepositoryId>> {
        let (ids, damaged) = self.listing().await?;
        for entry in damaged {
            tracing::warn!(error = %entry.error, region = self.region.name(), "skipped an entry of the repository listing");
        }
        Ok(ids)
    }

    async fn listing(self) -> Result<(Vec<RepositoryId>, Vec<Unreadable>)> {
        let shards = (0..keys::SHARDS).map(|shard| self.list_shard(shard));
        let entries = futures::future::try_join_all(shards).await?.concat();
        let mut ids = Vec::with_capacity(entries.len());
        let mut damaged = Vec::new();
        for entry in entries {
            match entry.parse() {
                Ok(id) => ids.push(id),
                Err(_) => {
                    let id = entry.escape_debug().to_string();
                    let error = RegionError::corrupt(self.region.name(), &id, "its entry in the listing is not an id");
                    damaged.push(Unreadable { id, name: None, error });
                }
            }
        }
        Ok((ids, damaged))
    }

    async fn list_shard(self, shard: u8) -> Result<Vec<String>> {
        let mut entries = Vec::new();
        let mut query = Query::prefix(keys::listing_partition(shard), "");
        loop {
            let page = self.region.table().query(&query).await?;
            entries.extend(page.keys().map(|key| key.sk.clone()));
            match page.next {
                None => return Ok(entries),
                next => query.after = next,
            }
        }
    }

    /// Reads the heads of all repositories. An unreadable head does not affect the others.
    pub async fn heads(self) -> Result<Heads> {
        let (ids, unreadable) = self.listing().await?;
        let mut heads = Heads { items: Vec::with_capacity(ids.len()), unreadable };
        for (id, read) in ids.iter().zip(read_heads(self.region.table(), &ids).await?) {
            match read {
                Ok(Some(item)) => heads.items.push(item),
                Ok(None) => heads.unreadable.push(Unreadable::without_head(*id)),
                Err(error) => heads.unreadable.push(Unreadable::head(*id, error)),
            }
        }
        Ok(heads)
    }
}
