//! Leases keep two processes from doing the same work at the same time.
//!
//! Between regions and in consolidation, leases serve liveness only: the conditional write of the head or manifest
//! guarantees correctness, and a lost lease costs duplicate work. For a remote, the lease keeps a delivery with stale
//! refs from pushing after a newer one, so a delivery must stop once it loses the lease.
//!
//! A lease is alive as long as its holder rewrites its row. A waiter watches the row's revision on its own monotonic
//! clock, so clocks of different machines are never compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Condition, EXPIRES_MEMBER, Item, Key, Table, TableError, Write, next_revision};
use gitferry_base::clock::Clock;

/// Interval between renewals by the holder.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Time without a renewal after which a lease is free.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(8);
const _: () = assert!(RENEW_EVERY.as_secs() * 3 <= EXPIRES_AFTER.as_secs(), "a holder has several attempts to renew");
/// Seconds without a renewal after which the table may remove the row.
const REMOVABLE_AFTER_SECONDS: i64 = 24 * 60 * 60;
/// Interval at which a waiter polls the row.
pub const POLL_EVERY: Duration = Duration::from_millis(500);

/// Row of a lease and the identity of the holder that claims it.
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

/// A held lease, renewed in the background until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    claim: Claim,
    lost: CancellationToken,
    renewal: JoinHandle<()>,
}

/// Watches the row of one lease until the lease is free.
#[derive(Debug)]
pub struct Waiter {
    claim: Claim,
    /// Revision and holder at the last poll, and the time since which both are unchanged.
    seen: Option<((u64, Option<serde_json::Value>), Instant)>,
}

impl Waiter {
    /// Creates a waiter for the lease at `key`.
    pub fn new(table: &Arc<dyn Table>, clock: &Arc<dyn Clock>, key: Key) -> Self {
        let holder = clock.new_id().to_string();
        Waiter { claim: Claim { table: table.clone(), clock: clock.clone(), key, holder }, seen: None }
    }

    /// Takes the lease if it is free. Returns `None`, after a pause of [`POLL_EVERY`], if another process holds it:
    /// check if the work is still pending and try again.
    pub async fn try_take(&mut self) -> Result<Option<Lease>, TableError> {
        let row = self.claim.table.get(&self.claim.key).await?;
        let condition = match &row {
            None => Condition::Absent,
            Some(row) => {
                // The row is deleted on release, so revisions repeat and the holder must be compared, too.
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
        let revision = row.map_or(1, |row| next_revision(row.revision));
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

    /// Token that is cancelled when another process may hold the lease, and on drop.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Deletes the row, so that the next waiter takes the lease at once.
    pub async fn release(self) {
        self.renewal.abort();
        if let Err(error) = self.delete_row().await {
            tracing::debug!(%error, key = %self.claim.key, "cannot release a lease; it expires by itself");
        }
    }

    /// Deletes the row unless another holder has taken it over.
    async fn delete_row(&self) -> Result<(), TableError> {
        let Claim { table, key, .. } = &self.claim;
        let Some(row) = table.get(key).await?.filter(|row| self.claim.is_ours(row)) else { return Ok(()) };
        table.transact(vec![Write::delete(key.clone(), Condition::Revision(row.revision))]).await
    }
}

/// Renews the lease until another holder has it or may have it: after [`EXPIRES_AFTER`] without a confirmed renewal the
/// lease counts as lost, even if a request is still in flight.
async fn renew(claim: Claim, mut revision: u64, mut renewed: Instant, lost: CancellationToken) {
    loop {
        let next = async {
            tokio::time::sleep(RENEW_EVERY).await;
            let began = Instant::now();
            claim.renew(revision).await.map(|revision| (revision, began))
        };
        match tokio::time::timeout_at((renewed + EXPIRES_AFTER).into(), next).await {
            Ok(Ok((next_revision, began))) => {
                revision = next_revision;
                renewed = began;
            }
            // Between regions both holders go on, and the head decides.
            Ok(Err(Renewal::Lost)) | Err(_) => return lost.cancel(),
            Ok(Err(Renewal::Failed(error))) => {
                tracing::debug!(%error, key = %claim.key, "cannot renew a lease; trying again");
            }
        }
    }
}

/// Failure of a renewal.
enum Renewal {
    /// Another process holds the lease, or its row is gone.
    Lost,
    /// The table failed.
    Failed(TableError),
}

impl Claim {
    /// Rewrites the row and returns its new revision. An ambiguous write is resolved by reading back.
    async fn renew(&self, revision: u64) -> Result<u64, Renewal> {
        match self.table.transact(vec![self.write(Condition::Revision(revision))]).await {
            Ok(()) => return Ok(next_revision(revision)),
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
