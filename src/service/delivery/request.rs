//! Requests to deliver, of one repository and of a pass, and the result of a delivery.

use super::job::{PendingJob, RepositoryKey};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_replication::mirror::checkpoint::Hint;

/// A request to deliver one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRequest {
    /// The repository.
    pub repository: RepositoryKey,
    /// The pending jobs that ask for the delivery.
    pub jobs: Vec<PendingJob>,
    /// True if both ends are compared whatever earlier passes have noted, as a sweep asks for.
    pub compare: bool,
}

impl DeliveryRequest {
    /// The request of one pending job.
    pub fn of_job(job: PendingJob) -> Self {
        DeliveryRequest { repository: job.repository(), jobs: vec![job], compare: false }
    }

    /// The request of a sweep.
    pub fn of_sweep(repository: RepositoryKey) -> Self {
        DeliveryRequest { repository, jobs: Vec::new(), compare: true }
    }
}

/// The moment at which pending jobs are cleared that a delivery has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearJobs {
    /// In the commit of the delivery, where the target is a region and there is a commit; by the caller otherwise.
    WithCommit,
    /// By the caller, once the delivery is announced.
    ByCaller,
}

/// Repositories of a pass.
#[derive(Clone, Copy, Debug)]
pub struct PassRequest<'a> {
    /// Names or ids; empty for all repositories of the link.
    pub names: &'a [String],
    /// The new value of a ref, as an event has it, where the pass is for the one repository of that event.
    pub hint: Option<&'a Hint>,
    /// Repositories to deliver at a time.
    pub concurrency: usize,
}

/// Changes that a delivery brought to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Changes of a region; where a remote is at one end, refs that changed.
    pub changes: u64,
    /// Age of the oldest of them in milliseconds, from its commit; `None` where a remote is at one end.
    pub lag_ms: Option<i64>,
    /// The repository of the target and its newest change, where the target is a region.
    pub reached: Option<(RepositoryId, u64)>,
}

/// Outcome of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryResult {
    /// The changes that the target received; `None` where it lacked none.
    pub delivery: Option<Delivery>,
    /// Jobs that the delivery has answered and that the caller has to clear.
    pub answered: Vec<PendingJob>,
}

impl DeliveryResult {
    /// A delivery that found nothing to do.
    pub(super) fn nothing(answered: &[PendingJob]) -> Self {
        DeliveryResult { delivery: None, answered: answered.to_vec() }
    }
}
