//! Running deliveries: one repository for the worker and the Lambda function, a pass for the commands.

use super::job::{PendingJob, RepositoryKey};
use super::link::Link;
use super::pending::PendingJobs;
use super::request::{ClearJobs, Delivery, DeliveryRequest, PassRequest};
use crate::events::outbox::Publisher;
use gitferry_base::retry::Attempts;
use gitferry_engine::announce::{Event, Sink};
use gitferry_replication::ReplicationError;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::pass::Summary;

/// Receiver of the announcement that the target has changed.
#[derive(Clone, Copy, Debug)]
pub enum Announce<'a> {
    /// None. Jobs are cleared in the commit of the delivery.
    Off,
    /// A sink within the process, which learns of a delivery after its commit. Jobs are cleared in the commit.
    Wake(&'a dyn Sink),
    /// The outbox of the target, published before the jobs are cleared: a process that dies in between leaves a job,
    /// and the next run publishes.
    Outbox(&'a Publisher),
}

/// Number of attempts within one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// A single attempt: the scheduler waits before the next one and lets other repositories go first.
    Off,
    /// Several attempts, for callers that have no scheduler.
    Short,
}

/// Delivers one repository, clears the jobs that the delivery has answered, and announces it. Returns `None` where the
/// target lacked nothing.
///
/// # Errors
/// A failure is logged and recorded in the statistics of the link. The jobs of the request stay, so that running it
/// again is always safe.
pub async fn run(
    link: &dyn Link,
    request: &DeliveryRequest,
    announce: Announce<'_>,
    retries: Retries,
) -> Result<Option<Delivery>, ReplicationError> {
    let name = link.name();
    let repository = &request.repository;
    let mut attempts = Attempts::default();
    loop {
        let error = match attempt(link, request, announce).await {
            Ok(delivery) => return Ok(delivery),
            Err(error) => error,
        };
        if error.is_under_way() {
            tracing::info!(link = name, %repository, %error, "another process delivers it; tried again later");
            return Err(error);
        }
        if retries == Retries::Short && attempts.again(error.kind()).await {
            tracing::info!(%error, %repository, "trying again");
            continue;
        }
        tracing::warn!(link = name, %repository, %error, "could not deliver; it is tried again");
        link.record_failure(repository, &error).await;
        return Err(error);
    }
}

async fn attempt(
    link: &dyn Link,
    request: &DeliveryRequest,
    announce: Announce<'_>,
) -> Result<Option<Delivery>, ReplicationError> {
    let clear = match announce {
        Announce::Off | Announce::Wake(_) => ClearJobs::WithCommit,
        Announce::Outbox(_) => ClearJobs::ByCaller,
    };
    let result = link.deliver_request(request, clear).await?;
    let announced = match announce {
        Announce::Outbox(publisher) => publish(link, &request.repository, publisher).await?,
        Announce::Off | Announce::Wake(_) => true,
    };
    if announced {
        clear_jobs(link, &result.answered).await;
    }
    if let (Announce::Wake(sink), Some(delivery)) = (announce, &result.delivery) {
        wake(link, delivery, sink);
    }
    Ok(result.delivery)
}

/// Publishes the outbox of the delivered repository, also after a delivery that found nothing to do: the process that
/// delivered it may have died before it published. Returns false if the announcement failed.
async fn publish(link: &dyn Link, repository: &RepositoryKey, publisher: &Publisher) -> Result<bool, ReplicationError> {
    let id = match (repository, link.target_region()) {
        (RepositoryKey::Id(id), _) => Some(*id),
        (RepositoryKey::Name(name), Some(target)) => {
            target.repositories().find(name).await.in_region(target)?.map(|item| item.id)
        }
        (RepositoryKey::Name(_), None) => None,
    };
    let Some(id) = id else { return Ok(true) };
    let Err(error) = publisher.publish(id).await else { return Ok(true) };
    tracing::warn!(%error, %id, "delivered and not announced; its pending jobs stay for the next run");
    Ok(false)
}

/// Clears jobs as well as the table allows. A job that stays costs one more comparison.
async fn clear_jobs(link: &dyn Link, jobs: &[PendingJob]) {
    if let Err(error) = PendingJobs::of(link).clear(jobs).await {
        tracing::info!(%error, "a pending job stays; it costs one more comparison");
    }
}

fn wake(link: &dyn Link, delivery: &Delivery, sink: &dyn Sink) {
    if let (Some((repository, seq)), Some(target)) = (delivery.reached, link.target_region()) {
        sink.publish(Event { region: target.name().to_owned(), repository, seq });
    }
}

/// Delivers the repositories of a pass, for commands that deliver once. Pending jobs stay: a worker that reads them
/// later finds that the target has their changes. The caller publishes the outbox of the target.
pub async fn pass(link: &dyn Link, request: &PassRequest<'_>) -> Result<Summary, ReplicationError> {
    link.deliver_pass(request).await
}
