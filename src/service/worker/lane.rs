//! One link of a worker: it has tasks, slots and sources of its own, so that a server that is silent, a region that is
//! gone, or ten thousand repositories that wait take nothing from the other links.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep_until};

use super::behind::Behind;
use super::servers::Servers;
use super::sources::{Found, Source};
use super::status::Status;
use super::tasks::{Cause, Start, Task, Tasks};
use super::{BEAT_EVERY, With, WorkerOptions};
use crate::events::due::{Asked, Brought, deliver_due};
use crate::events::sqs::Queue;
use gitferry_base::Kind;
use gitferry_engine::announce::{Event, Sink};
use gitferry_replication::pass::MAX_JOBS;
use gitferry_replication::{AnyLink, ReplicationError, Which};

/// Repositories of one link that are waiting or being delivered; events wait when there are more.
const MAX_PENDING: usize = 10_000;
/// What the sources of one link have found and the worker has not taken yet.
const MAX_FOUND: usize = 1_000;

/// How one delivery ended.
struct Ended {
    task: Task,
    result: Result<Option<Brought>, Failed>,
}

/// A delivery that failed.
#[derive(Clone, Debug)]
struct Failed {
    kind: Kind,
    /// The error.
    reason: String,
    fork: bool,
    /// Another worker delivers it at the moment.
    under_way: bool,
    /// When the oldest change was committed that the target lacks, where that could be found out.
    committed: Option<Timestamp>,
}

/// A link that is being worked on.
#[derive(Debug)]
pub(super) struct Lane {
    /// The place of the link.
    at: usize,
    link: Arc<AnyLink>,
    queues: Vec<Queue>,
    options: WorkerOptions,
    status: Arc<Status>,
    /// Slots at Git servers, and the servers at the ends of the link.
    servers: Arc<Servers>,
    at_servers: Arc<[String]>,
    sink: Option<Arc<dyn Sink>>,
    /// No more than [`WorkerOptions::jobs`].
    running: JoinSet<Ended>,
    running_tasks: HashMap<Id, Task>,
    tasks: Tasks,
    behind: Behind,
}

impl Lane {
    pub(super) fn new(
        at: usize,
        link: AnyLink,
        queues: Vec<Queue>,
        With { options, status, servers, sink }: With,
    ) -> Self {
        let at_servers: Arc<[String]> = link.servers().into();
        servers.join(at, &at_servers);
        Lane {
            at,
            link: Arc::new(link),
            queues,
            options,
            status,
            servers,
            at_servers,
            sink,
            running: JoinSet::new(),
            running_tasks: HashMap::new(),
            tasks: Tasks::default(),
            behind: Behind::default(),
        }
    }

    /// Works until `stop` turns true, then lets running deliveries finish for [`WorkerOptions::grace`]. What is
    /// cut off then goes on where it was with the next delivery.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
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
                _ = beat.tick() => self.status.stand(self.at, self.behind.standing(self.at)),
            }
            self.start_ready();
            self.status.beat(self.at, self.tasks.len());
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
            link: (*self.link).clone(),
            options: self.options.clone(),
            status: self.status.clone(),
            found: sender,
        };
        self.queues.iter().for_each(|queue| _ = sources.spawn(source.clone().poll(queue.clone())));
        sources.spawn(source.sweep());
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
        if self.link.source_region().is_some_and(|source| source.name == event.region) {
            self.hear((self.at, Which::Id(event.repository)), Cause::Event);
        }
    }

    fn hear(&mut self, task: Task, cause: Cause) {
        // That a remote is to be looked at does not say that anything is behind.
        if cause != Cause::Sweep || matches!(*self.link, AnyLink::Regions(_)) {
            self.behind.heard(&task, self.status.now());
        }
        self.tasks.hear(task, cause);
    }

    /// As many as may be under way at a time.
    fn start_ready(&mut self) {
        while self.running.len() < self.options.jobs.clamp(1, MAX_JOBS)
            && let Some(start) = self.tasks.begin()
        {
            let (link, sink, task) = (self.link.clone(), self.sink.clone(), start.task());
            let Start { link: at, asked } = start;
            let (servers, at_servers) = (self.servers.clone(), self.at_servers.clone());
            let handle = self.running.spawn(async move {
                let _slots = servers.enter(at, &at_servers).await;
                let result = deliver(&link, &asked, sink.as_deref()).await;
                Ended { task: (at, asked.which), result }
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
        let unannounced = self.tasks.ended(&task, result.as_ref().err().map(|failed| failed.kind), Instant::now());
        let now = self.status.now();
        // Where the time of a change is not known, it counts since it was heard of.
        let heard = self.behind.since(&task).map_or(0, |since| now.duration_since(since).as_millis() as i64);
        match &result {
            Ok(_) => self.behind.delivered(&task, self.tasks.knows(&task), now),
            Err(failed) if failed.under_way => self.behind.heard(&task, now),
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
    /// Also notes it in the link's statistics; links with a remote have done so.
    async fn of(link: &AnyLink, which: &Which, error: &ReplicationError) -> Failed {
        let mut committed = None;
        if let (AnyLink::Regions(link), Which::Id(id)) = (link, which) {
            link.note_failure(*id, error).await;
            committed = link.behind_since(*id).await.ok().flatten();
        }
        let (fork, under_way) = (matches!(error, ReplicationError::Fork { .. }), error.is_under_way());
        Failed { kind: error.kind(), reason: error.to_string(), fork, under_way, committed }
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
