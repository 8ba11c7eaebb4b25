//! What one invocation does: SQS batches, single events, schedules.
//!
//! Events become due marks first, so whatever the deadline cuts off is not lost. What is cut off comes again as a
//! message of its own, with a receive count of zero: work that takes many invocations is no reason for a
//! dead-letter queue.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::events::codecommit::{
    self, Announcement, CODECOMMIT, DETAIL_TYPE, GITFERRY, REPOSITORY_UPDATED, ReferenceEvent, Rejection, StateChange,
};
use crate::events::due::{self, Asked, Brought, Due, DueMarks, clear_after, deliver_due};
use crate::events::intake::{IntakeError, Taken, take};
use crate::events::outbox::Publisher;
use crate::events::remote::all_of;
use crate::events::sqs::{MAX_MESSAGES, Outcome, Queue, take_batch};
use crate::replication::error::InRegion as _;
use crate::replication::pass::MAX_JOBS;
use crate::replication::{AnyLink, ReplicationError, Which};
use crate::retry::Attempts;
use crate::worker::metrics::Figures;
use crate::worker::sources::DUE_AFTER;

/// Most records of one batch (Lambda's limit for standard queues).
const MAX_RECORDS: usize = 10_000;
/// The `detail-type` of EventBridge's schedules.
const SCHEDULED: &str = "Scheduled Event";

/// Why an invocation failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The event cannot be acted on and there is no dead-letter queue in the configuration.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A region failed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// Records come from a queue that no link has.
    #[error("no link of this function has the queue {0}")]
    NoLink(String),
    /// Not everything was delivered.
    #[error("{0}")]
    Unfinished(String),
}

/// A link of the function.
#[derive(Debug)]
pub struct Served {
    /// The link.
    pub link: AnyLink,
    /// Its queue.
    pub queue: Option<Queue>,
    /// Announces what was delivered, where the target's events go anywhere.
    pub publisher: Option<Publisher>,
}

/// Handles invocations.
#[derive(Debug)]
pub struct Handler {
    links: Vec<Served>,
    jobs: usize,
    /// Of this invocation, by link.
    figures: Mutex<BTreeMap<String, Figures>>,
}

/// A record of a batch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    #[serde(default)]
    body: String,
    #[serde(default, rename = "eventSourceARN")]
    queue_arn: String,
}

/// A repository to deliver.
struct Work<'a> {
    served: &'a Served,
    asked: Asked,
    /// The records that asked for it.
    records: Vec<&'a Record>,
}

impl<'a> Work<'a> {
    /// What a mark asks for.
    fn of(served: &'a Served, due: Due, records: Vec<&'a Record>) -> Self {
        Work { served, asked: Asked { which: due.which(), marks: vec![due], look: false }, records }
    }

    /// What a sweep asks for.
    fn swept(served: &'a Served, which: Which) -> Self {
        Work { served, asked: Asked { which, marks: Vec::new(), look: true }, records: Vec::new() }
    }
}

/// How its delivery ended.
enum End {
    Done(Option<Brought>),
    Failed(ReplicationError),
    CutOff,
}

impl Handler {
    /// A handler for some links that delivers `jobs` repositories at a time.
    pub fn new(links: Vec<Served>, jobs: usize) -> Self {
        Handler { links, jobs: jobs.clamp(1, MAX_JOBS), figures: Mutex::default() }
    }

    /// What came of each link since the last time.
    pub fn take_figures(&self) -> Vec<Figures> {
        let mut taken = std::mem::take(&mut *self.figures.lock().unwrap_or_else(PoisonError::into_inner));
        let of = |served: &Served| {
            let link = served.link.name().to_owned();
            taken.remove(&link).unwrap_or_else(|| Figures { link, ..Figures::default() })
        };
        self.links.iter().map(of).collect()
    }

    /// Does what an event asks for until a moment; the answer to the invocation.
    pub async fn handle(&self, payload: &[u8], until: Instant) -> Result<Value, HandlerError> {
        // Lambda's own limit bounds the payload, and a batch may hold more than one event may.
        let payload: Value = serde_json::from_slice(payload).map_err(|error| Rejection::NotJson(error.to_string()))?;
        if let Some(records) = payload.get("Records") {
            return self.batch(records, until).await;
        }
        if payload.get("detail-type").and_then(Value::as_str) == Some(SCHEDULED) {
            return self.sweep(until).await;
        }
        self.single(payload, until).await
    }

    /// A batch of messages; those that have to come again are named in the answer.
    async fn batch(&self, records: &Value, until: Instant) -> Result<Value, HandlerError> {
        let records = Vec::<Record>::deserialize(records)
            .map_err(|error| Rejection::Field { field: "Records", reason: error.to_string() })?;
        if records.len() > MAX_RECORDS {
            let reason = format!("{} records; at most {MAX_RECORDS} are possible", records.len());
            return Err(Rejection::Field { field: "Records", reason }.into());
        }
        let mut work = Vec::new();
        let mut failed: Vec<&str> = Vec::new();
        for (served, records) in self.by_link(&records).map_err(HandlerError::NoLink)? {
            for records in records.chunks(MAX_MESSAGES as usize) {
                let bodies: Vec<&str> = records.iter().map(|record| record.body.as_str()).collect();
                let outcome: Outcome = take_batch(&served.link, served.queue.as_ref(), &bodies).await;
                failed.extend(outcome.failed.iter().map(|(at, _)| records[*at].message_id.as_str()));
                work.extend(outcome.due.into_iter().map(|(due, places)| {
                    let records = places.into_iter().map(|at| records[at]).collect();
                    Work::of(served, due, records)
                }));
            }
        }
        let ends = self.deliver_all(merged(work), until).await;
        for (work, end) in ends {
            let again = match end {
                End::Done(_) => false,
                End::Failed(_) => true,
                End::CutOff => !continue_later(&work).await,
            };
            if again {
                failed.extend(work.records.iter().map(|record| record.message_id.as_str()));
            }
        }
        self.left_behind(until).await;
        failed.sort_unstable();
        failed.dedup();
        let failures: Vec<Value> = failed.into_iter().map(|id| json!({ "itemIdentifier": id })).collect();
        Ok(json!({ "batchItemFailures": failures }))
    }

    /// The link of each record: the one with its queue, or the only one that there is. `Err`: a queue of no link.
    fn by_link<'a>(&'a self, records: &'a [Record]) -> Result<Vec<(&'a Served, Vec<&'a Record>)>, String> {
        let mut groups: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
        for record in records {
            let named = self.links.iter().position(|served| has_queue(served, &record.queue_arn));
            let at = named.or_else(|| (self.links.len() == 1).then_some(0));
            let at = at.ok_or_else(|| record.queue_arn.clone())?;
            groups.entry(at).or_default().push(record);
        }
        Ok(groups.into_iter().map(|(at, records)| (&self.links[at], records)).collect())
    }

    /// One event, as an EventBridge rule sends it.
    async fn single(&self, payload: Value, until: Instant) -> Result<Value, HandlerError> {
        let text = payload.to_string();
        let change = match codecommit::parse_value(payload) {
            Ok(Announcement::Change(change)) => change,
            Ok(Announcement::Nothing { event }) => return Ok(json!({ "ignored": event })),
            Err(rejection) => return self.reject(&text, rejection).await,
        };
        let work = match self.take_everywhere(&change).await? {
            Ok(work) => work,
            Err(rejection) => return self.reject(&text, rejection).await,
        };
        let mut delivered = 0;
        for (work, end) in self.deliver_all(work, until).await {
            match end {
                End::Done(_) => delivered += 1,
                End::Failed(error) => return Err(error.into()),
                End::CutOff if continue_later(&work).await => {}
                // Lambda repeats what fails.
                End::CutOff => return Err(HandlerError::Unfinished(format!("{} was cut off", work.asked.which))),
            }
        }
        Ok(json!({ "delivered": delivered }))
    }

    /// Asks all links. What none of them knows is rejected.
    async fn take_everywhere(&self, change: &StateChange) -> Result<Result<Vec<Work<'_>>, Rejection>, HandlerError> {
        let (mut work, mut rejected, mut known) = (Vec::new(), None, false);
        for served in &self.links {
            match take(&served.link, change).await {
                Ok(Taken::Due(due)) => {
                    known = true;
                    work.push(Work::of(served, due, Vec::new()));
                }
                Ok(Taken::Current) => known = true,
                Ok(Taken::NotCarried) => {}
                Err(IntakeError::Rejected(rejection)) => rejected = Some(rejection),
                Err(IntakeError::Replication(error)) => return Err(error.into()),
            }
        }
        Ok(match rejected {
            Some(rejection) if !known => Err(rejection),
            _ => Ok(work),
        })
    }

    async fn reject(&self, text: &str, rejection: Rejection) -> Result<Value, HandlerError> {
        for queue in self.links.iter().filter_map(|served| served.queue.as_ref()) {
            match queue.bury(text, &rejection).await {
                Ok(true) => return Ok(json!({ "rejected": rejection.to_string() })),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the dead-letter queue did not take an event"),
            }
        }
        Err(rejection.into())
    }

    /// What a schedule asks for: everything that is due or different.
    async fn sweep(&self, until: Instant) -> Result<Value, HandlerError> {
        let (mut delivered, mut cut_off, mut failed) = (0, 0, None);
        for served in &self.links {
            let mut work = self.marked(served, jiff::SignedDuration::ZERO).await?;
            work.extend(different(&served.link).await?.into_iter().map(|which| Work::swept(served, which)));
            for (_, end) in self.deliver_all(merged(work), until).await {
                match end {
                    // That a repository of a remote was looked at is not worth telling.
                    End::Done(None) if matches!(served.link, AnyLink::Remote(_)) => {}
                    End::Done(_) => delivered += 1,
                    End::CutOff => cut_off += 1,
                    End::Failed(error) => failed = Some(error),
                }
            }
            announce_the_rest(served, until).await;
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(json!({ "delivered": delivered, "left": cut_off })),
        }
    }

    /// Marks that an invocation before left behind, as far as time permits.
    async fn left_behind(&self, until: Instant) {
        for served in &self.links {
            if Instant::now() >= until {
                return;
            }
            match self.marked(served, DUE_AFTER).await {
                Ok(work) => drop(self.deliver_all(work, until).await),
                Err(error) => tracing::warn!(%error, "due marks cannot be read; the next invocation tries again"),
            }
        }
    }

    async fn marked<'a>(
        &self,
        served: &'a Served,
        age: jiff::SignedDuration,
    ) -> Result<Vec<Work<'a>>, ReplicationError> {
        let link = &served.link;
        let before = link.clock().now().checked_sub(age).unwrap_or_default();
        let marks = DueMarks::of(link).read(before).await.map_err(|error| link.table_failed(error))?;
        Ok(merged(marks.into_iter().map(|due| Work::of(served, due, Vec::new())).collect()))
    }

    async fn count(&self, work: &Work<'_>, end: &End, until: Instant) {
        let late = match end {
            End::Done(brought) => {
                brought.as_ref().and_then(|brought| brought.lag_ms).map_or(0.0, |ms| ms as f64 / 1000.0)
            }
            End::Failed(_) => lateness(work, until).await,
            End::CutOff => 0.0,
        };
        let mut all = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let link = work.served.link.name().to_owned();
        let figures = all.entry(link.clone()).or_insert_with(|| Figures { link, ..Figures::default() });
        figures.lag_seconds = figures.lag_seconds.max(late);
        match end {
            End::Done(brought) => figures.delivered += u64::from(brought.is_some()),
            End::CutOff => figures.pending += 1,
            End::Failed(error) => {
                figures.pending += 1;
                figures.failed += 1;
                figures.forks += u64::from(matches!(error, ReplicationError::Fork { .. }));
            }
        }
    }

    async fn deliver_all<'a>(&self, work: Vec<Work<'a>>, until: Instant) -> Vec<(Work<'a>, End)> {
        let deliver = |work: Work<'a>| async move {
            let end = match Instant::now() < until {
                true => timeout_at(until, deliver(&work)).await.unwrap_or(End::CutOff),
                false => End::CutOff,
            };
            self.count(&work, &end, until).await;
            (work, end)
        };
        stream::iter(work).map(deliver).buffer_unordered(self.jobs).collect().await
    }
}

/// All that a sweep has to deliver: what differs, or, where only a look tells that, everything.
async fn different(link: &AnyLink) -> Result<Vec<Which>, ReplicationError> {
    match link {
        AnyLink::Regions(link) => {
            let pairs = link.pairs(&[]).await?;
            Ok(pairs.iter().filter(|pair| !pair.is_equal()).map(|pair| Which::Id(pair.source.id)).collect())
        }
        AnyLink::Remote(link) => all_of(link).await,
    }
}

/// How long ago the oldest change was committed that the target lacks, in seconds; 0 when nobody can tell by then.
async fn lateness(work: &Work<'_>, until: Instant) -> f64 {
    let (AnyLink::Regions(link), Which::Id(id)) = (&work.served.link, &work.asked.which) else { return 0.0 };
    let since = timeout_at(until, link.behind_since(*id)).await;
    let Ok(Ok(Some(since))) = since else { return 0.0 };
    link.target.clock.now().duration_since(since).as_secs_f64().max(0.0)
}

/// One entry for each repository of a link.
fn merged(work: Vec<Work<'_>>) -> Vec<Work<'_>> {
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

async fn deliver(work: &Work<'_>) -> End {
    let (link, which) = (&work.served.link, &work.asked.which);
    let mut attempts = Attempts::default();
    let outcome = loop {
        match deliver_and_announce(work).await {
            Ok(brought) => {
                tracing::info!(link = link.name(), repository = %which, ?brought, "delivered");
                break Ok(brought);
            }
            // A link with a remote has tried again by itself.
            Err(error) if matches!(link, AnyLink::Regions(_)) && attempts.again(error.kind()).await => {
                tracing::info!(%error, repository = %which, "trying again");
            }
            Err(error) => break Err(error),
        }
    };
    match outcome {
        Ok(brought) => End::Done(brought),
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
async fn announce_the_rest(served: &Served, until: Instant) {
    let Some(publisher) = &served.publisher else { return };
    match timeout_at(until, publisher.publish_outbox()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the outbox cannot be read; the next schedule tries again"),
        Err(_) => tracing::info!("not all of the outbox was announced in time; the next schedule goes on"),
    }
}

/// Asks for another invocation; `false` when there is no queue to ask by.
async fn continue_later(work: &Work<'_>) -> bool {
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
    match queue.send(&event.to_string()).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the message comes again instead");
            false
        }
    }
}

/// `arn:aws:sqs:REGION:ACCOUNT:NAME` beside `https://…/ACCOUNT/NAME`.
fn has_queue(served: &Served, arn: &str) -> bool {
    let Some(queue) = &served.queue else { return false };
    let mut of_arn = arn.rsplit(':');
    let mut of_url = queue.url().rsplit('/');
    let (name, account) = (of_arn.next(), of_arn.next());
    name.is_some() && (name, account) == (of_url.next(), of_url.next())
}
