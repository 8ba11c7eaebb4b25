//! One repository of an invocation: delivered, announced, or asked for again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::handler::{Record, Served};
use crate::events::codecommit::{CODECOMMIT, DETAIL_TYPE, GITFERRY, REPOSITORY_UPDATED, ReferenceEvent};
use crate::events::due::{self, Asked, Brought, Due, clear_after, deliver_due};
use crate::events::remote::all_of;
use gitferry_base::retry::Attempts;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::{AnyLink, ReplicationError, Which};

/// When a repository that somebody else delivers is looked at again.
const UNDER_WAY_WAIT: Duration = Duration::from_secs(60);

/// A repository to deliver.
pub(super) struct Work<'a> {
    pub served: &'a Served,
    pub asked: Asked,
    /// The records that asked for it.
    pub records: Vec<&'a Record>,
}

impl<'a> Work<'a> {
    /// What a mark asks for.
    pub fn of(served: &'a Served, due: Due, records: Vec<&'a Record>) -> Self {
        Work { served, asked: Asked { which: due.which(), marks: vec![due], look: false }, records }
    }

    /// What a sweep asks for.
    pub fn swept(served: &'a Served, which: Which) -> Self {
        Work { served, asked: Asked { which, marks: Vec::new(), look: true }, records: Vec::new() }
    }
}

/// How its delivery ended.
pub(super) enum End {
    Done(Option<Brought>),
    Failed(ReplicationError),
    CutOff,
    /// Somebody else delivers it at the moment.
    UnderWay,
}

impl End {
    /// When another invocation is to go on with it.
    pub fn again_after(&self) -> Option<Duration> {
        match self {
            End::CutOff => Some(Duration::ZERO),
            End::UnderWay => Some(UNDER_WAY_WAIT),
            End::Done(_) | End::Failed(_) => None,
        }
    }
}

/// All that a sweep has to deliver: what differs, or, where only a look tells that, everything.
pub(super) async fn different(link: &AnyLink) -> Result<Vec<Which>, ReplicationError> {
    match link {
        AnyLink::Regions(link) => Ok(link.pairs(&[]).await?.unsettled().map(Which::Id).collect()),
        AnyLink::Remote(link) => all_of(link).await,
    }
}

/// How long ago the oldest change was committed that the target lacks, in seconds; 0 when nobody can tell by then.
pub(super) async fn lateness(work: &Work<'_>, until: Instant) -> f64 {
    let (AnyLink::Regions(link), Which::Id(id)) = (&work.served.link, &work.asked.which) else { return 0.0 };
    let since = timeout_at(until, link.behind_since(*id)).await;
    let Ok(Ok(Some(since))) = since else { return 0.0 };
    link.target.clock.now().duration_since(since).as_secs_f64().max(0.0)
}

/// One entry for each repository of a link.
pub(super) fn merged(work: Vec<Work<'_>>) -> Vec<Work<'_>> {
    let mut merged: BTreeMap<(String, Which), Work<'_>> = BTreeMap::new();
    for more in work {
        let key = (more.served.link.name().to_owned(), more.asked.which.clone());
        match merged.get_mut(&key) {
            None => _ = merged.insert(key, more),
            Some(one) => {
                one.asked.marks.extend(more.asked.marks);
                one.asked.look |= more.asked.look;
                one.records.extend(more.records);
            }
        }
    }
    merged.into_values().collect()
}

pub(super) async fn deliver(work: &Work<'_>) -> End {
    let (link, which) = (&work.served.link, &work.asked.which);
    let mut attempts = Attempts::default();
    let outcome = loop {
        match deliver_and_announce(work).await {
            Ok(brought) => {
                tracing::info!(link = link.name(), repository = %which, ?brought, "delivered");
                break Ok(brought);
            }
            Err(error) if !error.is_under_way() && attempts.again(error.kind()).await => {
                tracing::info!(%error, repository = %which, "trying again");
            }
            Err(error) => break Err(error),
        }
    };
    match outcome {
        Ok(brought) => End::Done(brought),
        Err(error) if error.is_under_way() => {
            tracing::info!(link = link.name(), repository = %which, %error, "it is looked at again");
            End::UnderWay
        }
        Err(error) => {
            tracing::warn!(link = link.name(), repository = %which, %error, "could not deliver");
            if let (AnyLink::Regions(link), Which::Id(id)) = (link, which) {
                link.note_failure(*id, &error).await;
            }
            End::Failed(error)
        }
    }
}

/// Delivers, announces where that is to be done, and takes away the marks that asked for it. What could not be
/// announced keeps its marks, for the next invocation.
async fn deliver_and_announce(work: &Work<'_>) -> Result<Option<Brought>, ReplicationError> {
    let link = &work.served.link;
    let Some(publisher) = &work.served.publisher else { return deliver_due(link, &work.asked).await };
    let (brought, marks) = due::deliver(link, &work.asked, false).await?;
    // Also where nothing was brought: whoever delivered it before may have died before it was announced.
    let id = match (&work.asked.which, link.target_region()) {
        (Which::Id(id), _) => Some(*id),
        (Which::Name(name), Some(target)) => target.find(name).await.in_region(target)?.map(|item| item.id),
        (Which::Name(_), None) => None,
    };
    if let Some(id) = id
        && let Err(error) = publisher.publish(id).await
    {
        tracing::warn!(%error, %id, "delivered and not announced; its marks stay, for the next invocation");
        return Ok(brought);
    }
    clear_after(link, &marks).await;
    Ok(brought)
}

/// Announces what is in the target's outbox: deliveries that no mark stands for any more.
pub(super) async fn announce_the_rest(served: &Served, until: Instant) {
    let Some(publisher) = &served.publisher else { return };
    match timeout_at(until, publisher.publish_outbox()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the outbox cannot be read; the next schedule tries again"),
        Err(_) => tracing::info!("not all of the outbox was announced in time; the next schedule goes on"),
    }
}

/// Asks for another invocation after a while; `false` when there is no queue to ask by.
pub(super) async fn continue_later(work: &Work<'_>, wait: Duration) -> bool {
    let Some(queue) = &work.served.queue else { return false };
    let (source, detail) = match &work.asked.which {
        Which::Id(id) => (
            GITFERRY,
            json!({ "event": REPOSITORY_UPDATED, "repositoryName": id.to_string(), "repositoryId": id.to_string() }),
        ),
        // Without a ref, it says of no ref that it is there already.
        Which::Name(name) => {
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
