//! Claims: how sweeps and commits agree on packs that no manifest names.
//!
//! Age proves no disuse: the process that uploaded a pack may have been asleep, or a clock may have jumped. So a sweep
//! first writes the packs that it is about to delete into the repository's row of claims, then reads what the
//! repository names, and deletes only what is claimed and not named. A change that brings packs is conditional on that
//! row being as it was read, without them. *Invariant:* of a claim and a change that names the same pack, the later one
//! sees the earlier one, whatever their clocks say; the key of a pack is never used again.
//!
//! A claim is dropped a recovery window after it was made, by the object store's time. That rewrites the row, so what
//! was decided before it cannot be committed after it; and a change that is decided after it looks for its packs
//! ([`Region::admit_uploads`]). The row itself stays as long as the repository, as its revision must not start again.

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

/// The version of the row.
const FORMAT: u64 = 1;
/// Most packs of one repository that are claimed at a time; the rest waits for later sweeps.
pub(super) const MAX_CLAIMED: usize = 1_000;
/// A pack whose upload began longer ago is looked for before a change names it; where sweeps have claimed anything, every
/// pack is.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// Packs that are looked for at a time.
const LOOKS_IN_FLIGHT: usize = 8;

/// The document of the row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ClaimsRow {
    format: u64,
    /// File names of packs, each with the object store's time when it was claimed.
    claimed: BTreeMap<String, Timestamp>,
}

/// The claims of one repository, as they were read.
#[derive(Clone, Debug)]
struct Claims {
    id: RepositoryId,
    /// The row's revision; `None` where there is no row.
    revision: Option<u64>,
    row: ClaimsRow,
}

impl Claims {
    fn of(id: RepositoryId, item: Option<Item>) -> std::result::Result<Self, String> {
        let Some(item) = item else { return Ok(Claims { id, revision: None, row: ClaimsRow::default() }) };
        let row =
            ClaimsRow::deserialize(&item.document).map_err(|error| format!("its claims are not valid: {error}"))?;
        if row.format > FORMAT {
            return Err(format!("its claims have format {}, this gitferry knows {FORMAT}: upgrade it", row.format));
        }
        Ok(Claims { id, revision: Some(item.revision), row })
    }

    fn condition(&self) -> Condition {
        self.revision.map_or(Condition::Absent, Condition::Revision)
    }

    fn has(&self, pack_key: &str) -> bool {
        self.row.claimed.contains_key(file_name(pack_key))
    }

    /// The row with other claims.
    fn with(&self, claimed: BTreeMap<String, Timestamp>) -> Result<Write> {
        let document = serde_json::to_value(ClaimsRow { format: FORMAT, claimed }).map_err(std::io::Error::from)?;
        Ok(Write::put(keys::claims(self.id), self.condition(), document))
    }
}

/// The packs that a region holds of a repository, with the claims on others: all that a change which brings packs has to
/// know of them. Both rows may be read long before the commit, which is conditional on both.
#[derive(Clone, Debug)]
pub struct HeldPacks {
    /// The packs.
    pub manifest: Manifest,
    /// The revision of the manifest's item; 0 for none yet.
    pub revision: u64,
    claims: Claims,
}

impl Region {
    /// Reads the manifest and the claims of a repository by one request. `item` is its head, if it has one here; `name`
    /// is for errors.
    pub async fn held_packs(&self, id: RepositoryId, item: Option<&HeadItem>, name: &str) -> Result<HeldPacks> {
        let mut rows = self.table.get_many(&[keys::manifest(id), keys::claims(id)]).await?.into_iter();
        let (row, claims) = (rows.next().flatten(), rows.next().flatten());
        let (manifest, revision) = match item {
            Some(item) => self.manifest_from(item, row).await?,
            None => Default::default(),
        };
        let claims = Claims::of(id, claims).map_err(|reason| RegionError::corrupt(&self.name, name, reason))?;
        Ok(HeldPacks { manifest, revision, claims })
    }

    /// Admits packs to a change: what has to hold of the claims when it is committed, in the same transaction.
    ///
    /// # Errors
    /// [`RegionError::UploadGone`] when a sweep has claimed one of them, when its upload began so long ago that a sweep
    /// may have claimed and forgotten it, or when an older one is not there.
    pub async fn admit_uploads(&self, held: &HeldPacks, repository: &str, packs: &[LivePack]) -> Result<Write> {
        let gone = |pack: &LivePack, reason: String| RegionError::UploadGone {
            repository: repository.into(),
            key: pack.key.clone(),
            reason,
        };
        let claims = &held.claims;
        if let Some(pack) = packs.iter().find(|pack| claims.has(&pack.key)) {
            return Err(gone(pack, "a sweep took it for one that a crash had left".into()));
        }
        let (now, limit) = (self.clock.now(), self.recovery_window / 2);
        let mut older = Vec::new();
        for pack in packs {
            let age =
                keys::parse_pack(&pack.key).and_then(|(.., nonce)| made_at(nonce)).map(|made| now.duration_since(made));
            match age {
                Some(age) if age > limit => {
                    let reason = format!("its upload began {age:#} ago, and a change has to follow within {limit:#}");
                    return Err(gone(pack, reason));
                }
                Some(age) if age >= SignedDuration::ZERO && age < FRESH && claims.revision.is_none() => {}
                _ => older.push(async move {
                    let index = keys::index_of(&pack.key);
                    let found = futures::try_join!(self.objects.head(&pack.key), self.objects.head(&index))?;
                    match found {
                        (Some(_), Some(_)) => Ok(()),
                        _ => Err(gone(pack, "it is no longer in the object store".into())),
                    }
                }),
            }
        }
        stream::iter(older).buffer_unordered(LOOKS_IN_FLIGHT).try_collect::<Vec<()>>().await?;
        Ok(Write::check(keys::claims(claims.id), claims.condition()))
    }

    /// Claims packs that no manifest seems to name, and returns those that are claimed now and that none names. `now` is
    /// the object store's time.
    pub(super) async fn claim(
        &self,
        id: RepositoryId,
        packs: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<BTreeSet<String>> {
        let row = self.table.get(&keys::claims(id)).await?;
        let claims = Claims::of(id, row).map_err(|reason| RegionError::corrupt(&self.name, &id.to_string(), reason))?;
        let mut claimed = claims.row.claimed.clone();
        for pack in packs {
            if claimed.len() < MAX_CLAIMED {
                claimed.entry(file_name(pack).to_owned()).or_insert(now);
            }
        }
        let packs: BTreeSet<String> =
            packs.iter().filter(|pack| claimed.contains_key(file_name(pack))).cloned().collect();
        if claimed.len() > claims.row.claimed.len() {
            match self.table.transact(vec![claims.with(claimed)?]).await {
                Ok(()) => {}
                // Another sweep is at work here.
                Err(TableError::ConditionFailed { .. }) => return Ok(BTreeSet::new()),
                Err(error) => return Err(error.into()),
            }
        }
        let named = self.kept_packs(id).await?;
        Ok(packs.into_iter().filter(|pack| !named.contains(pack)).collect())
    }

    /// Keys of the packs of a repository that its manifest names or that were replaced a short while ago.
    pub(super) async fn kept_packs(&self, id: RepositoryId) -> Result<BTreeSet<String>> {
        let mut kept = self.manifest_keys(id).await?;
        let mut query = Query::prefix(keys::repository(id), keys::RETIRED_PREFIX);
        loop {
            let page = self.table.query(&query).await?;
            let retired = page.keys().filter_map(|key| key.sk.strip_prefix(keys::RETIRED_PREFIX));
            kept.extend(retired.map(String::from));
            match page.next {
                None => return Ok(kept),
                next => query.after = next,
            }
        }
    }

    /// Keys of the packs that a repository's manifest names.
    pub(super) async fn manifest_keys(&self, id: RepositoryId) -> Result<BTreeSet<String>> {
        // Two keys are read at one moment: no transaction is half seen.
        let rows = self.table.get_many(&[keys::manifest(id), keys::claims(id)]).await?;
        let Some(Some(item)) = rows.into_iter().next() else { return Ok(BTreeSet::new()) };
        let manifest = Manifest::deserialize(&item.document);
        let manifest =
            manifest.map_err(|_| RegionError::corrupt(&self.name, &id.to_string(), "its manifest is not valid"))?;
        Ok(manifest.packs.into_iter().map(|pack| pack.key).collect())
    }

    /// Drops the claims of the whole region that are older than `limit`, a time of the object store. Returns how many.
    pub(super) async fn drop_old_claims(&self, limit: Timestamp) -> Result<u64> {
        let mut dropped = 0;
        for shard in 0..keys::SHARDS {
            let mut query = Query::prefix(keys::claims_partition(shard), "");
            query.limit = MAX_TRANSACTION_ITEMS;
            loop {
                let mut page = self.table.query(&query).await?;
                let next = page.next.take();
                for item in page.readable() {
                    let key = item.key.clone();
                    match self.drop_old_claims_of(item, limit).await {
                        Ok(count) => dropped += count,
                        Err(error) => tracing::warn!(%error, %key, region = self.name, "claims are not dropped"),
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

    async fn drop_old_claims_of(&self, item: Item, limit: Timestamp) -> Result<u64> {
        let corrupt = |reason: String| RegionError::corrupt(&self.name, &item.key.sk, reason);
        let id: RepositoryId = item.key.sk.parse().map_err(|_| corrupt("has claims but is not an id".into()))?;
        let claims = Claims::of(id, Some(item.clone())).map_err(corrupt)?;
        let mut kept = claims.row.claimed.clone();
        kept.retain(|_, claimed| *claimed >= limit);
        let dropped = claims.row.claimed.len() - kept.len();
        let is_empty = kept.is_empty();
        if dropped == 0 && !is_empty {
            return Ok(0);
        }
        let write = match is_empty && self.table.get(&keys::head(id)).await?.is_none() {
            // Of a repository that never came to be.
            true => Write::delete(keys::claims(id), claims.condition()),
            false if dropped == 0 => return Ok(0),
            false => claims.with(kept)?,
        };
        match self.table.transact(vec![write]).await {
            Ok(()) => Ok(dropped as u64),
            Err(TableError::ConditionFailed { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// The last segment of an object key.
fn file_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

/// When an identifier was made, by the clock of the machine that made it: a nonce is a UUIDv7.
fn made_at(nonce: &str) -> Option<Timestamp> {
    let (seconds, nanoseconds) = Uuid::try_parse(nonce).ok()?.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}
