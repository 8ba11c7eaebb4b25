//! A link with a remote at one end, and a pass over it: many repositories at a time, each with retries.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use globset::GlobSet;
use tokio::runtime::Handle;

use super::checkpoint::{Checkpoint, Hint};
use super::endpoint::Endpoint;
use super::ends::{End, EndHeadSetter};
use super::error::MirrorError;
use super::lease::LeaseFence;
use super::lease::PassLease;
use super::lfs::{LfsTask, LfsTransfer};
use super::pass::MirrorTask;
use super::policy::RefPolicy;
use super::push::LargePushFailures;
use super::report::MirrorOutcome;
use super::via::{Detour, Via};
use crate::ReplicationError;
use crate::pass::{MAX_JOBS, Report, Summary};
use crate::progress::Progress;
use gitferry_base::clock::Clock;
use gitferry_base::fault::crash_point;
use gitferry_base::retry::Attempts;
use gitferry_config::LfsMode;
use gitferry_engine::region::push::Missing;
use gitferry_engine::region::{Region, blocking};
use gitferry_store::table::Table;

/// An open link with a remote at one end.
#[derive(Clone, Debug)]
pub struct RemoteLink {
    /// Name of the link in the configuration.
    pub name: String,
    /// End that is read.
    pub source: Endpoint,
    /// End that is written.
    pub target: Endpoint,
    /// Patterns for the names of the repositories on the link.
    pub repositories: GlobSet,
    /// Names that the configuration gives in full. They are the only ones known of a remote that was never mirrored: a
    /// remote cannot be listed.
    pub names: Vec<String>,
    /// Refs that are mirrored, and the changes that the target's refs may undergo.
    pub policy: Arc<RefPolicy>,
    /// Handling of Git LFS objects.
    pub lfs: LfsMode,
    /// Fate of a pass whose LFS objects are missing at the source.
    pub lfs_missing: Missing,
    /// Region through which objects go when the source alone cannot tell what the target lacks, or cannot split a
    /// history.
    pub via: Option<Region>,
    /// Table with checkpoints, statistics and leases. Without one, every pass starts from the refs alone.
    pub table: Option<Arc<dyn Table>>,
    /// Clock for statistics and leases.
    pub clock: Arc<dyn Clock>,
    /// True if a source without refs empties its target.
    pub allow_empty: bool,
    /// Counters of the pass.
    pub progress: Arc<Progress>,
}

impl RemoteLink {
    /// Mirrors these repositories, `jobs` at a time: all known ones if `names` is empty.
    pub async fn pass(&self, names: &[String], jobs: usize) -> Result<Summary, ReplicationError> {
        self.pass_with(names, None, jobs).await
    }

    /// Mirrors one repository after an event.
    pub async fn pass_announced(&self, name: &str, hint: &Hint) -> Result<Summary, ReplicationError> {
        self.pass_with(&[name.to_owned()], Some(hint), 1).await
    }

    async fn pass_with(&self, names: &[String], hint: Option<&Hint>, jobs: usize) -> Result<Summary, ReplicationError> {
        let start = Instant::now();
        let names = self.names_of(names).await?;
        let mut summary = Summary { link: self.name.clone(), repositories: names.len() as u64, ..Summary::default() };
        self.progress.repositories.add(summary.repositories);
        let mut reports = stream::iter(names)
            .map(|name| async move { self.deliver(&name, hint).await })
            .buffer_unordered(jobs.clamp(1, MAX_JOBS));
        while let Some(report) = reports.next().await {
            self.progress.repositories_done.add(1);
            summary.add(report);
        }
        summary.bytes_copied = self.progress.bytes_copied.get();
        summary.elapsed_ms = start.elapsed().as_millis() as i64;
        Ok(summary)
    }

    /// Mirrors one repository, retrying transient failures. Asks neither server if the last pass has already delivered
    /// the value in `hint`. Fails with [`MirrorError::LeaseHeld`] if another pass holds the repository's lease.
    pub async fn deliver(&self, name: &str, hint: Option<&Hint>) -> Report {
        self.deliver_with(name, hint, true).await
    }

    /// [`RemoteLink::deliver`] with a single attempt, for callers that keep their own backoff.
    pub async fn deliver_once(&self, name: &str) -> Report {
        self.deliver_with(name, None, false).await
    }

    async fn deliver_with(&self, name: &str, hint: Option<&Hint>, retries: bool) -> Report {
        let mut report = Report { repository: name.into(), ..Report::default() };
        let failed = |error| Some(ReplicationError::Mirror { repository: name.into(), error });
        let lease = match self.lease_for(name, hint).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return report,
            Err(error) => return Report { error: failed(error), ..report },
        };
        let mut attempts = Attempts::default();
        let mut outcome = MirrorOutcome::default();
        let large_push_failures = Arc::new(LargePushFailures::default());
        loop {
            let (result, so_far) = self.attempt(name, &lease, &large_push_failures, outcome).await;
            outcome = so_far;
            let Err(error) = result else { break };
            let lease_lost = lease.lost().is_cancelled();
            if !lease_lost && retries && attempts.again(error.kind()).await {
                tracing::info!(%error, repository = name, "trying again");
                continue;
            }
            // After a lost lease, the new holder writes the result of its own pass.
            report.gone = !lease_lost && self.note_failure(name, &error).await;
            report.error = failed(error);
            break;
        }
        lease.release().await;
        report.retries = attempts.failed();
        report.carried = Some(outcome).filter(|outcome| !outcome.is_nothing());
        report
    }

    /// Returns `None` if the hint's value is already at the target.
    async fn lease_for(&self, name: &str, hint: Option<&Hint>) -> Result<Option<PassLease>, MirrorError> {
        if let Some(hint) = hint
            && self.knows(name, [hint]).await?
        {
            return Ok(None);
        }
        self.acquire_lease(name).await.map(Some)
    }

    async fn attempt(
        &self,
        name: &str,
        lease: &PassLease,
        large_push_failures: &Arc<LargePushFailures>,
        mut outcome: MirrorOutcome,
    ) -> (Result<(), MirrorError>, MirrorOutcome) {
        let (row, condition) = match self.row(name).await {
            Ok(found) => found,
            Err(error) => return (Err(error.into()), outcome),
        };
        let checkpoint = row.checkpoint.clone();
        let (source, target) = match self.ends(name, false).await {
            Ok(ends) => ends,
            Err(error) => return (Err(error), outcome),
        };
        let link = self.clone();
        let runtime = Handle::current();
        let large_push_failures = large_push_failures.clone();
        let via = self.via.as_ref().map(|region| Via::new(region, name, &self.name, &self.progress, &runtime));
        let fence = LeaseFence::new(self, name, (row, condition), lease.lost());
        let working = move || {
            let lfs = link.lfs_task((&source, &target), checkpoint.as_ref(), &runtime)?;
            let heads = EndHeadSetter { end: target.clone(), runtime };
            let task = MirrorTask {
                policy: &link.policy,
                limits: &target.limits(),
                heads: &heads,
                checkpoint: checkpoint.as_ref(),
                allow_empty: link.allow_empty,
                progress: &link.progress,
                lfs: lfs.as_ref().map(|lfs| lfs as &dyn LfsTransfer),
                detour: via.as_ref().map(|via| via as &dyn Detour),
                large_push_failures: &large_push_failures,
                fence: Some(&fence),
            };
            let result = task.run(&source, &target, &mut outcome);
            Ok::<_, MirrorError>((result, outcome, fence.into_row()))
        };
        let (result, outcome, (row, condition)) = match blocking(working).await {
            Ok(done) => done,
            Err(error) => return (Err(error), MirrorOutcome::default()),
        };
        crash_point("remote-pushed");
        match result {
            Ok(checkpoint) => {
                self.note_delivery(name, row, condition, checkpoint, &outcome).await;
                (Ok(()), outcome)
            }
            Err(error) => (Err(error), outcome),
        }
    }

    /// Transfer of the LFS objects of one repository; `None` if the link ignores LFS. The whole history is scanned
    /// unless the checkpoint shows that a complete pass with the same policy has transferred everything, so in every
    /// pass without a table.
    fn lfs_task(
        &self,
        ends: (&End, &End),
        checkpoint: Option<&Checkpoint>,
        runtime: &Handle,
    ) -> Result<Option<LfsTask>, MirrorError> {
        if self.lfs == LfsMode::Ignore {
            return Ok(None);
        }
        let still_missing = checkpoint.map(Checkpoint::missing_pointers).unwrap_or_default();
        let scope = (self.scans_all_history(checkpoint), still_missing);
        let progress = self.progress.clone();
        LfsTask::new(ends, self.lfs_missing, scope, &self.actor(), progress, runtime.clone()).map(Some)
    }

    /// Returns true if LFS pointers are searched for in the whole history, instead of in what is new.
    pub(super) fn scans_all_history(&self, checkpoint: Option<&Checkpoint>) -> bool {
        let is_complete = |last: &Checkpoint| last.policy == self.policy.fingerprint() && !last.lfs_again;
        !checkpoint.is_some_and(is_complete)
    }
}
