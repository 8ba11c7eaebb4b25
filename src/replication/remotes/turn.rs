//! One pass at a time over each repository: a pass that has looked at both sides before another one, and pushes after it,
//! would bring back what that one has replaced.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::RemotesError;
use super::pass::RemoteLink;
use gitferry_engine::ledger::keys;
use gitferry_store::table::lease::{Lease, Waiter};

/// How long a pass waits for another one: longer than the lease of one that is dead stays.
const MAX_WAIT: Duration = Duration::from_secs(12);

/// The right to carry a repository. Without a table there is nobody to share it with.
pub(super) struct Turn {
    lease: Option<Lease>,
    over: CancellationToken,
    _over: DropGuard,
}

impl Turn {
    /// Cancelled when the pass must not push any more: nobody waits for it, or somebody else has taken its turn.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Lets the next one in.
    pub async fn end(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

impl RemoteLink {
    /// Waits a moment for those who carry the repository.
    pub(super) async fn take_turn(&self, name: &str) -> Result<Turn, RemotesError> {
        let lease = match &self.table {
            None => None,
            Some(table) => {
                let mut waiter = Waiter::new(table, &self.clock, keys::remote_lease(&self.name, name));
                let until = Instant::now() + MAX_WAIT;
                loop {
                    match waiter.try_take().await? {
                        Some(lease) => break Some(lease),
                        None if Instant::now() >= until => return Err(RemotesError::UnderWay),
                        None => {}
                    }
                }
            }
        };
        let over = lease.as_ref().map_or_else(CancellationToken::new, |lease| lease.lost().clone());
        Ok(Turn { lease, _over: over.clone().drop_guard(), over })
    }
}
