//! Housekeeping: what crashes, lost races and consolidation left behind goes once nothing can need it.
//!
//! It may run anywhere, at any time, twice. Ages are differences of two times of the object store, so the clock of the
//! machine that sweeps does not matter; and no pack goes for its age alone (see [`super::claims`]). LFS objects, large
//! changes and snapshots stay: their keys follow from their content and may be used again at any moment.

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

/// Temporary files of this machine that no process has written to for so long go: what a killed push left.
pub const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The prefix of objects that only ask what time it is, and of those that [`super::probe`] puts.
const PROBES: &str = "probes/";
/// The member of a row that says when a sweep saw it first, by the object store's time.
const SEEN: &str = "seen";

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Temporary files, unfinished uploads and probes of the store.
    pub stale: u64,
    /// Packs that were replaced, after their grace.
    pub retired: u64,
    /// Files of packs that no change came to name.
    pub orphans: u64,
    /// Rows of uploads that no process may resume any more.
    pub staging: u64,
    /// Claims that have done their work.
    pub claims: u64,
    /// LFS objects that came after their pointers, and that a change names only now: their upload was interrupted.
    pub late_lfs: u64,
}

/// The times of one sweep, both of the object store, and whether it only looks.
#[derive(Clone, Copy, Debug)]
struct Times {
    now: Timestamp,
    /// A recovery window before.
    limit: Timestamp,
    /// Nothing is removed or noted: what would go is counted.
    dry: bool,
}

impl Region {
    /// Removes what is of no use any more, everywhere in the region. A repository that fails is passed over.
    pub async fn sweep(&self) -> Result<Swept> {
        self.sweep_or_look(false).await
    }

    /// Counts what [`Region::sweep`] would remove now, of packs and of rows of uploads. Temporary files, unfinished
    /// uploads and old claims are not counted.
    pub async fn would_sweep(&self) -> Result<Swept> {
        self.sweep_or_look(true).await
    }

    async fn sweep_or_look(&self, dry: bool) -> Result<Swept> {
        let now = self.store_time().await?;
        let times = Times { now, limit: now.checked_sub(self.recovery_window).unwrap_or(Timestamp::MIN), dry };
        let mut swept = Swept::default();
        if !dry {
            swept.stale =
                self.objects.remove_stale(TEMPORARY_AGE, times.limit).await? + self.sweep_probes(times).await?;
        }
        for id in self.list().await? {
            let done = async {
                swept.retired += self.sweep_retired(id, times).await?;
                swept.staging += self.sweep_staging(id, times).await?;
                swept.late_lfs += self.name_late_lfs(id, dry).await?;
                Ok::<_, RegionError>(())
            };
            if let Err(error) = done.await {
                tracing::warn!(%error, %id, region = self.name, "could not clean a repository up");
            }
        }
        swept.orphans = self.sweep_orphans(times).await?;
        if !dry {
            swept.claims = self.drop_old_claims(times.limit).await?;
        }
        Ok(swept)
    }

    /// The object store's time: that of an object which was stored just now.
    async fn store_time(&self) -> Result<Timestamp> {
        let key = format!("{PROBES}{}", self.clock.new_id());
        self.objects.put(&key, Bytes::from_static(b"now")).await?;
        let found = self.objects.head(&key).await;
        if let Err(error) = self.objects.delete(&key).await {
            tracing::debug!(%error, key, "could not remove a probe; a later sweep does");
        }
        let timeless = || RegionError::BrokenPromise {
            store: self.objects.name().into(),
            reason: "it does not say when an object was stored".into(),
        };
        found?.and_then(|meta| meta.modified).ok_or_else(timeless)
    }

    async fn sweep_probes(&self, times: Times) -> Result<u64> {
        let mut swept = 0;
        for object in self.objects.list(PROBES, None, MAX_LIST_KEYS).await?.objects {
            if object.modified.is_some_and(|modified| modified < times.limit) {
                self.objects.delete(&object.key).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Rows with this prefix that a sweep saw a recovery window ago. Others are noted as seen.
    async fn seen_rows(&self, id: RepositoryId, prefix: &str, times: Times) -> Result<Vec<Key>> {
        let mut query = Query::prefix(keys::repository(id), prefix);
        let (mut seen, mut new) = (Vec::new(), Vec::new());
        loop {
            let mut page = self.table.query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                match seen_at(&item.document) {
                    Some(time) if time < times.limit => seen.push(item.key),
                    Some(_) => {}
                    None => new.extend(noted(item, times.now)),
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
            match self.table.transact(writes.to_vec()).await {
                // One of them has changed; all are noted by the next sweep.
                Ok(()) | Err(TableError::ConditionFailed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(seen)
    }

    /// Deletes packs whose grace is over; how many.
    async fn sweep_retired(&self, id: RepositoryId, times: Times) -> Result<u64> {
        let rows = self.seen_rows(id, keys::RETIRED_PREFIX, times).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        // A table that was restored may name what had been replaced.
        let named = self.manifest_keys(id).await?;
        let mut swept = 0;
        for row in rows {
            let Some(pack) = row.sk.strip_prefix(keys::RETIRED_PREFIX) else { continue };
            if times.dry {
                swept += u64::from(!named.contains(pack));
                continue;
            }
            if named.contains(pack) || self.delete_pack(pack).await {
                swept += u64::from(!named.contains(pack));
                self.table.transact(vec![Write::delete(row, Condition::Any)]).await?;
            }
        }
        Ok(swept)
    }

    /// Deletes the rows of uploads that are too old to be resumed.
    async fn sweep_staging(&self, id: RepositoryId, times: Times) -> Result<u64> {
        let rows = self.seen_rows(id, keys::STAGING_PREFIX, times).await?;
        if times.dry {
            return Ok(rows.len() as u64);
        }
        for rows in rows.chunks(MAX_TRANSACTION_ITEMS) {
            let deletes = rows.iter().map(|row| Write::delete(row.clone(), Condition::Any)).collect();
            self.table.transact(deletes).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Deletes packs that were stored before the recovery window and are neither live nor retired.
    async fn sweep_orphans(&self, times: Times) -> Result<u64> {
        let (mut swept, mut after) = (0, None);
        // The packs of one repository follow each other.
        let mut old: Option<(RepositoryId, Vec<OldFile>)> = None;
        loop {
            let page = self.objects.list(keys::OBJECTS_PREFIX, after.as_deref(), MAX_LIST_KEYS).await?;
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

    /// The same among some old files of one repository. One that fails stops no other.
    async fn sweep_orphans_of(&self, old: Option<(RepositoryId, Vec<OldFile>)>, times: Times) -> u64 {
        let Some((id, files)) = old else { return 0 };
        let swept = async {
            let kept = self.kept_packs(id).await?;
            let unnamed: BTreeSet<String> =
                files.iter().map(|file| file.pack.clone()).filter(|pack| !kept.contains(pack)).collect();
            if unnamed.is_empty() {
                return Ok(0);
            }
            if times.dry {
                return Ok(files.iter().filter(|file| unnamed.contains(&file.pack)).count() as u64);
            }
            let claimed = self.claim(id, &unnamed, times.now).await?;
            gitferry_base::fault::crash_point("sweep-claimed");
            let mut swept = 0;
            for file in files.iter().filter(|file| claimed.contains(&file.pack)) {
                self.objects.delete(&file.key).await?;
                swept += 1;
            }
            Ok::<_, RegionError>(swept)
        };
        swept.await.unwrap_or_else(|error| {
            tracing::warn!(%error, %id, region = self.name, "packs are not swept");
            0
        })
    }
}

/// A file of a pack that was stored before the recovery window.
#[derive(Debug)]
struct OldFile {
    key: String,
    pack: String,
}

fn seen_at(document: &Value) -> Option<Timestamp> {
    document.get(SEEN)?.as_str()?.parse().ok()
}

/// The row with a note that it was seen; `None` for one that is no row of gitferry's.
fn noted(item: Item, now: Timestamp) -> Option<Write> {
    let Value::Object(mut document) = item.document else { return None };
    document.insert(SEEN.into(), json!(now));
    Some(Write::put(item.key, Condition::Revision(item.revision), Value::Object(document)))
}
