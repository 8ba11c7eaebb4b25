//! The long-running worker: delivers what events announce, and sweeps for what none announced.
//!
//! Repositories are independent of each other: one that is slow or broken never holds up another, and any
//! number of events for one repository while it is being delivered come to one more look.

pub mod backup;
mod behind;
pub mod health;
pub mod lambda;
pub mod metrics;
mod sources;
pub mod status;
mod tasks;
pub mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep_until};

use crate::Kind;
use crate::events::due::{Asked, Brought, deliver_due};
use crate::events::sqs::Queue;
use crate::events::{Event, Sink};
use crate::replication::pass::MAX_JOBS;
use crate::replication::{AnyLink, ReplicationError, Which};
use behind::Behind;
use sources::{Found, Source};
use status::Status;
use tasks::{Cause, Start, Task, Tasks};

/// Repositories that are waiting or being delivered; events wait when there are more.
const MAX_PENDING: usize = 10_000;
/// What sources have found and the worker has not taken yet.
const MAX_FOUND: usize = 1_000;
/// How often the worker shows that it is alive when there is nothing to do.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// How to work.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Repositories to work on at a time.
    pub jobs: usize,
    /// How often the sources' outboxes are read; never when somebody else passes them on.
    pub outbox_every: Option<Duration>,
    /// How often all frontiers are compared.
    pub sweep_every: Duration,
    /// How many of them a second.
    pub sweep_rate: u32,
    /// What a sweep delivers that was committed longer ago than this, no event has announced.
    pub announced_within: Duration,
    /// How long running deliveries may take to end once the worker has been told to stop.
    pub grace: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions {
            jobs: crate::replication::pass::DEFAULT_JOBS,
            outbox_every: Some(Duration::from_secs(5)),
            sweep_every: Duration::from_secs(300),
            sweep_rate: 1_000,
            announced_within: Duration::from_secs(60),
            grace: Duration::from_secs(60),
        }
    }
}

/// How one delivery ended.
struct Ended {
    task: Task,
    result: Result<Option<Brought>, Failed>,
}

/// A delivery that failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    kind: Kind,
    fork: bool,
    /// Somebody else delivers it at the moment.
    under_way: bool,
    /// When the oldest change was committed that the target lacks, where that could be found out.
    committed: Option<Timestamp>,
}

/// Delivers until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    links: Arc<[AnyLink]>,
    queues: Vec<(usize, Queue)>,
    options: WorkerOptions,
    status: Arc<Status>,
    /// Told of what was delivered: the targets' own changes.
    sink: Option<Arc<dyn Sink>>,
    /// No more than [`WorkerOptions::jobs`].
    running: JoinSet<Ended>,
    running_tasks: HashMap<Id, Task>,
    tasks: Tasks,
    behind: Behind,
}

impl Worker {
    /// A worker over some links.
    pub fn new<L: Into<AnyLink>>(links: Vec<L>, options: WorkerOptions) -> Self {
        let links: Vec<AnyLink> = links.into_iter().map(Into::into).collect();
        let clock = links.first().map(|link| link.clock().clone());
        let status = Arc::new(Status::of(links.iter().map(AnyLink::name), clock));
        Worker {
            links: links.into(),
            queues: Vec::new(),
            options,
            status,
            sink: None,
            running: JoinSet::new(),
            running_tasks: HashMap::new(),
            tasks: Tasks::default(),
            behind: Behind::default(),
        }
    }

    /// Takes the events of a link from a queue, too.
    pub fn listen(mut self, link: &str, queue: Queue) -> Self {
        self.queues.extend(self.links.iter().position(|other| other.name() == link).map(|at| (at, queue)));
        self
    }

    /// Tells of what it has delivered.
    pub fn announcing(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// What it does, to look at while it runs.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Works until `stop` turns true, then lets running deliveries finish for [`WorkerOptions::grace`]. What is
    /// cut off then goes on where it was, whoever delivers it next.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
        let (mut sources, mut found) = self.open_sources();
        let mut beat = interval(BEAT_EVERY);
        let mut announced = true;
        let mut stopping = std::pin::pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            let room = self.tasks.len() < MAX_PENDING;
            let next_wait = self.tasks.next_wait();
            tokio::select! {
                () = &mut stopping => break,
                // Without hosts in this process, there are other sources.
                event = events.recv(), if announced && room => match event {
                    Some(event) => self.on_event(&event),
                    None => announced = false,
                },
                Some(Found { link, which, cause }) = found.recv(), if room => self.hear((link, which), cause),
                Some(ended) = self.running.join_next_with_id() => self.on_ended(ended),
                () = sleep_until(next_wait.unwrap_or_else(Instant::now)), if next_wait.is_some() => {
                    self.tasks.ripen(Instant::now());
                }
                _ = beat.tick() => self.status.stand(|link| self.behind.standing(link)),
            }
            self.start_ready();
            self.status.beat(self.tasks.len());
        }
        self.status.drain();
        sources.shutdown().await;
        self.drain().await;
    }

    fn open_sources(&self) -> (JoinSet<()>, mpsc::Receiver<Found>) {
        let (sender, found) = mpsc::channel(MAX_FOUND);
        let mut sources = JoinSet::new();
        let source = |at: usize| Source {
            at,
            link: self.links[at].clone(),
            options: self.options.clone(),
            status: self.status.clone(),
            found: sender.clone(),
        };
        (0..self.links.len()).for_each(|at| _ = sources.spawn(source(at).sweep()));
        self.queues.iter().for_each(|(at, queue)| _ = sources.spawn(source(*at).poll(queue.clone())));
        (sources, found)
    }

    /// Those that run may end. The marks of those that have not begun stay for the next worker.
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
        let fed = |link: &AnyLink| link.source_region().is_some_and(|source| source.name == event.region);
        let links: Vec<usize> = (0..self.links.len()).filter(|at| fed(&self.links[*at])).collect();
        for link in links {
            self.hear((link, Which::Id(event.repository)), Cause::Event);
        }
    }

    fn hear(&mut self, task: Task, cause: Cause) {
        // That a remote is to be looked at does not say that anything is behind.
        if cause != Cause::Sweep || matches!(self.links[task.0], AnyLink::Regions(_)) {
            self.behind.heard(&task, self.status.now());
        }
        self.tasks.hear(task, cause);
    }

    /// As many as may be under way at a time.
    fn start_ready(&mut self) {
        while self.running.len() < self.options.jobs.clamp(1, MAX_JOBS)
            && let Some(start) = self.tasks.begin()
        {
            let (links, sink, task) = (self.links.clone(), self.sink.clone(), start.task());
            let Start { link, asked } = start;
            let handle = self.running.spawn(async move {
                let result = deliver(&links[link], &asked, sink.as_deref()).await;
                Ended { task: (link, asked.which), result }
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
        let unknown = Failed { kind: Kind::Internal, fork: false, under_way: false, committed: None };
        let result = ended.map_or(Err(unknown), |ended| {
            debug_assert_eq!(ended.task, task);
            ended.result
        });
        let unannounced = self.tasks.ended(&task, result.as_ref().err().map(|failed| failed.kind), Instant::now());
        let now = self.status.now();
        // Where nobody knows when a change was made, it counts since it was heard of.
        let heard = self.behind.since(&task).map_or(0, |since| now.duration_since(since).as_millis() as i64);
        match &result {
            Ok(_) => self.behind.delivered(&task, self.tasks.knows(&task), now),
            Err(failed) => self.behind.failed(&task, failed.fork, failed.committed, now),
        }
        self.count(&task, &result, unannounced, heard);
    }

    fn count(&self, task: &Task, result: &Result<Option<Brought>, Failed>, unannounced: bool, heard_ms: i64) {
        let counters = &self.status.counters;
        match result {
            Ok(Some(brought)) => {
                counters.delivered.add(1);
                let lag_ms = brought.lag_ms.unwrap_or(heard_ms).max(0);
                self.status.delivered(task.0, Duration::from_millis(lag_ms as u64));
                counters.changes.add(brought.changes);
                let late = brought.lag_ms.is_some_and(|lag| lag as u128 >= self.options.announced_within.as_millis());
                if unannounced && late {
                    counters.unannounced.add(1);
                    let link = self.links[task.0].name();
                    tracing::warn!(link, repository = %task.1, lag_ms, "no event had announced this change");
                }
            }
            Ok(None) => {}
            Err(failed) if failed.under_way => {}
            Err(_) => {
                counters.failed.add(1);
                self.status.failed(task.0);
            }
        }
    }
}

impl Failed {
    /// Also notes it in the link's statistics; links with a remote have done so.
    async fn of(link: &AnyLink, which: &Which, error: &ReplicationError) -> Failed {
        let mut committed = None;
        if let (AnyLink::Regions(link), Which::Id(id)) = (link, which) {
            link.note_failure(*id, error).await;
            committed = link.behind_since(*id).await.ok().flatten();
        }
        let (fork, under_way) = (matches!(error, ReplicationError::Fork { .. }), error.is_under_way());
        Failed { kind: error.kind(), fork, under_way, committed }
    }
}

/// Delivers a repository and takes away the marks that asked for it.
async fn deliver(link: &AnyLink, asked: &Asked, sink: Option<&dyn Sink>) -> Result<Option<Brought>, Failed> {
    let (name, which) = (link.name(), &asked.which);
    let brought = match deliver_due(link, asked).await {
        Ok(brought) => brought,
        Err(error) => {
            match error.is_under_way() {
                true => tracing::info!(link = name, repository = %which, %error, "it is looked at again"),
                false => {
                    tracing::warn!(link = name, repository = %which, %error, "could not deliver; it is tried again")
                }
            }
            return Err(Failed::of(link, which, &error).await);
        }
    };
    if let Some(Brought { changes, lag_ms, reached }) = &brought {
        tracing::info!(link = name, repository = %which, changes, lag_ms, "delivered");
        if let (Some(sink), Some((repository, seq)), Some(target)) = (sink, *reached, link.target_region()) {
            sink.publish(Event { region: target.name.clone(), repository, seq });
        }
    }
    Ok(brought)
}
