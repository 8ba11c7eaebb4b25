//! Claims: how sweeps and commits agree on packs that no manifest names.
//!
//! Age proves no disuse: the uploading process may have slept, or a clock may have jumped. A sweep first writes the
//! packs that it is about to delete into the claims row of the repository, then reads which packs the repository names,
//! and deletes only packs that are claimed and not named. A change that brings packs commits on the condition that the
//! claims row is unchanged since it was read without these packs. *Invariant:* of a claim and a change that names the
//! same pack, the later one sees the earlier one, whatever the clocks say; the key of a pack is never used again.
//!
//! A claim is dropped one recovery window after it was made, by the object store's time. Dropping rewrites the row, so
//! a commit that was decided before fails its condition, and a commit that is decided after checks that its packs exist
//! ([`Claims::admit_uploads`]). The row stays as long as the repository, because its revision must never restart.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::manifest::{LivePack, Manifest};
use super::{Region, RegionError, Result};
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::keys;
use gitferry_store::table::{Condition, Item, MAX_TRANSACTION_ITEMS, Query, TableError, Write};

/// Format version of the claims row.
const FORMAT: u64 = 1;
/// Most packs of one repository that are claimed at a time; later sweeps claim the rest.
pub(super) const MAX_CLAIMED: usize = 1_000;
/// Age of an upload up to which a change names its pack without a look into the object store, if the repository has no
/// claims row. All other packs are looked up.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// Packs that are looked up concurrently.
const LOOKUPS_IN_FLIGHT: usize = 8;

/// Document of the claims row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ClaimsRow {
    format: u64,
    /// File names of packs, each with the object store's time of the claim.
    claimed: BTreeMap<String, Timestamp>,
}

/// Claims of one repository, as read.
#[derive(Clone, Debug)]
struct ClaimsAsRead {
    id: RepositoryId,
    /// Revision of the row; `None` if there is no row.
    revision: Option<u64>,
    row: ClaimsRow,
}

impl ClaimsAsRead {
    fn of(id: RepositoryId, item: Option<Item>) -> std::result::Result<Self, String> {
        let Some(item) = item else { return Ok(ClaimsAsRead { id, revision: None, row: ClaimsRow::default() }) };
        let row =
            ClaimsRow::deserialize(&item.document).map_err(|error| format!("its claims are not valid: {error}"))?;
        if row.format > FORMAT {
            return Err(format!("its claims have format {}, this gitferry knows {FORMAT}: upgrade it", row.format));
        }
        Ok(ClaimsAsRead { id, revision: Some(item.revision), row })
    }

    fn condition(&self) -> Condition {
        self.revision.map_or(Condition::Absent, Condition::Revision)
    }

    fn has(&self, pack_key: &str) -> bool {
        self.row.claimed.contains_key(file_name(pack_key))
    }

    /// Returns the write that replaces the claims, on condition that the row is as it was read.
    fn with(&self, claimed: BTreeMap<String, Timestamp>) -> Result<Write> {
        let document = serde_json::to_value(ClaimsRow { format: FORMAT, claimed }).map_err(std::io::Error::from)?;
        Ok(Write::put(keys::claims(self.id), self.condition(), document))
    }
}

/// Manifest and claims of a repository: all that a change with packs has to know. Both rows may be read long before the
/// commit, which is conditional on both.
#[derive(Clone, Debug)]
pub struct HeldPacks {
    /// Packs that the region holds.
    pub manifest: Manifest,
    /// Revision of the manifest row; 0 if there is none.
    pub revision: u64,
    claims: ClaimsAsRead,
}

/// Manifests and claims of repositories: what a change with packs has to know.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the claims of this region.
    pub fn claims(&self) -> Claims<'_> {
        Claims { region: self }
    }
}

impl Claims<'_> {
    /// Reads the manifest and the claims of a repository in one request. `item` is the head, if there is one; `name` is
    /// for errors.
    pub async fn held_packs(self, id: RepositoryId, item: Option<&HeadItem>, name: &str) -> Result<HeldPacks> {
        let mut rows = self.region.table().get_many(&[keys::manifest(id), keys::claims(id)]).await?.into_iter();
        let row = rows.next().flatten();
        let claims = rows.next().flatten();
        let (manifest, revision) = match item {
            Some(item) => self.region.reader().manifest_from(item, row).await?,
            None => Default::default(),
        };
        let claims =
            ClaimsAsRead::of(id, claims).map_err(|reason| RegionError::corrupt(self.region.name(), name, reason))?;
        Ok(HeldPacks { manifest, revision, claims })
    }

    /// Returns the check of the claims row that the transaction of a change with these packs must include.
    ///
    /// # Errors
    /// [`RegionError::UploadGone`] if a sweep has claimed one of the packs, if its upload began longer than half a
    /// recovery window ago (a sweep may have claimed and forgotten it), or if an older one is no longer in the object
    /// store.
    pub async fn admit_uploads(self, held: &HeldPacks, repository: &str, packs: &[LivePack]) -> Result<Write> {
        let gone = |pack: &LivePack, reason: String| RegionError::UploadGone {
            repository: repository.into(),
            key: pack.key.clone(),
            reason,
        };
        let claims = &held.claims;
        if let Some(pack) = packs.iter().find(|pack| claims.has(&pack.key)) {
            return Err(gone(pack, "a sweep has claimed it as abandoned".into()));
        }
        let now = self.region.clock().now();
        let limit = self.region.recovery_window() / 2;
        let mut older = Vec::new();
        for pack in packs {
            let age =
                keys::parse_pack(&pack.key).and_then(|(.., nonce)| made_at(nonce)).map(|made| now.duration_since(made));
            match age {
                Some(age) if age > limit => {
                    let reason = format!("its upload began {age:#} ago, and a change has to name it within {limit:#}");
                    return Err(gone(pack, reason));
                }
                Some(age) if age >= SignedDuration::ZERO && age < FRESH && claims.revision.is_none() => {}
                _ => older.push(async move {
                    let index = keys::index_of(&pack.key);
                    let found =
                        futures::try_join!(self.region.objects().head(&pack.key), self.region.objects().head(&index))?;
                    match found {
                        (Some(_), Some(_)) => Ok(()),
                        _ => Err(gone(pack, "it is no longer in the object store".into())),
                    }
                }),
            }
        }
        stream::iter(older).buffer_unordered(LOOKUPS_IN_FLIGHT).try_collect::<Vec<()>>().await?;
        Ok(Write::check(keys::claims(claims.id), claims.condition()))
    }

    /// Claims packs that no manifest seems to name. Returns those that are claimed now and that no manifest names.
    /// `now` is the object store's time.
    pub(super) async fn claim(
        self,
        id: RepositoryId,
        packs: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<BTreeSet<String>> {
        let row = self.region.table().get(&keys::claims(id)).await?;
        let claims = ClaimsAsRead::of(id, row)
            .map_err(|reason| RegionError::corrupt(self.region.name(), &id.to_string(), reason))?;
        let mut claimed = claims.row.claimed.clone();
        for pack in packs {
            if claimed.len() < MAX_CLAIMED {
                claimed.entry(file_name(pack).to_owned()).or_insert(now);
            }
        }
        let packs: BTreeSet<String> =
            packs.iter().filter(|pack| claimed.contains_key(file_name(pack))).cloned().collect();
        if claimed.len() > claims.row.claimed.len() {
            match self.region.table().transact(vec![claims.with(claimed)?]).await {
                Ok(()) => {}
                // Another sweep of this repository came first.
                Err(TableError::ConditionFailed { .. }) => return Ok(BTreeSet::new()),
                Err(error) => return Err(error.into()),
            }
        }
        let named = self.kept_packs(id).await?;
        Ok(packs.into_iter().filter(|pack| !named.contains(pack)).collect())
    }

    /// Returns the keys of packs that the manifest names or that were replaced within the recovery window.
    pub(super) async fn kept_packs(self, id: RepositoryId) -> Result<BTreeSet<String>> {
        let mut kept = self.manifest_keys(id).await?;
        let mut query = Query::prefix(keys::repository(id), keys::RETIRED_PREFIX);
        loop {
            let page = self.region.table().query(&query).await?;
            let retired = page.keys().filter_map(|key| key.sk.strip_prefix(keys::RETIRED_PREFIX));
            kept.extend(retired.map(String::from));
            match page.next {
                None => return Ok(kept),
                next => query.after = next,
            }
        }
    }

    /// Returns the keys of packs that the manifest names.
    pub(super) async fn manifest_keys(self, id: RepositoryId) -> Result<BTreeSet<String>> {
        // Both rows are read at one moment, so no transaction is half visible.
        let rows = self.region.table().get_many(&[keys::manifest(id), keys::claims(id)]).await?;
        let Some(Some(item)) = rows.into_iter().next() else { return Ok(BTreeSet::new()) };
        let manifest = Manifest::parse(&item.document);
        let manifest = manifest.map_err(|reason| {
            let reason = format!("its manifest is not valid: {reason}");
            RegionError::corrupt(self.region.name(), &id.to_string(), reason)
        })?;
        Ok(manifest.packs.into_iter().map(|pack| pack.key).collect())
    }

    /// Drops claims that are older than `limit`, a time of the object store, in the whole region. Returns their number.
    pub(super) async fn drop_old(self, limit: Timestamp) -> Result<u64> {
        let mut dropped = 0;
        for shard in 0..keys::SHARDS {
            let mut query = Query::prefix(keys::claims_partition(shard), "");
            query.limit = MAX_TRANSACTION_ITEMS;
            loop {
                let mut page = self.region.table().query(&query).await?;
                let next = page.next.take();
                for item in page.readable() {
                    let key = item.key.clone();
                    match self.drop_old_of(item, limit).await {
                        Ok(count) => dropped += count,
                        Err(error) => {
                            tracing::warn!(%error, %key, region = self.region.name(), "claims are not dropped")
                        }
                    }
                }
                match next {
                    None => break,
                    next => query.after = next,
                }
            }
        }
        Ok(dropped)
    }

    async fn drop_old_of(self, item: Item, limit: Timestamp) -> Result<u64> {
        let corrupt = |reason: String| RegionError::corrupt(self.region.name(), &item.key.sk, reason);
        let id: RepositoryId = item.key.sk.parse().map_err(|_| corrupt("has claims but is not an id".into()))?;
        let claims = ClaimsAsRead::of(id, Some(item.clone())).map_err(corrupt)?;
        let mut kept = claims.row.claimed.clone();
        kept.retain(|_, claimed| *claimed >= limit);
        let dropped = claims.row.claimed.len() - kept.len();
        let is_empty = kept.is_empty();
        if dropped == 0 && !is_empty {
            return Ok(0);
        }
        let write = if is_empty && self.region.table().get(&keys::head(id)).await?.is_none() {
            // The repository was never created.
            Write::delete(keys::claims(id), claims.condition())
        } else if dropped == 0 {
            return Ok(0);
        } else {
            claims.with(kept)?
        };
        match self.region.table().transact(vec![write]).await {
            Ok(()) => Ok(dropped as u64),
            Err(TableError::ConditionFailed { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the last segment of an object key.
fn file_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

/// Returns the creation time in a nonce (a UUIDv7), by the clock of the machine that made it.
fn made_at(nonce: &str) -> Option<Timestamp> {
    let (seconds, nanoseconds) = Uuid::try_parse(nonce).ok()?.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}
