//! Leases: two workers should not copy the same gigabytes side by side.
//!
//! Liveness only. Correctness is the conditional write of the head; a lease that is lost or stolen costs
//! bytes, nothing else. A lease is alive as long as its holder rewrites it: whoever waits watches the
//! row's revision on its own monotonic clock, so no two clocks are ever compared.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;

use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use crate::region::Region;
use crate::table::{Condition, EXPIRES_MEMBER, Key, TableError, Write};

/// Transfers below this size go without a lease.
pub const LEASED_BYTES: u64 = 64 * 1024 * 1024;
/// A holder rewrites its lease this often.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A lease that nobody rewrote for this long is free.
const EXPIRES_AFTER: Duration = Duration::from_secs(8);
/// A table may remove the row of a lease that nobody rewrote for this many seconds.
const REMOVABLE_AFTER_SECONDS: i64 = 24 * 60 * 60;
/// How often a waiter looks.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// A lease that is held; renewed in the background until it is released.
#[derive(Debug)]
pub struct Lease {
    region: Region,
    key: Key,
    renewal: JoinHandle<()>,
}

/// Watches one lease row until it can be taken.
#[derive(Debug)]
pub struct Waiter {
    region: Region,
    key: Key,
    holder: String,
    seen: Option<(u64, Instant)>,
}

impl Waiter {
    /// A waiter for a repository's lease on a link, kept in the target's table.
    pub fn new(target: &Region, link: &str, id: RepositoryId) -> Self {
        let holder = target.clock.new_id().to_string();
        Waiter { region: target.clone(), key: keys::lease(link, id), holder, seen: None }
    }

    /// Takes the lease if it is free. After `None`, somebody else is at work: it has waited a moment;
    /// look whether the work is still to be done and try again.
    pub async fn try_take(&mut self) -> Result<Option<Lease>, TableError> {
        let row = self.region.table.get(&self.key).await?;
        let condition = match &row {
            None => Condition::Absent,
            Some(row) => {
                let since = match self.seen {
                    Some((revision, since)) if revision == row.revision => since,
                    _ => Instant::now(),
                };
                self.seen = Some((row.revision, since));
                if since.elapsed() < EXPIRES_AFTER {
                    tokio::time::sleep(POLL_EVERY).await;
                    return Ok(None);
                }
                Condition::Revision(row.revision)
            }
        };
        let revision = row.map_or(1, |row| row.revision + 1);
        let write = Write::put(self.key.clone(), condition, document(&self.region, &self.holder));
        match self.region.table.transact(vec![write]).await {
            Ok(()) => Ok(Some(Lease::held(self.region.clone(), self.key.clone(), self.holder.clone(), revision))),
            Err(TableError::ConditionFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn document(region: &Region, holder: &str) -> serde_json::Value {
    json!({ "holder": holder, EXPIRES_MEMBER: region.clock.now().as_second() + REMOVABLE_AFTER_SECONDS })
}

impl Lease {
    fn held(region: Region, key: Key, holder: String, revision: u64) -> Self {
        let (at, row) = (region.clone(), key.clone());
        let renewal = tokio::spawn(async move {
            let mut revision = revision;
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let write = Write::put(row.clone(), Condition::Revision(revision), document(&at, &holder));
                match at.table.transact(vec![write]).await {
                    Ok(()) => revision += 1,
                    // Stolen: the thief works on, so do we, and the head decides.
                    Err(TableError::ConditionFailed { .. }) => return,
                    Err(error) => tracing::debug!(%error, "could not renew a lease; trying again"),
                }
            }
        });
        Lease { region, key, renewal }
    }

    /// Lets the next one in at once.
    pub async fn release(self) {
        self.renewal.abort();
        let write = Write::delete(self.key.clone(), Condition::Any);
        if let Err(error) = self.region.table.transact(vec![write]).await {
            tracing::debug!(%error, "could not release a lease; it expires by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
