//! The states that a push sees, and the queues in which the pushes of a host wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::admission::ComputePermit;
use crate::views::Views;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Result;
use gitferry_engine::region::push::{CommitPermit, PushState, PushStates, Unborn};

/// Longest wait of a push for earlier pushes to the same repository. After that it competes with them for the head.
const MAX_COMMIT_WAIT: Duration = Duration::from_secs(10);

/// Queues of the pushes to each repository: those of one host commit one at a time.
#[derive(Debug, Default)]
pub struct CommitQueues(Mutex<HashMap<RepositoryId, Arc<tokio::sync::Mutex<()>>>>);

impl CommitQueues {
    /// Waits for earlier pushes to a repository; `None` after [`MAX_COMMIT_WAIT`].
    async fn permit(&self, id: RepositoryId, compute: &ComputePermit) -> Option<CommitPermit> {
        let lock = {
            let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // A queue that no push holds or waits for has no reference but the one in the map.
            queues.retain(|other, lock| *other == id || Arc::strong_count(lock) > 1);
            queues.entry(id).or_default().clone()
        };
        if let Ok(held) = lock.clone().try_lock_owned() {
            return Some(CommitPermit::new(held));
        }
        let held = compute.release_while_awaiting(tokio::time::timeout(MAX_COMMIT_WAIT, lock.lock_owned())).await;
        held.ok().map(CommitPermit::new)
    }
}

/// Target of a push, fixed when the push begins.
#[derive(Debug)]
pub enum PushTarget {
    /// The repository of this id. The push never goes to another one, even if the name changes hands.
    Existing(RepositoryId),
    /// A repository that the push creates.
    Unborn(Box<Unborn>),
}

/// The current state of the target of a push, which reads it again after each conflict. The push queues with the other
/// pushes of this host, and releases its compute permit while it waits.
#[derive(Debug)]
pub struct QueuedStates<'a> {
    /// Target of the push.
    pub target: PushTarget,
    /// Name of the repository.
    pub name: &'a str,
    /// True if links push to this repository (`mirror` of the push policy).
    pub mirror: bool,
    /// Cache that opens the repository.
    pub views: &'a Views,
    /// Queues of the host.
    pub queues: &'a CommitQueues,
    /// Compute permit of the push.
    pub compute: &'a ComputePermit,
}

#[async_trait]
impl PushStates for QueuedStates<'_> {
    async fn state(&self) -> Result<PushState> {
        match &self.target {
            PushTarget::Unborn(unborn) => PushStates::state(&**unborn).await,
            PushTarget::Existing(id) => {
                let opened = self.views.open_by_id(self.name, *id).await?;
                self.views.for_push(&opened, self.mirror).await
            }
        }
    }

    async fn commit_permit(&self, id: RepositoryId) -> Option<CommitPermit> {
        self.queues.permit(id, self.compute).await
    }
}
