//! A link as deliveries see it, between regions or with a remote at one end.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::job::RepositoryKey;
use super::lookup::{Lookup, LookupError};
use super::request::{ClearJobs, DeliveryRequest, DeliveryResult, PassRequest};
use crate::events::codecommit::StateChange;
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_replication::ReplicationError;
use gitferry_replication::pass::Summary;
use gitferry_replication::progress::Progress;
use gitferry_store::table::{Table, TableError};

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
    async fn look_up(&self, change: &StateChange) -> Result<Lookup, LookupError>;

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
