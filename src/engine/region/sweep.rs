//! Garbage collection: removes what crashes, lost races and consolidation left behind, once nothing can need it.
//!
//! A sweep is idempotent and may run anywhere, at any time, and concurrently with others. Ages are differences of two
//! times of the object store, so the clock of the sweeping machine does not matter; and no pack is deleted for its age
//! alone (see [`super::claims`]). LFS objects, large changes and snapshots stay: their keys are content-addressed and
//! may be used again at any moment.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::claims::MAX_CLAIMED;
use super::{Region, RegionError, Result};
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use gitferry_store::objects::MAX_LIST_KEYS;
use gitferry_store::table::{Condition, Item, Key, MAX_TRANSACTION_ITEMS, Query, TableError, Write};

/// Age, since the last write, at which temporary files on this machine are removed: left by a killed push.
pub const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Prefix of probe objects, which reveal the store's time, and of those of [`super::probe`].
const PROBES: &str = "probes/";
/// Member of a row with the object store's time when a sweep first saw the row.
const SEEN: &str = "seen";

/// Counts of removed items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Temporary files, unfinished uploads and probe objects.
    pub stale: u64,
    /// Packs that consolidation replaced, past the recovery window.
    pub retired: u64,
    /// Files of packs that no change came to name.
    pub orphans: u64,
    /// Rows of uploads that are too old to be resumed.
    pub staging: u64,
    /// Claims past the recovery window.
    pub claims: u64,
    /// LFS objects that a new change names now, because their upload was interrupted after their pointers had come.
    pub late_lfs: u64,
}

/// Times of one sweep, by the object store's clock, and its mode.
#[derive(Clone, Copy, Debug)]
struct Times {
    now: Timestamp,
    /// One recovery window before `now`.
    limit: Timestamp,
    /// Dry run: count, remove nothing, write nothing.
    dry: bool,
}

/// Removes garbage in a region.
#[derive(Clone, Copy, Debug)]
pub struct Sweeper<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the sweeper of this region.
    pub fn sweeper(&self) -> Sweeper<'_> {
        Sweeper { region: self }
    }
}

impl Sweeper<'_> {
    /// Removes garbage in the whole region. A repository that fails is skipped with a warning.
    pub async fn sweep(self) -> Result<Swept> {
        self.run(false).await
    }

    /// Counts the packs and upload rows that [`Self::sweep`] would remove now. Temporary files, unfinished uploads
    /// and old claims are not counted.
    pub async fn would_sweep(self) -> Result<Swept> {
        self.run(true).await
    }

    async fn run(self, dry: bool) -> Result<Swept> {
        let now = self.store_time().await?;
        let times = Times { now, limit: now.checked_sub(self.region.recovery_window()).unwrap_or(Timestamp::MIN), dry };
        let mut swept = Swept::default();
        if !dry {
            swept.stale = self.region.objects().remove_stale(TEMPORARY_AGE, times.limit).await?
                + self.sweep_probes(times).await?;
        }
        for id in self.region.repositories().list().await? {
            let done = async {
                swept.retired += self.sweep_retired(id, times).await?;
                swept.staging += self.sweep_staging(id, times).await?;
                swept.late_lfs += self.region.lfs().name_late(id, dry).await?;
                Ok::<_, RegionError>(())
            };
            if let Err(error) = done.await {
                tracing::warn!(
                    %error, %id, region = self.region.name(),
                    "could not sweep a repository; the next sweep tries again"
                );
            }
        }
        swept.orphans = self.sweep_orphans(times).await?;
        if !dry {
            swept.claims = self.region.claims().drop_old(times.limit).await?;
        }
        Ok(swept)
    }

    /// Returns the object store's time: the modification time of an object that was stored just now.
    async fn store_time(self) -> Result<Timestamp> {
        let key = format!("{PROBES}{}", self.region.clock().new_id());
        self.region.objects().put(&key, Bytes::from_static(b"now")).await?;
        let found = self.region.objects().head(&key).await;
        if let Err(error) = self.region.objects().delete(&key).await {
            tracing::debug!(%error, key, "could not remove a probe; a later sweep does");
        }
        let timeless = || RegionError::BrokenPromise {
            store: self.region.objects().name().into(),
            reason: "it does not say when an object was stored".into(),
        };
        found?.and_then(|meta| meta.modified).ok_or_else(timeless)
    }

    async fn sweep_probes(self, times: Times) -> Result<u64> {
        let mut swept = 0;
        for object in self.region.objects().list(PROBES, None, MAX_LIST_KEYS).await?.objects {
            if object.modified.is_some_and(|modified| modified < times.limit) {
                self.region.objects().delete(&object.key).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Returns rows with this prefix that a sweep first saw more than a recovery window ago; marks unseen rows as seen.
    async fn seen_rows(self, id: RepositoryId, prefix: &str, times: Times) -> Result<Vec<Key>> {
        let mut query = Query::prefix(keys::repository(id), prefix);
        let mut seen = Vec::new();
        let mut new = Vec::new();
        loop {
            let mut page = self.region.table().query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                match seen_at(&item.document) {
                    Some(time) if time < times.limit => seen.push(item.key),
                    Some(_) => {}
                    None => new.extend(mark_seen(item, times.now)),
                }
            }
            match next {
                None => break,
                next => query.after = next,
            }
        }
        if times.dry {
            return Ok(seen);
        }
        for writes in new.chunks(MAX_TRANSACTION_ITEMS) {
            match self.region.table().transact(writes.to_vec()).await {
                // One of the rows has changed; the next sweep marks all of them.
                Ok(()) | Err(TableError::ConditionFailed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(seen)
    }

    /// Deletes replaced packs whose recovery window is over. Returns their number.
    async fn sweep_retired(self, id: RepositoryId, times: Times) -> Result<u64> {
        let rows = self.seen_rows(id, keys::RETIRED_PREFIX, times).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        // A restored table may name packs that had been replaced.
        let named = self.region.claims().manifest_keys(id).await?;
        let mut swept = 0;
        for row in rows {
            let Some(pack) = row.sk.strip_prefix(keys::RETIRED_PREFIX) else { continue };
            if times.dry {
                swept += u64::from(!named.contains(pack));
                continue;
            }
            if named.contains(pack) || self.region.uploads().delete(pack).await {
                swept += u64::from(!named.contains(pack));
                self.region.table().transact(vec![Write::delete(row, Condition::Any)]).await?;
            }
        }
        Ok(swept)
    }

    /// Deletes the rows of uploads that are too old to be resumed. Returns their number.
    async fn sweep_staging(self, id: RepositoryId, times: Times) -> Result<u64> {
        let rows = self.seen_rows(id, keys::STAGING_PREFIX, times).await?;
        if times.dry {
            return Ok(rows.len() as u64);
        }
        for rows in rows.chunks(MAX_TRANSACTION_ITEMS) {
            let deletes = rows.iter().map(|row| Write::delete(row.clone(), Condition::Any)).collect();
            self.region.table().transact(deletes).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Deletes packs that were stored before the recovery window and are neither live nor replaced. Returns the number
    /// of files.
    async fn sweep_orphans(self, times: Times) -> Result<u64> {
        let mut swept = 0;
        let mut after = None;
        // The listing is sorted: packs of one repository are adjacent.
        let mut old: Option<(RepositoryId, Vec<OldFile>)> = None;
        loop {
            let page = self.region.objects().list(keys::OBJECTS_PREFIX, after.as_deref(), MAX_LIST_KEYS).await?;
            for object in page.objects {
                let Some((id, pack, _)) = keys::parse_pack(&object.key) else { continue };
                if object.modified.is_none_or(|modified| modified >= times.limit) {
                    continue;
                }
                if old.as_ref().is_none_or(|(of, files)| *of != id || files.len() >= MAX_CLAIMED) {
                    swept += self.sweep_orphans_of(old.replace((id, Vec::new())), times).await;
                }
                if let Some((_, files)) = &mut old {
                    files.push(OldFile { key: object.key, pack });
                }
            }
            match page.next {
                None => return Ok(swept + self.sweep_orphans_of(old, times).await),
                next => after = next,
            }
        }
    }

    /// Sweeps old files of one repository. A failure is logged and does not stop the others.
    async fn sweep_orphans_of(self, old: Option<(RepositoryId, Vec<OldFile>)>, times: Times) -> u64 {
        let Some((id, files)) = old else { return 0 };
        let swept = async {
            let kept = self.region.claims().kept_packs(id).await?;
            let unnamed: BTreeSet<String> =
                files.iter().map(|file| file.pack.clone()).filter(|pack| !kept.contains(pack)).collect();
            if unnamed.is_empty() {
                return Ok(0);
            }
            if times.dry {
                return Ok(files.iter().filter(|file| unnamed.contains(&file.pack)).count() as u64);
            }
            let claimed = self.region.claims().claim(id, &unnamed, times.now).await?;
            assert!(claimed.is_subset(&unnamed), "a sweep deletes only packs that no manifest of {id} names");
            gitferry_base::fault::crash_point("sweep-claimed");
            let mut swept = 0;
            for file in files.iter().filter(|file| claimed.contains(&file.pack)) {
                self.region.objects().delete(&file.key).await?;
                swept += 1;
            }
            Ok::<_, RegionError>(swept)
        };
        swept.await.unwrap_or_else(|error| {
            tracing::warn!(
                %error, %id, region = self.region.name(),
                "could not sweep unreferenced packs of a repository; the next sweep tries again"
            );
            0
        })
    }
}

/// A pack or index file that was stored before the recovery window.
#[derive(Debug)]
struct OldFile {
    key: String,
    pack: String,
}

fn seen_at(document: &Value) -> Option<Timestamp> {
    document.get(SEEN)?.as_str()?.parse().ok()
}

/// Returns the write that marks a row as seen; `None` if the document is not an object.
fn mark_seen(item: Item, now: Timestamp) -> Option<Write> {
    let Value::Object(mut document) = item.document else { return None };
    document.insert(SEEN.into(), json!(now));
    Some(Write::put(item.key, Condition::Revision(item.revision), Value::Object(document)))
}
