//! Links with a remote at one end. Checkpoints and the rows of [`reached`] answer most repeated events without a
//! request to either server.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::job::{PendingJob, RepositoryKey};
use super::link::{Link, SweepObserver, SweepTotals};
use super::lookup::{Lookup, LookupError, hint_of};
use super::pending::PendingJobs;
use super::request::{ClearJobs, Delivery, DeliveryRequest, DeliveryResult, PassRequest};
use crate::events::codecommit::{Rejection, StateChange, Subject};
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Head, HeadItem, RepositoryId, State};
use gitferry_engine::ledger::heads::{read_head, read_heads};
use gitferry_engine::region::Region;
use gitferry_replication::ReplicationError;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::mirror::checkpoint::Hint;
use gitferry_replication::mirror::report::MirrorOutcome;
use gitferry_replication::mirror::rows::GONE_AFTER;
use gitferry_replication::mirror::{Endpoint, RemoteLink};
use gitferry_replication::pass::{Report, Summary};
use gitferry_replication::progress::Progress;
use gitferry_store::table::{Table, TableError};
use reached::position_of;

mod reached;

#[async_trait]
impl Link for RemoteLink {
    fn name(&self) -> &str {
        RemoteLink::name(self)
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        RemoteLink::clock(self)
    }

    fn source_region(&self) -> Option<&Region> {
        self.source().region()
    }

    fn target_region(&self) -> Option<&Region> {
        self.target().region()
    }

    fn regions(&self) -> Vec<&Region> {
        [self.source().region(), self.target().region(), self.via()].into_iter().flatten().collect()
    }

    fn servers(&self) -> Vec<String> {
        let servers = [self.source(), self.target()].into_iter().filter_map(|end| match end {
            Endpoint::Region(_) => None,
            Endpoint::Remote(remote) => Some(remote.server()),
        });
        servers.collect::<BTreeSet<String>>().into_iter().collect()
    }

    fn table(&self) -> Option<&Arc<dyn Table>> {
        RemoteLink::table(self)
    }

    fn table_failed(&self, error: TableError) -> ReplicationError {
        RemoteLink::table_failed(self, error)
    }

    fn progress(&self) -> Arc<Progress> {
        RemoteLink::progress(self).clone()
    }

    async fn look_up(&self, change: &StateChange) -> Result<Lookup, LookupError> {
        match self.source().region() {
            Some(source) => look_up_in_region(self, source, change).await,
            None => Ok(look_up_by_name(self, change).await?),
        }
    }

    async fn undelivered(&self, ids: &[RepositoryId]) -> Result<Vec<RepositoryKey>, ReplicationError> {
        let Some(source) = self.source().region() else { return Ok(Vec::new()) };
        let CarriedHeads { items, unreadable } = carried_heads(self, source, ids).await?;
        let ids: Vec<RepositoryId> = items.iter().map(|item| item.id).collect();
        let reached = reached::read(self, &ids).await?;
        let behind = items.iter().zip(reached).filter(|(item, at)| *at < Some(position_of(&item.head.frontier)));
        Ok(behind.map(|(item, _)| item.id).chain(unreadable).map(RepositoryKey::Id).collect())
    }

    /// All repositories: those of a region that the link carries, those of a remote that are known.
    async fn to_sweep(&self) -> Result<Vec<RepositoryKey>, ReplicationError> {
        let Some(source) = self.source().region() else {
            let names: BTreeSet<String> =
                self.known_names().await?.into_iter().filter(|name| self.carries(name)).collect();
            return Ok(names.into_iter().map(|name| RepositoryKey::Name(name.into())).collect());
        };
        let ids = source.repositories().list().await.in_region(source)?;
        let CarriedHeads { items, unreadable } = carried_heads(self, source, &ids).await?;
        Ok(items.into_iter().map(|item| item.id).chain(unreadable).map(RepositoryKey::Id).collect())
    }

    async fn sweep(&self, observer: &dyn SweepObserver) -> Result<SweepTotals, ReplicationError> {
        for repository in self.to_sweep().await? {
            observer.throttle(1).await;
            observer.found(repository).await;
        }
        Ok(SweepTotals::default())
    }

    fn sweep_compares(&self) -> bool {
        false
    }

    async fn packs_aside(&self) -> Result<Option<u64>, ReplicationError> {
        Ok(None)
    }

    async fn deliver_request(
        &self,
        request: &DeliveryRequest,
        _: ClearJobs,
    ) -> Result<DeliveryResult, ReplicationError> {
        match &request.repository {
            RepositoryKey::Name(name) => deliver_name(self, name, request).await,
            RepositoryKey::Id(id) => deliver_id(self, *id, request).await,
        }
    }

    async fn deliver_pass(&self, request: &PassRequest<'_>) -> Result<Summary, ReplicationError> {
        match (request.names, request.hint) {
            ([name], Some(hint)) => self.pass_announced(name, hint).await,
            (names, _) => self.pass(names, request.concurrency).await,
        }
    }

    /// Does nothing: a pass over a remote has recorded its own failure.
    async fn record_failure(&self, _: &RepositoryKey, _: &ReplicationError) {}

    async fn oldest_undelivered(&self, _: &RepositoryKey) -> Result<Option<Timestamp>, ReplicationError> {
        Ok(None)
    }
}

/// Looks up an event about a remote, which has nothing but names.
async fn look_up_by_name(link: &RemoteLink, change: &StateChange) -> Result<Lookup, ReplicationError> {
    let name: Arc<str> = change.repository.as_str().into();
    if !link.carries(&name) {
        return Ok(Lookup::NotCarried);
    }
    let hint = hint_of(change);
    // A delivery under way may have read the source before this change, and bring back the value before it.
    if let Some(hint) = &hint
        && link.knows(&name, [hint]).await.map_err(|error| link.table_failed(error))?
        && jobs_of(link, &name).await?.is_empty()
    {
        return Ok(Lookup::Current);
    }
    Ok(Lookup::Pending(PendingJob::Event { name, token: link.clock().new_id(), hint }))
}

/// Looks up an event about a region, where the newest change counts.
async fn look_up_in_region(link: &RemoteLink, source: &Region, change: &StateChange) -> Result<Lookup, LookupError> {
    let (item, announced) = match &change.subject {
        Subject::Gitferry { id, frontier } => {
            (read_head(source.table(), *id).await.in_region(source)?, frontier.as_ref())
        }
        Subject::CodeCommit => (source.repositories().find(&change.repository).await.in_region(source)?, None),
    };
    let Some(item) = item else {
        if !link.carries(&change.repository) {
            return Ok(Lookup::NotCarried);
        }
        let (repository, region, link) = (change.repository.clone(), source.name().to_owned(), link.name().to_owned());
        return Err(Rejection::UnknownRepository { repository, region, link }.into());
    };
    if !is_carried(link, &item.head) {
        return Ok(Lookup::NotCarried);
    }
    let frontier = announced.unwrap_or(&item.head.frontier);
    if reached::read_one(link, item.id).await? >= Some(position_of(frontier)) {
        return Ok(Lookup::Current);
    }
    Ok(Lookup::Pending(PendingJob::Change { id: item.id, seq: frontier.seq }))
}

fn is_carried(link: &RemoteLink, head: &Head) -> bool {
    head.named && head.state != State::Deleted && link.carries(&head.name)
}

/// Repositories of a region that a link carries.
#[derive(Debug, Default)]
struct CarriedHeads {
    items: Vec<HeadItem>,
    /// Repositories whose head cannot be read: a delivery fails with the reason.
    unreadable: Vec<RepositoryId>,
}

async fn carried_heads(
    link: &RemoteLink,
    source: &Region,
    ids: &[RepositoryId],
) -> Result<CarriedHeads, ReplicationError> {
    let mut carried = CarriedHeads::default();
    for (id, read) in ids.iter().zip(read_heads(source.table(), ids).await.in_region(source)?) {
        match read {
            Ok(item) => carried.items.extend(item.filter(|item| is_carried(link, &item.head))),
            Err(LedgerError::BadHead { name: Some(name), .. }) if !link.carries(&name) => {}
            Err(_) => carried.unreadable.push(*id),
        }
    }
    Ok(carried)
}

/// The jobs that a repository of a remote has now, of all workers and invocations.
async fn jobs_of(link: &RemoteLink, name: &str) -> Result<Vec<PendingJob>, ReplicationError> {
    PendingJobs::of(link).of_name(name).await.map_err(|error| link.table_failed(error))
}

async fn deliver_name(
    link: &RemoteLink,
    name: &str,
    request: &DeliveryRequest,
) -> Result<DeliveryResult, ReplicationError> {
    // One pass answers all jobs that there are before it reads the source.
    let jobs = jobs_of(link, name).await?;
    let only_jobs = !request.compare && !request.jobs.is_empty() && link.table().is_some();
    if only_jobs && has_all(link, name, &jobs).await.map_err(|error| link.table_failed(error))? {
        return Ok(DeliveryResult { delivery: None, answered: jobs });
    }
    let report = link.deliver_once(name).await;
    if report.gone && give_up(link, name, jobs.len()).await.map_err(|error| link.table_failed(error))? {
        return Ok(DeliveryResult { delivery: None, answered: Vec::new() });
    }
    Ok(DeliveryResult { delivery: delivery_of(link, name, report).await?, answered: jobs })
}

/// Returns true if the target has every value that the jobs announce. Without a job left, another process has answered
/// those of the request.
async fn has_all(link: &RemoteLink, name: &str, jobs: &[PendingJob]) -> Result<bool, TableError> {
    if jobs.is_empty() {
        return Ok(true);
    }
    let hints = jobs.iter().map(|job| match job {
        PendingJob::Event { hint, .. } => hint.as_ref(),
        PendingJob::Change { .. } => None,
    });
    match hints.collect::<Option<Vec<&Hint>>>() {
        None => Ok(false),
        Some(hints) => link.knows(name, hints).await,
    }
}

/// Clears the jobs of a repository that is gone at the source and that are older than [`GONE_AFTER`]: their changes
/// never come. Younger jobs stay, as the repository may come back. Returns true if no job is left and the
/// link does not name the repository in full, so that it is not tried again.
async fn give_up(link: &RemoteLink, name: &str, jobs: usize) -> Result<bool, TableError> {
    let pending = PendingJobs::of(link);
    let now = link.clock().now();
    let old = pending.of_name_until(name, now.checked_sub(GONE_AFTER).unwrap_or(now)).await?;
    if !old.is_empty() {
        pending.clear(&old).await?;
        tracing::warn!(
            link = link.name(),
            repository = name,
            events = old.len(),
            "given up: the source says that there is no such repository, or that these credentials may not see it, and \
             events that announced its changes are older than {GONE_AFTER:#}; its copy stays. If it should be there, mend \
             that and run `gitferry replicate {} {name}`",
            link.name()
        );
    }
    Ok(old.len() >= jobs && !link.names_in_full(name))
}

async fn deliver_id(
    link: &RemoteLink,
    id: RepositoryId,
    request: &DeliveryRequest,
) -> Result<DeliveryResult, ReplicationError> {
    let nothing = DeliveryResult::nothing(&request.jobs);
    let Some(source) = link.source().region() else { return Ok(nothing) };
    let item = read_head(source.table(), id).await.in_region(source)?;
    let Some(item) = item.filter(|item| is_carried(link, &item.head)) else { return Ok(nothing) };
    if !request.compare && reached::read_one(link, id).await? >= Some(position_of(&item.head.frontier)) {
        return Ok(nothing);
    }
    let report = link.deliver_once(&item.head.name).await;
    let delivery = delivery_of(link, &item.head.name, report).await?;
    // A sweep that found nothing has nothing to note.
    if delivery.is_some() || !request.compare {
        reached::note(link, &item).await;
    }
    Ok(DeliveryResult { delivery, ..nothing })
}

async fn delivery_of(link: &RemoteLink, name: &str, report: Report) -> Result<Option<Delivery>, ReplicationError> {
    if let Some(error) = report.error {
        return Err(error);
    }
    let Some(carried) = report.carried.filter(MirrorOutcome::has_changed) else { return Ok(None) };
    let reached = match link.target().region() {
        // A read that fails costs nothing but time: the outbox announces the change as well.
        Some(region) => {
            region.repositories().find(name).await.ok().flatten().map(|item| (item.id, item.head.frontier.seq))
        }
        None => None,
    };
    Ok(Some(Delivery { changes: carried.edits(), lag_ms: None, reached }))
}
