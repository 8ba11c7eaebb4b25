//! One repository of an invocation: delivered, or asked for again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::links::Served;
use crate::delivery::RepositoryKey;
use crate::delivery::job::PendingJob;
use crate::delivery::request::{Delivery, DeliveryRequest};
use crate::delivery::run::{Announce, Retries, run};
use crate::events::codecommit::{CODECOMMIT, DETAIL_TYPE, GITFERRY, REPOSITORY_UPDATED, ReferenceEvent};
use gitferry_replication::ReplicationError;

/// Wait before a repository that another process delivers is tried again.
const UNDER_WAY_WAIT: Duration = Duration::from_secs(60);

/// A repository to deliver.
pub(super) struct Work<'a> {
    pub served: &'a Served,
    pub request: DeliveryRequest,
    /// Ids of the messages that asked for the delivery.
    pub messages: Vec<&'a str>,
}

impl<'a> Work<'a> {
    /// The work of a pending job.
    pub fn of_job(served: &'a Served, job: PendingJob, messages: Vec<&'a str>) -> Self {
        Work { served, request: DeliveryRequest::of_job(job), messages }
    }

    /// The work of a sweep.
    pub fn of_sweep(served: &'a Served, repository: RepositoryKey) -> Self {
        Work { served, request: DeliveryRequest::of_sweep(repository), messages: Vec::new() }
    }
}

/// Outcome of a delivery within an invocation.
pub(super) enum End {
    Done(Option<Delivery>),
    Failed(ReplicationError),
    /// The deadline came first.
    CutOff,
    /// Another process delivers the repository.
    UnderWay,
}

impl End {
    /// The wait after which another invocation goes on with the repository; `None` if none has to.
    pub fn again_after(&self) -> Option<Duration> {
        match self {
            End::CutOff => Some(Duration::ZERO),
            End::UnderWay => Some(UNDER_WAY_WAIT),
            End::Done(_) | End::Failed(_) => None,
        }
    }
}

/// Age in seconds of the oldest change that the target lacks; 0 where it cannot be read before the deadline.
pub(super) async fn lateness(work: &Work<'_>, until: Instant) -> f64 {
    let link = &work.served.link;
    let since = timeout_at(until, link.oldest_undelivered(&work.request.repository)).await;
    let Ok(Ok(Some(since))) = since else { return 0.0 };
    link.clock().now().duration_since(since).as_secs_f64().max(0.0)
}

/// Merges work into one entry for each repository of a link.
pub(super) fn merged(work: Vec<Work<'_>>) -> Vec<Work<'_>> {
    let mut merged: BTreeMap<(String, RepositoryKey), Work<'_>> = BTreeMap::new();
    for more in work {
        let key = (more.served.link.name().to_owned(), more.request.repository.clone());
        match merged.get_mut(&key) {
            None => _ = merged.insert(key, more),
            Some(one) => {
                one.request.jobs.extend(more.request.jobs);
                one.request.compare |= more.request.compare;
                one.messages.extend(more.messages);
            }
        }
    }
    merged.into_values().collect()
}

/// Delivers a repository. A delivery that could not be announced keeps its pending jobs, for the next invocation.
pub(super) async fn deliver(work: &Work<'_>) -> End {
    let link = &work.served.link;
    let announce = work.served.publisher.as_ref().map_or(Announce::Off, Announce::Outbox);
    match run(&**link, &work.request, announce, Retries::Short).await {
        Ok(brought) => {
            tracing::info!(link = link.name(), repository = %work.request.repository, ?brought, "delivered");
            End::Done(brought)
        }
        Err(error) if error.is_under_way() => End::UnderWay,
        Err(error) => End::Failed(error),
    }
}

/// Publishes the outbox of the target: deliveries that no pending job stands for any more.
pub(super) async fn announce_the_rest(served: &Served, until: Instant) {
    let Some(publisher) = &served.publisher else { return };
    match timeout_at(until, publisher.publish_outbox()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the outbox cannot be read; the next schedule tries again"),
        Err(_) => tracing::info!("not all of the outbox was announced in time; the next schedule goes on"),
    }
}

/// Asks for another invocation after a wait. Returns false if the link has no queue, or the queue does not take the
/// message.
pub(super) async fn continue_later(work: &Work<'_>, wait: Duration) -> bool {
    let Some(queue) = &work.served.queue else { return false };
    let (source, detail) = match &work.request.repository {
        RepositoryKey::Id(id) => (
            GITFERRY,
            json!({ "event": REPOSITORY_UPDATED, "repositoryName": id.to_string(), "repositoryId": id.to_string() }),
        ),
        // Without a ref, no checkpoint can answer it.
        RepositoryKey::Name(name) => {
            (CODECOMMIT, json!({ "event": ReferenceEvent::Updated.as_str(), "repositoryName": &**name }))
        }
    };
    let event = json!({ "version": "0", "source": source, "detail-type": DETAIL_TYPE, "detail": detail });
    match queue.send(&event.to_string(), wait).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the message comes again instead");
            false
        }
    }
}
