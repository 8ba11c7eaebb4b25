//! One link of a worker, with a scheduler, slots and sources of its own: a silent server, a region that is gone or ten
//! thousand waiting repositories take nothing from the other links.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep_until};

use super::behind::Behind;
use super::options::WorkerOptions;
use super::servers::Servers;
use super::sources::{Found, Source};
use super::status::{BEAT_EVERY, Status};
use crate::delivery::request::{Delivery, DeliveryRequest};
use crate::delivery::run::{Announce, Retries, run};
use crate::delivery::scheduler::{Cause, Scheduler, Start, Task};
use crate::delivery::{Link, RepositoryKey};
use crate::events::sqs::Queue;
use gitferry_base::Kind;
use gitferry_engine::announce::{Event, Sink};
use gitferry_replication::ReplicationError;
use gitferry_replication::pass::MAX_JOBS;

/// Most repositories of one link that wait, run or back off; with more, events and sources wait.
const MAX_PENDING: usize = 10_000;
/// Most repositories that the sources of one link have found and the worker has not taken yet.
const MAX_FOUND: usize = 1_000;

/// State that all links of a worker share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub options: WorkerOptions,
    pub status: Arc<Status>,
    pub servers: Arc<Servers>,
    pub sink: Option<Arc<dyn Sink>>,
}

/// A delivery that has ended.
struct Ended {
    task: Task,
    result: Result<Option<Delivery>, Failed>,
}

/// A delivery that failed.
#[derive(Clone, Debug)]
struct Failed {
    kind: Kind,
    reason: String,
    fork: bool,
    /// True if nothing failed, but another process delivers the repository.
    under_way: bool,
    /// Commit time of the oldest change that the target lacks, where it could be read.
    committed: Option<Timestamp>,
}

/// A link that is being worked on.
#[derive(Debug)]
pub(super) struct Lane {
    /// Position of the link in the worker.
    at: usize,
    link: Arc<dyn Link>,
    queues: Vec<Queue>,
    options: WorkerOptions,
    status: Arc<Status>,
    /// Slots at Git servers, and the servers at the ends of the link.
    servers: Arc<Servers>,
    at_servers: Arc<[String]>,
    sink: Option<Arc<dyn Sink>>,
    /// At most [`WorkerOptions::jobs`] deliveries.
    running: JoinSet<Ended>,
    running_tasks: HashMap<Id, Task>,
    scheduler: Scheduler,
    behind: Behind,
}

impl Lane {
    pub(super) fn new(
        at: usize,
        link: Arc<dyn Link>,
        queues: Vec<Queue>,
        Shared { options, status, servers, sink }: Shared,
    ) -> Self {
        let at_servers: Arc<[String]> = link.servers().into();
        servers.join(at, &at_servers);
        Lane {
            at,
            link,
            queues,
            options,
            status,
            servers,
            at_servers,
            sink,
            running: JoinSet::new(),
            running_tasks: HashMap::new(),
            scheduler: Scheduler::default(),
            behind: Behind::default(),
        }
    }

    /// Works until `stop` turns true, then lets running deliveries end for [`WorkerOptions::grace`]. The next delivery
    /// resumes those that are cut off.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
        let (mut sources, mut found) = self.open_sources();
        let mut beat = interval(BEAT_EVERY);
        let mut announced = true;
        let mut stopping = std::pin::pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            let room = self.scheduler.len() < MAX_PENDING;
            let backoff_end = self.scheduler.next_backoff_end();
            tokio::select! {
                () = &mut stopping => break,
                // Without hosts in this process, queues and outboxes are the only sources.
                event = events.recv(), if announced && room => match event {
                    Some(event) => self.on_event(&event),
                    None => announced = false,
                },
                Some(Found { link, repository, cause }) = found.recv(), if room => self.request((link, repository), cause),
                Some(ended) = self.running.join_next_with_id() => self.on_ended(ended),
                () = sleep_until(backoff_end.unwrap_or_else(Instant::now)), if backoff_end.is_some() => {
                    self.scheduler.end_backoffs(Instant::now());
                }
                _ = beat.tick() => self.status.stand(self.at, self.behind.standing(self.at)),
            }
            self.start_ready();
            self.status.beat(self.at, self.scheduler.len());
        }
        self.status.drain();
        sources.shutdown().await;
        self.drain().await;
    }

    fn open_sources(&self) -> (JoinSet<()>, mpsc::Receiver<Found>) {
        let (sender, found) = mpsc::channel(MAX_FOUND);
        let mut sources = JoinSet::new();
        let source = Source {
            at: self.at,
            link: self.link.clone(),
            options: self.options.clone(),
            status: self.status.clone(),
            found: sender,
        };
        self.queues.iter().for_each(|queue| _ = sources.spawn(source.clone().poll(queue.clone())));
        sources.spawn(source.sweep());
        (sources, found)
    }

    /// Lets running deliveries end. The pending jobs of the others stay for the next worker.
    async fn drain(&mut self) {
        let grace = self.options.grace;
        let all = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                self.on_ended(ended);
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(
                deliveries = self.running.len(),
                "not all deliveries ended in time; the next worker goes on"
            );
            self.running.shutdown().await;
        }
    }

    fn on_event(&mut self, event: &Event) {
        if self.link.source_region().is_some_and(|source| source.name() == event.region) {
            self.request((self.at, RepositoryKey::Id(event.repository)), Cause::Event);
        }
    }

    fn request(&mut self, task: Task, cause: Cause) {
        // A sweep that cannot compare requests every repository, which says of none that the target is behind.
        if cause != Cause::Sweep || self.link.sweep_compares() {
            self.behind.heard(&task, self.status.now());
        }
        self.scheduler.request(task, cause);
    }

    /// Starts deliveries until [`WorkerOptions::jobs`] are running.
    fn start_ready(&mut self) {
        while self.running.len() < self.options.jobs.clamp(1, MAX_JOBS)
            && let Some(start) = self.scheduler.start_next()
        {
            let (link, sink, task) = (self.link.clone(), self.sink.clone(), start.task());
            let Start { link: at, request } = start;
            let (servers, at_servers) = (self.servers.clone(), self.at_servers.clone());
            let handle = self.running.spawn(async move {
                let _slots = servers.enter(at, &at_servers).await;
                let announce = sink.as_deref().map_or(Announce::Off, Announce::Wake);
                let result = deliver(&*link, &request, announce).await;
                Ended { task: (at, request.repository), result }
            });
            self.running_tasks.insert(handle.id(), task);
        }
    }

    fn on_ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, Some(ended)),
            Err(error) => {
                tracing::error!(%error, "a delivery ended abnormally; it is tried again");
                (error.id(), None)
            }
        };
        let Some(task) = self.running_tasks.remove(&id) else { return };
        let reason = "a delivery ended abnormally".to_owned();
        let unknown = Failed { kind: Kind::Internal, reason, fork: false, under_way: false, committed: None };
        let result = ended.map_or(Err(unknown), |ended| {
            debug_assert_eq!(ended.task, task);
            ended.result
        });
        let unannounced = self.scheduler.end(&task, result.as_ref().err().map(|failed| failed.kind), Instant::now());
        let now = self.status.now();
        // Without the time of a change, the lag counts from the first request.
        let heard = self.behind.since(&task).map_or(0, |since| now.duration_since(since).as_millis() as i64);
        match &result {
            Ok(_) => self.behind.delivered(&task, self.scheduler.contains(&task), now),
            Err(failed) if failed.under_way => self.behind.heard(&task, now),
            Err(failed) => self.behind.failed(&task, failed.fork, failed.committed, now),
        }
        self.count(&task, &result, unannounced, heard);
    }

    fn count(&self, task: &Task, result: &Result<Option<Delivery>, Failed>, unannounced: bool, heard_ms: i64) {
        let counters = &self.status.counters;
        match result {
            Ok(Some(delivery)) => {
                counters.delivered.add(1);
                let lag_ms = delivery.lag_ms.unwrap_or(heard_ms).max(0);
                self.status.delivered(task.0, Duration::from_millis(lag_ms as u64));
                counters.changes.add(delivery.changes);
                let late = delivery.lag_ms.is_some_and(|lag| lag as u128 >= self.options.announced_within.as_millis());
                if unannounced && late {
                    counters.unannounced.add(1);
                    let link = self.link.name();
                    tracing::warn!(link, repository = %task.1, lag_ms, "no event had announced this change");
                }
            }
            Ok(None) => self.status.worked(task.0, &task.1),
            Err(failed) if failed.under_way => {}
            Err(failed) => {
                counters.failed.add(1);
                self.status.failed(task.0, &task.1, &failed.reason);
            }
        }
    }
}

impl Failed {
    async fn of(link: &dyn Link, repository: &RepositoryKey, error: &ReplicationError) -> Failed {
        Failed {
            kind: error.kind(),
            reason: error.to_string(),
            fork: matches!(error, ReplicationError::Fork { .. }),
            under_way: error.is_under_way(),
            committed: link.oldest_undelivered(repository).await.ok().flatten(),
        }
    }
}

async fn deliver(
    link: &dyn Link,
    request: &DeliveryRequest,
    announce: Announce<'_>,
) -> Result<Option<Delivery>, Failed> {
    let repository = &request.repository;
    match run(link, request, announce, Retries::Off).await {
        Ok(delivery) => {
            if let Some(Delivery { changes, lag_ms, .. }) = delivery {
                tracing::info!(link = link.name(), %repository, changes, lag_ms, "delivered");
            }
            Ok(delivery)
        }
        Err(error) => Err(Failed::of(link, repository, &error).await),
    }
}
