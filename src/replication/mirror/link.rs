//! A link with a remote at one end, and a pass over it: many repositories at a time, each with retries.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use tokio::runtime::Handle;

use super::checkpoint::{Checkpoint, Hint};
use super::endpoint::Endpoint;
use super::ends::{End, EndHeadSetter, LinkEnds};
use super::error::MirrorError;
use super::explain::{Depth, DryRun, Explained};
use super::lease::{LeaseFence, PassLease};
use super::lfs::{LfsTask, LfsTransfer};
use super::names::LinkNames;
use super::parts::RemoteLinkParts;
use super::pass;
use super::policy::RefPolicy;
use super::push::LargePushFailures;
use super::report::MirrorOutcome;
use super::rows::Rows;
use super::status::RemoteStatus;
use super::task::MirrorTask;
use super::via::{Detour, Via};
use crate::ReplicationError;
use crate::pass::{DEFAULT_JOBS, MAX_JOBS, Report, Summary};
use crate::progress::Progress;
use gitferry_base::clock::Clock;
use gitferry_base::fault::crash_point;
use gitferry_base::retry::Attempts;
use gitferry_config::LfsMode;
use gitferry_engine::region::push::Missing;
use gitferry_engine::region::{Region, blocking};
use gitferry_store::table::{Table, TableError};

/// An open link with a remote at one end.
#[derive(Clone, Debug)]
pub struct RemoteLink {
    name: String,
    ends: LinkEnds,
    names: LinkNames,
    policy: Arc<RefPolicy>,
    lfs: LfsMode,
    lfs_missing: Missing,
    via: Option<Region>,
    rows: Rows,
    allow_empty: bool,
    progress: Arc<Progress>,
}

impl RemoteLink {
    /// A link of these parts. A source without refs does not empty its target.
    pub fn new(parts: RemoteLinkParts) -> Self {
        let RemoteLinkParts { name, source, target, repositories, names, policy, lfs, lfs_missing, via, table, clock } =
            parts;
        let in_region = source.region().or(target.region()).or(via.as_ref()).is_some();
        let owner = target.region().or(source.region()).map(|region| region.name().to_owned());
        let owner = owner.unwrap_or_else(|| format!("link {name}"));
        RemoteLink {
            ends: LinkEnds::new(&name, source, target),
            names: LinkNames::new(repositories, names, in_region),
            policy: Arc::new(policy),
            lfs,
            lfs_missing,
            via,
            rows: Rows::new(&name, owner, table, clock),
            allow_empty: false,
            progress: Arc::default(),
            name,
        }
    }

    /// Sets if a source without refs empties its target.
    pub fn allow_empty(&mut self, allow: bool) {
        self.allow_empty = allow;
    }

    /// The link with another clock for statistics and leases.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.rows.set_clock(clock);
        self
    }

    /// Name of the link in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// End that is read.
    pub fn source(&self) -> &Endpoint {
        self.ends.source()
    }

    /// End that is written.
    pub fn target(&self) -> &Endpoint {
        self.ends.target()
    }

    /// Region of the detour, if the link names one.
    pub fn via(&self) -> Option<&Region> {
        self.via.as_ref()
    }

    /// Table with checkpoints, statistics and leases, if the link has one.
    pub fn table(&self) -> Option<&Arc<dyn Table>> {
        self.rows.table()
    }

    /// Clock for statistics and leases.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.rows.clock()
    }

    /// Counters of the link's passes.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// An error of the link's table, with the region or link to which the table belongs.
    pub fn table_failed(&self, error: TableError) -> ReplicationError {
        self.rows.failed(error)
    }

    /// Returns true if the link mirrors a repository of this name.
    pub fn carries(&self, name: &str) -> bool {
        self.names.carries(name)
    }

    /// Returns true if the configuration names this repository in full.
    pub fn names_in_full(&self, name: &str) -> bool {
        self.names.has_in_full(name)
    }

    /// Known repositories of a remote, which cannot be listed: those that the configuration names in full, and those
    /// with a row in the link's table.
    pub async fn known_names(&self) -> Result<Vec<String>, ReplicationError> {
        self.names.known(&self.rows).await
    }

    async fn names_of(&self, names: &[String]) -> Result<Vec<String>, ReplicationError> {
        self.names.resolve(self.source(), &self.rows, names).await
    }

    /// Current name of a repository, of which the link may be asked by its id.
    async fn name_of(&self, name: &str) -> Result<String, ReplicationError> {
        let names = self.names_of(&[name.to_owned()]).await?;
        Ok(names.into_iter().next().unwrap_or_else(|| name.to_owned()))
    }

    /// Returns true if the target has the values of all these events, by the last checkpoint. Asks neither server, and
    /// returns false while a pass is under way.
    pub async fn knows<'h>(
        &self,
        name: &str,
        hints: impl IntoIterator<Item = &'h Hint> + Send,
    ) -> Result<bool, TableError> {
        self.rows.knows(name, &self.policy, hints).await
    }

    /// Predicts the next pass over one repository.
    pub async fn explain(&self, name: &str, depth: Depth) -> Result<Explained, ReplicationError> {
        let name = self.name_of(name).await?;
        let failed = |error| ReplicationError::Mirror { repository: name.clone(), error };
        let (row, _) = self.rows.read(&name).await.map_err(|error| failed(error.into()))?;
        self.predict(&name, row.checkpoint, depth).await.map_err(failed)
    }

    async fn predict(
        &self,
        name: &str,
        checkpoint: Option<Checkpoint>,
        depth: Depth,
    ) -> Result<Explained, MirrorError> {
        let dry_run = DryRun {
            ends: self.ends.open(name, true).await?,
            policy: self.policy.clone(),
            scans_all_history: self.scans_all_history(checkpoint.as_ref()),
            checkpoint,
            allow_empty: self.allow_empty,
            lfs: self.lfs,
            has_table: self.table().is_some(),
            via: self.via.clone(),
            depth,
            runtime: Handle::current(),
        };
        Ok(Explained {
            link: self.name.clone(),
            repository: name.into(),
            source: self.source().name().into(),
            target: self.target().name().into(),
            ..blocking(move || dry_run.run()).await?
        })
    }

    /// Status of each repository on the link, as far as its repositories can be listed.
    pub async fn status(&self) -> Result<Vec<RemoteStatus>, ReplicationError> {
        let names = self.names_of(&[]).await?;
        let all = stream::iter(&names).map(|name| self.repository_status(name)).buffered(DEFAULT_JOBS);
        Ok(all.collect().await)
    }

    /// Status of one repository. A row that cannot be read is an error: without it, nothing is known of the last pass.
    async fn repository_status(&self, name: &str) -> RemoteStatus {
        let row = match self.rows.read(name).await {
            Ok((row, _)) => row,
            Err(error) => return RemoteStatus::unreadable(name, &error),
        };
        let failed = |error| ReplicationError::Mirror { repository: name.into(), error };
        let explained = match self.name_of(name).await {
            Ok(name) => self.predict(&name, row.checkpoint.clone(), Depth::Refs).await.map_err(failed),
            Err(error) => Err(error),
        };
        RemoteStatus::of(name, row, explained)
    }

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
        PassLease::acquire(&self.rows, name).await.map(Some)
    }

    /// Records a failure. Returns true if the repository is gone at the source (see [`Rows::note_failure`]).
    async fn note_failure(&self, name: &str, error: &MirrorError) -> bool {
        let absent = self.ends.source_lacks(name, error);
        self.rows.note_failure(name, error, absent, self.names_in_full(name)).await
    }

    async fn attempt(
        &self,
        name: &str,
        lease: &PassLease,
        large_push_failures: &Arc<LargePushFailures>,
        mut outcome: MirrorOutcome,
    ) -> (Result<(), MirrorError>, MirrorOutcome) {
        let row = match self.rows.read(name).await {
            Ok(row) => row,
            Err(error) => return (Err(error.into()), outcome),
        };
        let checkpoint = row.0.checkpoint.clone();
        let (source, target) = match self.ends.open(name, false).await {
            Ok(ends) => ends,
            Err(error) => return (Err(error), outcome),
        };
        let link = self.clone();
        let runtime = Handle::current();
        let large_push_failures = large_push_failures.clone();
        let via = self.via.as_ref().map(|region| Via::new(region, name, &self.name, &self.progress, &runtime));
        let fence = LeaseFence::new(&self.rows, name, row, lease.lost());
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
            let result = pass::run(&task, &source, &target, &mut outcome);
            Ok::<_, MirrorError>((result, outcome, fence.into_row()))
        };
        let (result, outcome, row) = match blocking(working).await {
            Ok(done) => done,
            Err(error) => return (Err(error), MirrorOutcome::default()),
        };
        crash_point("remote-pushed");
        match result {
            Ok(checkpoint) => {
                self.rows.note_delivery(name, row, checkpoint, &outcome).await;
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
        LfsTask::new(ends, self.lfs_missing, scope, self.ends.actor(), progress, runtime.clone()).map(Some)
    }

    /// Returns true if LFS pointers are searched for in the whole history, instead of in what is new.
    fn scans_all_history(&self, checkpoint: Option<&Checkpoint>) -> bool {
        let is_complete = |last: &Checkpoint| last.policy == self.policy.fingerprint() && !last.lfs_again;
        !checkpoint.is_some_and(is_complete)
    }
}
