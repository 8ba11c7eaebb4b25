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
use crate::clock::Clock;

/// A holder rewrites its lease this often.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A lease that nobody rewrote for this long is free.
const EXPIRES_AFTER: Duration = Duration::from_secs(8);
/// A table may remove the row of a lease that nobody rewrote for this many seconds.
const REMOVABLE_AFTER_SECONDS: i64 = 24 * 60 * 60;
/// How often a waiter looks.
const POLL_EVERY: Duration = Duration::from_millis(500);

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
    seen: Option<(u64, Instant)>,
}

impl Waiter {
    /// A waiter for the lease of this key.
    pub fn new(table: &Arc<dyn Table>, clock: &Arc<dyn Clock>, key: Key) -> Self {
        let holder = clock.new_id().to_string();
        Waiter { claim: Claim { table: table.clone(), clock: clock.clone(), key, holder }, seen: None }
    }

    /// Takes the lease if it is free. After `None`, somebody else is at work: it has waited a moment;
    /// look whether the work is still to be done and try again.
    pub async fn try_take(&mut self) -> Result<Option<Lease>, TableError> {
        let row = self.claim.table.get(&self.claim.key).await?;
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
        match self.claim.table.transact(vec![self.claim.write(condition)]).await {
            Ok(()) => Ok(Some(Lease::held(self.claim.clone(), revision))),
            Err(TableError::ConditionFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Lease {
    fn held(claim: Claim, revision: u64) -> Self {
        let lost = CancellationToken::new();
        let renewal = tokio::spawn(renew(claim.clone(), revision, lost.clone()));
        Lease { claim, lost, renewal }
    }

    /// Cancelled when somebody else may have it, and when it is dropped.
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

    /// Takes the row away, unless somebody else has taken it over.
    async fn take_away(&self) -> Result<(), TableError> {
        let Claim { table, key, .. } = &self.claim;
        let Some(row) = table.get(key).await?.filter(|row| self.claim.is_ours(row)) else { return Ok(()) };
        table.transact(vec![Write::delete(key.clone(), Condition::Revision(row.revision))]).await
    }
}

/// Rewrites the row until somebody else has it.
async fn renew(claim: Claim, mut revision: u64, lost: CancellationToken) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match claim.table.transact(vec![claim.write(Condition::Revision(revision))]).await {
            Ok(()) => (revision, renewed) = (revision + 1, Instant::now()),
            // Between regions the thief works on, so do we, and the head decides.
            Err(TableError::ConditionFailed { .. }) => return lost.cancel(),
            Err(error) => {
                tracing::debug!(%error, "could not renew a lease; trying again");
                if renewed.elapsed() >= EXPIRES_AFTER {
                    lost.cancel();
                }
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        self.lost.cancel();
    }
}
