//! Housekeeping: what crashes, lost races and consolidation left behind goes once nobody can need it.
//!
//! Only age decides, far beyond any pause of honest work, so that it may run anywhere, at any time, twice.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Region, RegionError, Result};
use crate::ledger::advance::read_head;
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use crate::objects::MAX_LIST_KEYS;
use crate::table::{Condition, Query, Write};

/// Packs and uploads that nobody committed go after this time; whoever resumes an upload has half of it.
pub const ORPHAN_GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Temporary files that nobody has written to for so long go: what a killed push left.
pub const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Temporary files and unfinished uploads of the store.
    pub stale: u64,
    /// Packs that were replaced, after their grace.
    pub retired: u64,
    /// Files of packs that no change came to name.
    pub orphans: u64,
    /// Rows of uploads that nobody may resume any more.
    pub staging: u64,
}

impl Region {
    /// Removes what is of no use any more, everywhere in the region. A repository that fails is passed over.
    pub async fn sweep(&self) -> Result<Swept> {
        let uploads = Duration::try_from(ORPHAN_GRACE).unwrap_or(Duration::MAX);
        let mut swept = Swept { stale: self.objects.remove_stale(TEMPORARY_AGE, uploads).await?, ..Swept::default() };
        for id in self.list().await? {
            let done = async {
                swept.retired += self.sweep_retired(id).await?;
                swept.staging += self.sweep_staging(id).await?;
                Ok::<_, RegionError>(())
            };
            if let Err(error) = done.await {
                tracing::warn!(%error, %id, region = self.name, "could not clean a repository up");
            }
        }
        swept.orphans = self.sweep_orphans().await?;
        Ok(swept)
    }

    fn orphaned_before(&self) -> Timestamp {
        self.clock.now().checked_sub(ORPHAN_GRACE).unwrap_or(Timestamp::MIN)
    }

    /// Deletes the rows of uploads that are too old to be resumed.
    async fn sweep_staging(&self, id: RepositoryId) -> Result<u64> {
        let limit = self.orphaned_before();
        let mut query = Query::prefix(keys::repository(id), keys::STAGING_PREFIX);
        let mut swept = 0;
        loop {
            let page = self.table.query(&query).await?;
            for item in page.items {
                let made = item.key.sk.strip_prefix(keys::STAGING_PREFIX).and_then(made_at);
                if made.is_some_and(|made| made < limit) {
                    self.table.transact(vec![Write::delete(item.key, Condition::Any)]).await?;
                    swept += 1;
                }
            }
            match page.next {
                None => return Ok(swept),
                next => query.after = next,
            }
        }
    }

    /// Deletes packs that are old enough to have been committed, and are neither live nor retired.
    async fn sweep_orphans(&self) -> Result<u64> {
        let limit = self.orphaned_before();
        let (mut swept, mut after) = (0, None);
        // The packs of one repository follow each other.
        let mut kept: Option<(RepositoryId, Option<HashSet<String>>)> = None;
        loop {
            let page = self.objects.list(keys::OBJECTS_PREFIX, after.as_deref(), MAX_LIST_KEYS).await?;
            let old = page.objects.iter().filter_map(|object| {
                let (id, pack, nonce) = keys::parse_pack(&object.key)?;
                made_at(nonce).filter(|made| *made < limit).map(|_| (&object.key, id, pack))
            });
            for (key, id, pack) in old {
                if kept.as_ref().is_none_or(|(of, _)| *of != id) {
                    let keys = self.kept_packs(id).await;
                    let keys = keys.inspect_err(|error| tracing::warn!(%error, %id, "packs are not swept")).ok();
                    kept = Some((id, keys));
                }
                let Some((_, Some(keys))) = &kept else { continue };
                if !keys.contains(&pack) {
                    self.objects.delete(key).await?;
                    swept += 1;
                }
            }
            match page.next {
                None => return Ok(swept),
                next => after = next,
            }
        }
    }

    /// Keys of the packs of a repository that somebody may read. Read after the listing: a pack that is
    /// older than the grace will not be committed any more.
    async fn kept_packs(&self, id: RepositoryId) -> Result<HashSet<String>> {
        let mut kept = HashSet::new();
        if let Some(item) = read_head(&*self.table, id).await? {
            kept.extend(self.manifest(&item).await?.0.packs.into_iter().map(|pack| pack.key));
        }
        let mut query = Query::prefix(keys::repository(id), keys::RETIRED_PREFIX);
        loop {
            let page = self.table.query(&query).await?;
            let retired = page.items.iter().filter_map(|item| item.key.sk.strip_prefix(keys::RETIRED_PREFIX));
            kept.extend(retired.map(String::from));
            match page.next {
                None => return Ok(kept),
                next => query.after = next,
            }
        }
    }
}

/// When an identifier was made: a nonce is a UUIDv7.
fn made_at(nonce: &str) -> Option<Timestamp> {
    let (seconds, _) = Uuid::try_parse(nonce).ok()?.get_timestamp()?.to_unix();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}
