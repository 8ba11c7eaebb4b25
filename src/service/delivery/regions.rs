//! Links from a region to a region. Frontiers say which repositories differ.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::job::{PendingJob, RepositoryKey};
use super::link::{Link, SweepObserver, SweepTotals};
use super::lookup::{Lookup, LookupError};
use super::pending::PendingJobs;
use super::request::{ClearJobs, Delivery, DeliveryRequest, DeliveryResult, PassRequest};
use crate::events::codecommit::{Rejection, StateChange, Subject};
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::head::{Frontier, HeadItem, RepositoryId};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::Region;
use gitferry_replication::ReplicationError;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::link::Link as RegionLink;
use gitferry_replication::pass::Summary;
use gitferry_replication::progress::Progress;
use gitferry_replication::verified::{Verified, oldest};
use gitferry_store::table::{MAX_GET_KEYS, Table, TableError};

#[async_trait]
impl Link for RegionLink {
    fn name(&self) -> &str {
        &self.name
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.target.shared_clock()
    }

    fn source_region(&self) -> Option<&Region> {
        Some(&self.source)
    }

    fn target_region(&self) -> Option<&Region> {
        Some(&self.target)
    }

    fn regions(&self) -> Vec<&Region> {
        vec![&self.source, &self.target]
    }

    fn servers(&self) -> Vec<String> {
        Vec::new()
    }

    fn table(&self) -> Option<&Arc<dyn Table>> {
        Some(self.target.shared_table())
    }

    fn table_failed(&self, error: TableError) -> ReplicationError {
        ReplicationError::Region { region: self.target.name().to_owned(), error: error.into() }
    }

    fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    async fn look_up(&self, change: &StateChange) -> Result<Lookup, LookupError> {
        match &change.subject {
            Subject::Gitferry { id, frontier: Some(frontier) } => look_up_frontier(self, change, *id, *frontier).await,
            Subject::Gitferry { id, frontier: None } => look_up_name(self, change, &id.to_string()).await,
            Subject::CodeCommit => look_up_name(self, change, &change.repository).await,
        }
    }

    async fn undelivered(&self, ids: &[RepositoryId]) -> Result<Vec<RepositoryKey>, ReplicationError> {
        Ok(self.pairs_of(ids).await?.unsettled().map(RepositoryKey::Id).collect())
    }

    async fn to_sweep(&self) -> Result<Vec<RepositoryKey>, ReplicationError> {
        Ok(self.pairs(&[]).await?.unsettled().map(RepositoryKey::Id).collect())
    }

    /// Compares all frontiers, [`MAX_GET_KEYS`] repositories with each batched read.
    async fn sweep(&self, observer: &dyn SweepObserver) -> Result<SweepTotals, ReplicationError> {
        let ids = self.source.repositories().list().await.in_region(&self.source)?;
        let verified = Verified::new(&self.target, &self.name).read().await.in_region(&self.target)?;
        let mut on_link = 0;
        let mut unverified_since: Option<Timestamp> = None;
        for ids in ids.chunks(MAX_GET_KEYS) {
            observer.throttle(MAX_GET_KEYS).await;
            let pairs = self.pairs_of(ids).await?;
            on_link += pairs.sound.len() + pairs.broken.len();
            unverified_since = unverified_since.into_iter().chain(oldest(pairs.sound.iter(), &verified)).min();
            for id in pairs.unsettled() {
                observer.found(RepositoryKey::Id(id)).await;
            }
        }
        Ok(SweepTotals { repositories: Some(on_link), unverified_since })
    }

    fn sweep_compares(&self) -> bool {
        true
    }

    async fn packs_aside(&self) -> Result<Option<u64>, ReplicationError> {
        RegionLink::packs_aside(self).await.map(Some)
    }

    async fn deliver_request(
        &self,
        request: &DeliveryRequest,
        clear: ClearJobs,
    ) -> Result<DeliveryResult, ReplicationError> {
        // No link between regions has jobs by name.
        let RepositoryKey::Id(id) = request.repository else { return Ok(DeliveryResult::nothing(&request.jobs)) };
        let clearing = match clear {
            ClearJobs::WithCommit => PendingJobs::new(&self.target, &self.name).clearing(&request.jobs),
            ClearJobs::ByCaller => Vec::new(),
        };
        let Some(delivered) = self.deliver_with(id, &clearing).await? else {
            return Ok(DeliveryResult::nothing(&request.jobs));
        };
        let delivery =
            Delivery { changes: delivered.changes, lag_ms: Some(delivered.lag_ms), reached: Some((id, delivered.seq)) };
        let answered = if delivered.along { Vec::new() } else { request.jobs.clone() };
        Ok(DeliveryResult { delivery: Some(delivery), answered })
    }

    async fn deliver_pass(&self, request: &PassRequest<'_>) -> Result<Summary, ReplicationError> {
        self.pass(request.names, request.concurrency).await
    }

    async fn record_failure(&self, repository: &RepositoryKey, error: &ReplicationError) {
        if let RepositoryKey::Id(id) = repository {
            self.note_failure(*id, error).await;
        }
    }

    async fn oldest_undelivered(&self, repository: &RepositoryKey) -> Result<Option<Timestamp>, ReplicationError> {
        match repository {
            RepositoryKey::Id(id) => self.behind_since(*id).await,
            RepositoryKey::Name(_) => Ok(None),
        }
    }
}

/// Looks up an event that says which state the source has reached: the source is asked only about repositories that the
/// target has never heard of.
async fn look_up_frontier(
    link: &RegionLink,
    change: &StateChange,
    id: RepositoryId,
    frontier: Frontier,
) -> Result<Lookup, LookupError> {
    let target = read_head(link.target.table(), id).await.in_region(&link.target)?;
    if target.as_ref().is_some_and(|item| has_reached(item.head.frontier, frontier)) {
        return Ok(Lookup::Current);
    }
    let fed = target.as_ref().is_some_and(|item| item.head.fed_by.as_ref() == Some(&link.name));
    if !fed && !link.repositories.is_match(&change.repository) {
        return Ok(Lookup::NotCarried);
    }
    if target.is_none() && read_head(link.source.table(), id).await.in_region(&link.source)?.is_none() {
        return Err(unknown(link, &id.to_string()).into());
    }
    Ok(Lookup::Pending(PendingJob::Change { id, seq: frontier.seq }))
}

async fn look_up_name(link: &RegionLink, change: &StateChange, name: &str) -> Result<Lookup, LookupError> {
    let Some(source) = link.source.repositories().find(name).await.in_region(&link.source)? else {
        if link.repositories.is_match(&change.repository) {
            return Err(unknown(link, name).into());
        }
        return Ok(Lookup::NotCarried);
    };
    let target: Option<HeadItem> = read_head(link.target.table(), source.id).await.in_region(&link.target)?;
    if !link.carries(&source.head, target.as_ref()) {
        return Ok(Lookup::NotCarried);
    }
    match target {
        Some(target) if target.head.frontier == source.head.frontier => Ok(Lookup::Current),
        _ => Ok(Lookup::Pending(PendingJob::Change { id: source.id, seq: source.head.frontier.seq })),
    }
}

/// Returns true if a state includes another. Equal numbers with other hashes are a fork, which a delivery reports.
fn has_reached(now: Frontier, announced: Frontier) -> bool {
    now == announced || (now.epoch >= announced.epoch && now.seq > announced.seq)
}

fn unknown(link: &RegionLink, repository: &str) -> Rejection {
    Rejection::UnknownRepository {
        repository: repository.into(),
        region: link.source.name().to_owned(),
        link: link.name.clone(),
    }
}
