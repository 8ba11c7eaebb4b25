//! Leases: two processes should not do the same work side by side.
//!
//! Between regions and in consolidation, liveness only: correctness is the conditional write of head or manifest; a
//! lease that is lost or stolen costs work, nothing else. To and from a remote it keeps a pass with an old look at both
//! sides from pushing after a newer one, so that a pass that loses it has to stop. A lease is alive as long as its
//! holder rewrites it: a waiter watches the row's revision on its own monotonic clock, so no two clocks are compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Condition, EXPIRES_MEMBER, Item, Key, Table, TableError, Write};
use gitferry_base::clock::Clock;

/// A holder rewrites its lease this often.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A lease that no holder rewrote for this long is free.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(8);
/// A table may remove the row of a lease that no holder rewrote for this many seconds.
const REMOVABLE_AFTER_SECONDS: i64 = 24 * 60 * 60;
/// How often a waiter looks.
pub const POLL_EVERY: Duration = Duration::from_millis(500);

/// The row of a lease, and who would hold it.
#[derive(Clone, Debug)]
struct Claim {
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    key: Key,
    holder: String,
}

impl Claim {
    fn write(&self, condition: Condition) -> Write {
        let expires = self.clock.now().as_second() + REMOVABLE_AFTER_SECONDS;
        Write::put(self.key.clone(), condition, json!({ "holder": self.holder, EXPIRES_MEMBER: expires }))
    }

    fn is_ours(&self, row: &Item) -> bool {
        row.document.get("holder").and_then(|holder| holder.as_str()) == Some(&self.holder)
    }
}

/// A lease that is held; renewed in the background until it is released.
#[derive(Debug)]
pub struct Lease {
    claim: Claim,
    lost: CancellationToken,
    renewal: JoinHandle<()>,
}

/// Watches one lease row until it can be taken.
#[derive(Debug)]
pub struct Waiter {
    claim: Claim,
    /// Revision and holder of the row as they were seen last, and since when.
    seen: Option<((u64, Option<serde_json::Value>), Instant)>,
}

impl Waiter {
    /// A waiter for the lease of this key.
    pub fn new(table: &Arc<dyn Table>, clock: &Arc<dyn Clock>, key: Key) -> Self {
        let holder = clock.new_id().to_string();
        Waiter { claim: Claim { table: table.clone(), clock: clock.clone(), key, holder }, seen: None }
    }

    /// Takes the lease if it is free. After `None`, another process is at work: it has waited a moment;
    /// look whether the work is still to be done and try again.
    pub async fn try_take(&mut self) -> Result<Option<Lease>, TableError> {
        let row = self.claim.table.get(&self.claim.key).await?;
        let condition = match &row {
            None => Condition::Absent,
            Some(row) => {
                // A released lease goes with its row, and the next holder's begins with revision 1 again.
                let now = (row.revision, row.document.get("holder").cloned());
                let since = match &self.seen {
                    Some((seen, since)) if *seen == now => *since,
                    _ => Instant::now(),
                };
                self.seen = Some((now, since));
                if since.elapsed() < EXPIRES_AFTER {
                    tokio::time::sleep(POLL_EVERY).await;
                    return Ok(None);
                }
                Condition::Revision(row.revision)
            }
        };
        let revision = row.map_or(1, |row| row.revision + 1);
        let began = Instant::now();
        match self.claim.table.transact(vec![self.claim.write(condition)]).await {
            Ok(()) => Ok(Some(Lease::held(self.claim.clone(), revision, began))),
            Err(TableError::ConditionFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Lease {
    fn held(claim: Claim, revision: u64, began: Instant) -> Self {
        let lost = CancellationToken::new();
        let renewal = tokio::spawn(renew(claim.clone(), revision, began, lost.clone()));
        Lease { claim, lost, renewal }
    }

    /// Cancelled when another process may have it, and when it is dropped.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Lets the next one in at once.
    pub async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.take_away().await {
            tracing::debug!(%error, "could not release a lease; it expires by itself");
        }
    }

    /// Takes the row away, unless another holder has taken it over.
    async fn take_away(&self) -> Result<(), TableError> {
        let Claim { table, key, .. } = &self.claim;
        let Some(row) = table.get(key).await?.filter(|row| self.claim.is_ours(row)) else { return Ok(()) };
        table.transact(vec![Write::delete(key.clone(), Condition::Revision(row.revision))]).await
    }
}

/// Rewrites the row until another holder has it, or until one could: a holder that has not heard of a renewal for as
/// long as a waiter waits has lost the lease, whether or not a request is still under way.
async fn renew(claim: Claim, mut revision: u64, mut renewed: Instant, lost: CancellationToken) {
    loop {
        let next = async {
            tokio::time::sleep(RENEW_EVERY).await;
            let began = Instant::now();
            claim.renew(revision).await.map(|revision| (revision, began))
        };
        match tokio::time::timeout_at((renewed + EXPIRES_AFTER).into(), next).await {
            Ok(Ok((now, began))) => (revision, renewed) = (now, began),
            // Between regions the thief works on, so do we, and the head decides.
            Ok(Err(Renewal::Lost)) | Err(_) => return lost.cancel(),
            Ok(Err(Renewal::Failed(error))) => tracing::debug!(%error, "could not renew a lease; trying again"),
        }
    }
}

/// Why a renewal did not happen.
enum Renewal {
    /// Another holder has the lease, or none has.
    Lost,
    /// The table failed.
    Failed(TableError),
}

impl Claim {
    /// Rewrites the row; its new revision. A write that may have happened is read back.
    async fn renew(&self, revision: u64) -> Result<u64, Renewal> {
        match self.table.transact(vec![self.write(Condition::Revision(revision))]).await {
            Ok(()) => return Ok(revision + 1),
            Err(TableError::ConditionFailed { .. } | TableError::Unavailable { ambiguous: true, .. }) => {}
            Err(error) => return Err(Renewal::Failed(error)),
        }
        match self.table.get(&self.key).await {
            Ok(Some(row)) if self.is_ours(&row) => Ok(row.revision),
            Ok(_) => Err(Renewal::Lost),
            Err(error) => Err(Renewal::Failed(error)),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        self.lost.cancel();
    }
}
