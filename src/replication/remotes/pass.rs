//! One pass over a link with a remote, many repositories at a time.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use globset::GlobSet;
use tokio::runtime::Handle;

use super::checkpoint::{Checkpoint, Hint};
use super::endpoint::Endpoint;
use super::ends::{End, EndHeads};
use super::error::RemotesError;
use super::gate::LinkGate;
use super::lfs::{LfsCarrier, LfsTask};
use super::policy::RefPolicy;
use super::push::Strain;
use super::relay::Task;
use super::report::Carried;
use super::turn::Turn;
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

/// A link with a remote at one end, ready to carry.
#[derive(Clone, Debug)]
pub struct RemoteLink {
    /// Its name.
    pub name: String,
    /// Read from here.
    pub source: Endpoint,
    /// Written to here.
    pub target: Endpoint,
    /// Matches the names of the repositories that it carries.
    pub repositories: GlobSet,
    /// Those that it names in full: a remote cannot be listed.
    pub names: Vec<String>,
    /// Which refs it carries, and what it may do to those at the target.
    pub policy: Arc<RefPolicy>,
    /// Whether it carries the objects of Git LFS.
    pub lfs: LfsMode,
    /// What becomes of a pass whose LFS objects are missing at the source.
    pub lfs_missing: Missing,
    /// Through where a pass goes when its source alone cannot serve it, if anywhere.
    pub via: Option<Region>,
    /// Where checkpoints and statistics are kept, if anywhere.
    pub table: Option<Arc<dyn Table>>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether a source without refs empties its target.
    pub allow_empty: bool,
    /// What the pass has done.
    pub progress: Arc<Progress>,
}

impl RemoteLink {
    /// Brings the targets of these repositories (or of all that the link names in full) to their sources, `jobs` at a
    /// time.
    pub async fn pass(&self, names: &[String], jobs: usize) -> Result<Summary, ReplicationError> {
        self.pass_with(names, None, jobs).await
    }

    /// Brings the target of one repository to its source, of which an event says something.
    pub async fn pass_announced(&self, name: &str, hint: &Hint) -> Result<Summary, ReplicationError> {
        self.pass_with(&[name.to_owned()], Some(hint), 1).await
    }

    async fn pass_with(&self, names: &[String], hint: Option<&Hint>, jobs: usize) -> Result<Summary, ReplicationError> {
        let start = Instant::now();
        let names = self.names_of(names).await?;
        let mut summary = Summary { link: self.name.clone(), repositories: names.len() as u64, ..Summary::default() };
        self.progress.repositories.add(summary.repositories);
        let mut reports =
            stream::iter(&names).map(|name| self.deliver(name, hint)).buffer_unordered(jobs.clamp(1, MAX_JOBS));
        while let Some(report) = reports.next().await {
            self.progress.repositories_done.add(1);
            summary.add(report);
        }
        summary.bytes_copied = self.progress.bytes_copied.get();
        summary.elapsed_ms = start.elapsed().as_millis() as i64;
        Ok(summary)
    }

    /// Brings one repository up to date, with as many attempts as make sense. With a `hint` whose news the last pass
    /// has carried already, neither server is asked. Where another pass is under way, that one goes on.
    pub async fn deliver(&self, name: &str, hint: Option<&Hint>) -> Report {
        self.deliver_with(name, hint, true).await
    }

    /// [`RemoteLink::deliver`] with a single attempt: for callers that wait elsewhere before the next one, and let
    /// others work meanwhile.
    pub async fn deliver_once(&self, name: &str) -> Report {
        self.deliver_with(name, None, false).await
    }

    async fn deliver_with(&self, name: &str, hint: Option<&Hint>, retries: bool) -> Report {
        let mut report = Report { repository: name.into(), ..Report::default() };
        let failed = |error| Some(ReplicationError::Remotes { repository: name.into(), error });
        let turn = match self.turn_for(name, hint).await {
            Ok(Some(turn)) => turn,
            Ok(None) => return report,
            Err(error) => return Report { error: failed(error), ..report },
        };
        let (mut attempts, mut carried) = (Attempts::default(), Carried::default());
        let strain = Arc::new(Strain::default());
        loop {
            let (result, so_far) = self.attempt(name, &turn, &strain, carried).await;
            carried = so_far;
            let Err(error) = result else { break };
            let over = turn.over().is_cancelled();
            if !over && retries && attempts.again(error.kind()).await {
                tracing::info!(%error, repository = name, "trying again");
                continue;
            }
            // Whoever has the turn now notes what it comes to.
            report.gone = !over && self.note_failure(name, &error).await;
            report.error = failed(error);
            break;
        }
        turn.end().await;
        report.retries = attempts.failed();
        report.carried = Some(carried).filter(|carried| !carried.is_nothing());
        report
    }

    /// `None` where there is nothing to do.
    async fn turn_for(&self, name: &str, hint: Option<&Hint>) -> Result<Option<Turn>, RemotesError> {
        if let Some(hint) = hint
            && self.knows(name, [hint]).await?
        {
            return Ok(None);
        }
        self.take_turn(name).await.map(Some)
    }

    async fn attempt(
        &self,
        name: &str,
        turn: &Turn,
        strain: &Arc<Strain>,
        mut carried: Carried,
    ) -> (Result<(), RemotesError>, Carried) {
        let (row, condition) = match self.row(name).await {
            Ok(found) => found,
            Err(error) => return (Err(error.into()), carried),
        };
        let checkpoint = row.checkpoint.clone();
        let (source, target) = match self.ends(name, false).await {
            Ok(ends) => ends,
            Err(error) => return (Err(error), carried),
        };
        let (link, runtime, strain) = (self.clone(), Handle::current(), strain.clone());
        let via = self.via.as_ref().map(|region| Via::new(region, name, &self.name, &self.progress, &runtime));
        let gate = LinkGate::new(self, name, (row, condition), turn.over());
        let working = move || {
            let lfs = link.lfs_task((&source, &target), checkpoint.as_ref(), &runtime)?;
            let heads = EndHeads { end: target.clone(), runtime };
            let task = Task {
                policy: &link.policy,
                limits: &target.limits(),
                heads: &heads,
                checkpoint: checkpoint.as_ref(),
                allow_empty: link.allow_empty,
                progress: &link.progress,
                lfs: lfs.as_ref().map(|lfs| lfs as &dyn LfsCarrier),
                detour: via.as_ref().map(|via| via as &dyn Detour),
                strain: &strain,
                gate: Some(&gate),
            };
            let result = task.carry(&source, &target, &mut carried);
            Ok::<_, RemotesError>((result, carried, gate.into_row()))
        };
        let (result, carried, (row, condition)) = match blocking(working).await {
            Ok(done) => done,
            Err(error) => return (Err(error), Carried::default()),
        };
        crash_point("remote-pushed");
        match result {
            Ok(checkpoint) => {
                self.note_delivery(name, row, condition, checkpoint, &carried).await;
                (Ok(()), carried)
            }
            Err(error) => (Err(error), carried),
        }
    }

    /// What brings the objects of Git LFS for one repository, if the link carries them. Where no complete pass is known to
    /// have done so by this policy, all of the history is looked at: without a table, in every pass.
    fn lfs_task(
        &self,
        ends: (&End, &End),
        checkpoint: Option<&Checkpoint>,
        runtime: &Handle,
    ) -> Result<Option<LfsTask>, RemotesError> {
        if self.lfs == LfsMode::Ignore {
            return Ok(None);
        }
        let (actor, progress) = (self.actor(), self.progress.clone());
        let remembered = checkpoint.map(Checkpoint::missing_pointers).unwrap_or_default();
        let look = (self.looks_at_all(checkpoint), remembered);
        LfsTask::new(ends, self.lfs_missing, look, &actor, progress, runtime.clone()).map(Some)
    }

    /// Whether pointers of Git LFS are looked for in all of the history.
    pub(super) fn looks_at_all(&self, checkpoint: Option<&Checkpoint>) -> bool {
        let is_complete = |last: &Checkpoint| last.policy == self.policy.fingerprint() && !last.lfs_again;
        !checkpoint.is_some_and(is_complete)
    }
}
