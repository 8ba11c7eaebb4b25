//! A link as deliveries see it, between regions or with a remote at one end.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::intake::{IntakeError, Lookup};
use super::pending::PendingJob;
use super::run::{Delivery, PassRequest};
use crate::events::codecommit::StateChange;
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_replication::ReplicationError;
use gitferry_replication::pass::Summary;
use gitferry_replication::progress::Progress;
use gitferry_store::table::{Table, TableError};

/// Names a repository of a link. A region knows its repositories by an id that outlives the name; a remote knows only
/// names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryKey {
    /// A repository of a source that is a region.
    Id(RepositoryId),
    /// A repository of a source that is a remote.
    Name(Arc<str>),
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepositoryKey::Id(id) => id.fmt(f),
            RepositoryKey::Name(name) => name.fmt(f),
        }
    }
}

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

/// Totals of a sweep over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepTotals {
    /// Repositories on the link; `None` where a sweep does not count them.
    pub repositories: Option<usize>,
    /// Oldest of the last verifications of the target's repositories; `None` while the target has none.
    pub unverified_since: Option<Timestamp>,
}

/// Receives the repositories that a sweep finds, and sets its rate.
#[async_trait]
pub trait SweepObserver: Send + Sync {
    /// Waits until the sweep may read or report this many more repositories.
    async fn throttle(&self, repositories: usize);

    /// Takes a repository that has to be delivered.
    async fn found(&self, repository: RepositoryKey);
}

/// A configured replication from a source to a target, ready to deliver.
///
/// *Invariant:* a job stays in the link's table until the target has the change that the job stands for, or until the
/// link no longer carries the repository.
#[async_trait]
pub trait Link: fmt::Debug + Send + Sync {
    /// Name in the configuration.
    fn name(&self) -> &str;

    /// Source of time for jobs and statistics.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// The source, where it is a region.
    fn source_region(&self) -> Option<&Region>;

    /// The target, where it is a region.
    fn target_region(&self) -> Option<&Region>;

    /// All regions that the link reads or writes.
    fn regions(&self) -> Vec<&Region>;

    /// The Git servers at the ends of the link, each once, as scheme, host and port. A region is none.
    fn servers(&self) -> Vec<String>;

    /// The table of pending jobs. A link without one keeps no jobs, and has no queue.
    fn table(&self) -> Option<&Arc<dyn Table>>;

    /// An error of [`Link::table`], with the region or link to which the table belongs.
    fn table_failed(&self, error: TableError) -> ReplicationError;

    /// Counters of the passes over this link.
    fn progress(&self) -> Arc<Progress>;

    /// Compares an announced change with the target. Nothing is written.
    async fn look_up(&self, change: &StateChange) -> Result<Lookup, IntakeError>;

    /// Returns those repositories of the source region that the link carries and of which the target lacks changes.
    async fn undelivered(&self, ids: &[RepositoryId]) -> Result<Vec<RepositoryKey>, ReplicationError>;

    /// Returns the repositories that a sweep has to deliver: those that differ, or all where only a comparison of the
    /// refs shows that.
    async fn to_sweep(&self) -> Result<Vec<RepositoryKey>, ReplicationError>;

    /// [`Link::to_sweep`] at the rate of an observer, which receives the repositories one by one.
    async fn sweep(&self, observer: &dyn SweepObserver) -> Result<SweepTotals, ReplicationError>;

    /// Returns true if a sweep compares both ends before it reports a repository, so that each reported one is behind.
    fn sweep_compares(&self) -> bool;

    /// Counts the damaged packs that are set aside in both regions; `None` for a link with a remote.
    async fn packs_aside(&self) -> Result<Option<u64>, ReplicationError>;

    /// Delivers one repository, in a single attempt.
    async fn deliver_request(
        &self,
        request: &DeliveryRequest,
        clear: ClearJobs,
    ) -> Result<DeliveryResult, ReplicationError>;

    /// Delivers the repositories of a pass, several at a time, each with several attempts.
    async fn deliver_pass(&self, request: &PassRequest<'_>) -> Result<Summary, ReplicationError>;

    /// Records a failed delivery in the statistics of the link, as well as the table allows.
    async fn record_failure(&self, repository: &RepositoryKey, error: &ReplicationError);

    /// Returns the commit time of the oldest change that the target lacks; `None` where the target lacks none, and
    /// where the source is a remote, which has no such time.
    async fn oldest_undelivered(&self, repository: &RepositoryKey) -> Result<Option<Timestamp>, ReplicationError>;
}
