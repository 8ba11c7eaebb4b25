//! One pass at a time per repository: the lease, and the fence that every push goes through.
//!
//! A pass that has listed the refs of both sides before another pass, and pushes after it, would bring back what the
//! other pass has replaced. The lease keeps passes apart; every push also names the old values that its pass has seen,
//! so that the lease is needed for liveness only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::MirrorError;
use super::rows::{RemoteRow, Rows};
use gitferry_engine::ledger::keys;
use gitferry_store::table::lease::{Lease, Waiter};
use gitferry_store::table::{Condition, TableError};

/// Longest wait for another pass to finish. Longer than the lease of a dead process lasts.
const MAX_WAIT: Duration = Duration::from_secs(12);

/// The exclusive right to deliver one repository of a link. A link without a table has no other process to exclude, and
/// its lease is always granted.
pub(super) struct PassLease {
    lease: Option<Lease>,
    lost: CancellationToken,
    _cancel_on_drop: DropGuard,
}

impl PassLease {
    /// Acquires the lease of a repository, waiting up to [`MAX_WAIT`] for its holder.
    ///
    /// # Errors
    /// [`MirrorError::LeaseHeld`] if the lease is still held then.
    pub async fn acquire(rows: &Rows, name: &str) -> Result<PassLease, MirrorError> {
        let lease = match rows.table() {
            None => None,
            Some(table) => {
                let mut waiter = Waiter::new(table, rows.clock(), keys::remote_lease(rows.link(), name));
                let until = Instant::now() + MAX_WAIT;
                loop {
                    match waiter.try_take().await? {
                        Some(lease) => break Some(lease),
                        None if Instant::now() >= until => return Err(MirrorError::LeaseHeld),
                        None => {}
                    }
                }
            }
        };
        let lost = lease.as_ref().map_or_else(CancellationToken::new, |lease| lease.lost().clone());
        let cancel_on_drop = lost.clone().drop_guard();
        Ok(PassLease { lease, lost, _cancel_on_drop: cancel_on_drop })
    }

    /// Token that is cancelled when the pass must push no more: another process has taken the lease, or the future that
    /// waited for the pass was dropped.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Ends the lease, so that the next pass need not wait for its expiry.
    pub async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

/// Permission for each push of a pass. Blocking.
pub trait Fence: Sync {
    /// Fails where the pass must not push (any more).
    fn before_push(&self) -> Result<(), MirrorError>;
}

/// Fence of a pass that holds a [`PassLease`].
///
/// Marks the repository's row as under way before the first push, so that a process that dies between that push and its
/// checkpoint leaves a row that confirms the value of no ref. Refuses pushes once the lease is lost.
pub(super) struct LeaseFence {
    rows: Rows,
    name: String,
    runtime: Handle,
    lost: CancellationToken,
    /// The row as last read or written by this pass, and the condition on which it may be replaced.
    row: Mutex<(RemoteRow, Condition)>,
}

impl LeaseFence {
    /// A fence for a pass that has read this row.
    pub fn new(rows: &Rows, name: &str, row: (RemoteRow, Condition), lost: &CancellationToken) -> LeaseFence {
        LeaseFence {
            rows: rows.clone(),
            name: name.into(),
            runtime: Handle::current(),
            lost: lost.clone(),
            row: Mutex::new(row),
        }
    }

    /// The row after the last push, and the condition on which it may be replaced.
    pub fn into_row(self) -> (RemoteRow, Condition) {
        self.row.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes that refs are about to move, where the row still names recent values of refs.
    fn mark_under_way(&self) -> Result<(), MirrorError> {
        let mut current = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, condition) = &*current;
        let Condition::Revision(revision) = *condition else { return Ok(()) };
        if !row.has_recent_refs() {
            return Ok(());
        }
        let row = RemoteRow { under_way: true, ..row.clone() };
        match self.runtime.block_on(self.rows.replace(&self.name, *condition, &row)) {
            Ok(()) => *current = (row, Condition::Revision(revision + 1)),
            // Another pass has written the row: the refs that this pass has listed are out of date.
            Err(MirrorError::Table(TableError::ConditionFailed { .. })) => return Err(MirrorError::LeaseHeld),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Fence for LeaseFence {
    fn before_push(&self) -> Result<(), MirrorError> {
        self.mark_under_way()?;
        // The blocking thread outlives a dropped future, and a process that was frozen for hours resumes here.
        if self.lost.is_cancelled() { Err(MirrorError::LeaseLost) } else { Ok(()) }
    }
}
