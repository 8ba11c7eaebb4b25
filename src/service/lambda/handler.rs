//! The handler of invocations: SQS batches, single events, schedules.
//!
//! Events become pending jobs first, so that work which the deadline cuts off is not lost. It comes again as a message
//! of its own, with a receive count of zero: work that takes many invocations is no reason for a dead-letter queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::links::{FunctionLink, OpenServed, Served};
use super::work::{End, Work, announce_the_rest, continue_later, deliver, lateness, merged};
use crate::delivery::intake::{BatchOutcome, take, take_batch};
use crate::delivery::lookup::{Lookup, LookupError};
use crate::delivery::pending::{ABANDONED_AFTER, PendingJobs};
use crate::events::codecommit::{self, Announcement, Rejection, StateChange};
use crate::events::sqs::MAX_MESSAGES;
use crate::worker::metrics::LinkMetrics;
use gitferry_replication::ReplicationError;
use gitferry_replication::pass::MAX_JOBS;

/// Most records of one batch (limit of Lambda for standard queues).
const MAX_RECORDS: usize = 10_000;
/// The `detail-type` of EventBridge's schedules.
const SCHEDULED: &str = "Scheduled Event";

/// Failure of a whole invocation.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The event cannot be acted on and there is no dead-letter queue in the configuration.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A region failed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// The records come from a queue that no link has.
    #[error("no link of this function has the queue {0}")]
    NoLink(String),
    /// Not everything was delivered.
    #[error("{0}")]
    Unfinished(String),
    /// The deadline is not a time.
    #[error("the deadline of the invocation, {0} ms after 1970, is not a time")]
    Deadline(u64),
}

/// Handler of invocations.
#[derive(Debug)]
pub struct Handler {
    links: Vec<FunctionLink>,
    jobs: usize,
    /// Metrics of this invocation, by link.
    metrics: Mutex<BTreeMap<String, LinkMetrics>>,
}

/// Outcome of a sweep over one link.
#[derive(Debug, Default)]
struct Swept {
    delivered: u64,
    cut_off: u64,
    failed: Option<ReplicationError>,
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

impl Handler {
    /// Makes a handler that delivers `jobs` repositories at a time.
    pub fn new(links: Vec<Served>, jobs: usize) -> Self {
        let links = links.into_iter().map(FunctionLink::open).collect();
        Handler { links, jobs: jobs.clamp(1, MAX_JOBS), metrics: Mutex::default() }
    }

    /// Adds links that do not open yet: each invocation tries to open them, and fails their records until they open.
    #[must_use]
    pub fn with_late(mut self, late: Vec<Arc<dyn OpenServed>>) -> Self {
        self.links.extend(late.into_iter().map(FunctionLink::late));
        self
    }

    fn open(&self) -> impl Iterator<Item = &Served> {
        self.links.iter().filter_map(FunctionLink::served)
    }

    /// The reason why a link is not open, for the first such link.
    fn closed(&self) -> Option<String> {
        self.links.iter().find(|link| link.served().is_none()).map(FunctionLink::reason)
    }

    /// Takes the metrics of each link since the last call.
    pub fn take_metrics(&self) -> Vec<LinkMetrics> {
        let mut taken = std::mem::take(&mut *self.metrics.lock().unwrap_or_else(PoisonError::into_inner));
        let of = |link: &FunctionLink| {
            let link = link.name().to_owned();
            taken.remove(&link).unwrap_or_else(|| LinkMetrics { link, ..LinkMetrics::default() })
        };
        self.links.iter().map(of).collect()
    }

    /// Handles an invocation until its deadline; returns the answer.
    pub async fn handle(&self, payload: &[u8], until: Instant) -> Result<Value, HandlerError> {
        // Lambda's own limit bounds the payload, and a batch may hold more than one event may.
        let payload: Value = serde_json::from_slice(payload).map_err(|error| Rejection::NotJson(error.to_string()))?;
        futures::future::join_all(self.links.iter().map(|link| link.try_open(until))).await;
        if let Some(records) = payload.get("Records") {
            return self.batch(records, until).await;
        }
        if payload.get("detail-type").and_then(Value::as_str) == Some(SCHEDULED) {
            return self.sweep(until).await;
        }
        self.single(payload, until).await
    }

    /// Handles a batch of messages; the answer names those that have to come again.
    async fn batch(&self, records: &Value, until: Instant) -> Result<Value, HandlerError> {
        let records = Vec::<Record>::deserialize(records)
            .map_err(|error| Rejection::Field { field: "Records", reason: error.to_string() })?;
        if records.len() > MAX_RECORDS {
            let reason = format!("{} records; at most {MAX_RECORDS} are possible", records.len());
            return Err(Rejection::Field { field: "Records", reason }.into());
        }
        let mut work = Vec::new();
        let mut failed: Vec<&str> = Vec::new();
        for (link, records) in self.by_link(&records).map_err(HandlerError::NoLink)? {
            let Some(served) = link.served() else {
                failed.extend(records.iter().map(|record| record.message_id.as_str()));
                continue;
            };
            for records in records.chunks(MAX_MESSAGES as usize) {
                let bodies: Vec<&str> = records.iter().map(|record| record.body.as_str()).collect();
                let outcome: BatchOutcome = take_batch(&*served.link, served.queue.as_ref(), &bodies).await;
                failed.extend(outcome.failed.iter().map(|(at, _)| records[*at].message_id.as_str()));
                work.extend(outcome.pending.into_iter().map(|(job, places)| {
                    let messages = places.into_iter().map(|at| records[at].message_id.as_str()).collect();
                    Work::of_job(served, job, messages)
                }));
            }
        }
        let ends = self.deliver_all(merged(work), until).await;
        for (work, end) in ends {
            let again = match end.again_after() {
                Some(wait) => !continue_later(&work, wait).await,
                None => matches!(end, End::Failed(_)),
            };
            if again {
                failed.extend(&work.messages);
            }
        }
        self.deliver_abandoned(until).await;
        failed.sort_unstable();
        failed.dedup();
        let failures: Vec<Value> = failed.into_iter().map(|id| json!({ "itemIdentifier": id })).collect();
        Ok(json!({ "batchItemFailures": failures }))
    }

    /// Groups records by link: the link with the queue of the record, or the only link. `Err` is a queue of no link.
    fn by_link<'a>(&'a self, records: &'a [Record]) -> Result<Vec<(&'a FunctionLink, Vec<&'a Record>)>, String> {
        let mut groups: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
        for record in records {
            let named = self.links.iter().position(|link| link.has_queue(&record.queue_arn));
            let at = named.or_else(|| (self.links.len() == 1).then_some(0));
            let at = at.ok_or_else(|| record.queue_arn.clone())?;
            groups.entry(at).or_default().push(record);
        }
        Ok(groups.into_iter().map(|(at, records)| (&self.links[at], records)).collect())
    }

    /// Handles one event, as an EventBridge rule sends it.
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
            match (end.again_after(), end) {
                (_, End::Done(_)) => delivered += 1,
                (_, End::Failed(error)) => return Err(error.into()),
                (Some(wait), _) if continue_later(&work, wait).await => {}
                // Lambda repeats what fails.
                _ => {
                    return Err(HandlerError::Unfinished(format!(
                        "{} was not carried to its end",
                        work.request.repository
                    )));
                }
            }
        }
        match self.closed() {
            // The event may be for the link that is not open: Lambda repeats what fails.
            Some(reason) => Err(HandlerError::Unfinished(reason)),
            None => Ok(json!({ "delivered": delivered })),
        }
    }

    /// Looks an event up on all links. An event of which no link knows the repository is rejected.
    async fn take_everywhere(&self, change: &StateChange) -> Result<Result<Vec<Work<'_>>, Rejection>, HandlerError> {
        let (mut work, mut rejected, mut known) = (Vec::new(), None, false);
        for served in self.open() {
            match take(&*served.link, change).await {
                Ok(Lookup::Pending(job)) => {
                    known = true;
                    work.push(Work::of_job(served, job, Vec::new()));
                }
                Ok(Lookup::Current) => known = true,
                Ok(Lookup::NotCarried) => {}
                Err(LookupError::Rejected(rejection)) => rejected = Some(rejection),
                Err(LookupError::Replication(error)) => return Err(error.into()),
            }
        }
        Ok(match rejected {
            // A link that is not open may know the repository.
            Some(rejection) if !known && self.closed().is_none() => Err(rejection),
            _ => Ok(work),
        })
    }

    async fn reject(&self, text: &str, rejection: Rejection) -> Result<Value, HandlerError> {
        for queue in self.open().filter_map(|served| served.queue.as_ref()) {
            match queue.dead_letter(text, &rejection).await {
                Ok(true) => return Ok(json!({ "rejected": rejection.to_string() })),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the dead-letter queue did not take an event"),
            }
        }
        Err(rejection.into())
    }

    /// Handles a schedule: delivers all repositories with pending jobs or differences, on all links at once, so that
    /// a silent server takes no time from the other links.
    async fn sweep(&self, until: Instant) -> Result<Value, HandlerError> {
        let all = futures::future::join_all(self.open().map(|served| self.sweep_one(served, until))).await;
        let (mut delivered, mut cut_off, mut failed) = (0, 0, None);
        for swept in all {
            delivered += swept.delivered;
            cut_off += swept.cut_off;
            failed = failed.or(swept.failed);
        }
        match (failed, self.closed()) {
            (Some(error), _) => Err(error.into()),
            (None, Some(reason)) => Err(HandlerError::Unfinished(reason)),
            (None, None) => Ok(json!({ "delivered": delivered, "left": cut_off })),
        }
    }

    async fn sweep_one(&self, served: &Served, until: Instant) -> Swept {
        let mut swept = Swept::default();
        let work = match self.pending_or_different(served).await {
            Ok(work) => work,
            Err(error) => {
                tracing::error!(%error, link = served.link.name(), "a link cannot be swept");
                return Swept { failed: Some(error), ..swept };
            }
        };
        for (_, end) in self.deliver_all(merged(work), until).await {
            match end {
                // A repository that only a delivery could compare, and that did not differ.
                End::Done(None) if !served.link.sweep_compares() => {}
                End::Done(_) => swept.delivered += 1,
                End::CutOff | End::UnderWay => swept.cut_off += 1,
                End::Failed(error) => swept.failed = Some(error),
            }
        }
        announce_the_rest(served, until).await;
        swept
    }

    async fn pending_or_different<'a>(&self, served: &'a Served) -> Result<Vec<Work<'a>>, ReplicationError> {
        let mut work = self.pending(served, jiff::SignedDuration::ZERO).await?;
        let repositories = served.link.to_sweep().await?;
        work.extend(repositories.into_iter().map(|repository| Work::of_sweep(served, repository)));
        Ok(work)
    }

    /// Delivers for pending jobs that an earlier invocation left, until the deadline.
    async fn deliver_abandoned(&self, until: Instant) {
        if Instant::now() >= until {
            return;
        }
        let one = async |served| match self.pending(served, ABANDONED_AFTER).await {
            Ok(work) => drop(self.deliver_all(work, until).await),
            Err(error) => tracing::warn!(%error, "pending jobs cannot be read; the next invocation tries again"),
        };
        futures::future::join_all(self.open().map(one)).await;
    }

    /// Reads the pending jobs of a link that are older than `age`.
    async fn pending<'a>(
        &self,
        served: &'a Served,
        age: jiff::SignedDuration,
    ) -> Result<Vec<Work<'a>>, ReplicationError> {
        let link = &served.link;
        let before = link.clock().now().checked_sub(age).unwrap_or(jiff::Timestamp::MIN);
        let jobs = PendingJobs::of(&**link).read(before).await.map_err(|error| link.table_failed(error))?;
        Ok(merged(jobs.into_iter().map(|job| Work::of_job(served, job, Vec::new())).collect()))
    }

    async fn count(&self, work: &Work<'_>, end: &End, until: Instant) {
        let late = match end {
            End::Done(delivery) => {
                delivery.as_ref().and_then(|delivery| delivery.lag_ms).map_or(0.0, |ms| ms as f64 / 1000.0)
            }
            End::Failed(_) => lateness(work, until).await,
            End::CutOff | End::UnderWay => 0.0,
        };
        let mut all = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let link = work.served.link.name().to_owned();
        let metrics = all.entry(link.clone()).or_insert_with(|| LinkMetrics { link, ..LinkMetrics::default() });
        metrics.lag_seconds = metrics.lag_seconds.max(late);
        match end {
            End::Done(delivery) => metrics.delivered += u64::from(delivery.is_some()),
            End::CutOff | End::UnderWay => metrics.pending += 1,
            End::Failed(error) => {
                metrics.pending += 1;
                metrics.failed += 1;
                metrics.failing += 1;
                metrics.forks += u64::from(matches!(error, ReplicationError::Fork { .. }));
            }
        }
    }

    async fn deliver_all<'a>(&self, work: Vec<Work<'a>>, until: Instant) -> Vec<(Work<'a>, End)> {
        let deliver = |work: Work<'a>| async move {
            let end = if Instant::now() < until {
                timeout_at(until, deliver(&work)).await.unwrap_or(End::CutOff)
            } else {
                End::CutOff
            };
            self.count(&work, &end, until).await;
            (work, end)
        };
        stream::iter(work).map(deliver).buffer_unordered(self.jobs).collect().await
    }
}
