//! The long-running worker: delivers what events announce, and sweeps for what none announced.
//!
//! Repositories are independent of each other: one that is slow or broken never holds up another, and any
//! number of events for one repository while it is being delivered come to one more look.

pub mod backup;
mod behind;
pub mod health;
pub mod lambda;
mod lane;
pub mod metrics;
mod servers;
mod sources;
pub mod status;
mod tasks;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::events::sqs::Queue;
use gitferry_base::Kind;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_base::retry::Pace;
use gitferry_engine::announce::{Event, Sink};
use gitferry_replication::AnyLink;
use gitferry_replication::pass::MAX_JOBS;
use lane::Lane;
use servers::Servers;
use status::Status;

/// How often a link shows that it is alive when there is nothing to do.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Events that wait for one link; more are dropped and left to its sweep.
const MAX_EVENTS: usize = 10_000;

/// How to work.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Repositories of each link to work on at a time, and with each Git server.
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
            jobs: gitferry_replication::pass::DEFAULT_JOBS,
            outbox_every: Some(Duration::from_secs(5)),
            sweep_every: Duration::from_secs(300),
            sweep_rate: 1_000,
            announced_within: Duration::from_secs(60),
            grace: Duration::from_secs(60),
        }
    }
}

/// A link with what a worker needs beside it.
#[derive(Debug)]
pub struct Opened {
    /// The link.
    pub link: AnyLink,
    /// Where its events come from, if it has a queue.
    pub queue: Option<Queue>,
}

/// Opens a link, once or again and again: one whose stores do not open keeps no other link from its work.
#[async_trait]
pub trait OpenLink: std::fmt::Debug + Send + Sync {
    /// The link's name.
    fn name(&self) -> &str;

    /// Opens it; an error is the reason in words.
    async fn open(&self) -> Result<Opened, String>;
}

/// One link, open or not yet.
#[derive(Debug)]
enum Entry {
    Open(Box<AnyLink>, Vec<Queue>),
    Waiting(Arc<dyn OpenLink>),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Entry::Open(link, _) => link.name(),
            Entry::Waiting(opener) => opener.name(),
        }
    }
}

/// Delivers until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    entries: Vec<Entry>,
    options: WorkerOptions,
    status: Arc<Status>,
    /// Told of what was delivered: the targets' own changes.
    sink: Option<Arc<dyn Sink>>,
}

impl Worker {
    /// A worker over some links.
    pub fn new<L: Into<AnyLink>>(links: Vec<L>, options: WorkerOptions) -> Self {
        let links: Vec<AnyLink> = links.into_iter().map(Into::into).collect();
        Worker::over(links, Vec::new(), options)
    }

    /// A worker over links that are open, and others that it opens as soon as their stores let it.
    pub fn over(links: Vec<AnyLink>, waiting: Vec<Arc<dyn OpenLink>>, options: WorkerOptions) -> Self {
        let clock: Arc<dyn Clock> = links.first().map_or_else(SystemClock::shared, |link| link.clock().clone());
        let open = links.into_iter().map(|link| Entry::Open(Box::new(link), Vec::new()));
        let entries: Vec<Entry> = open.chain(waiting.into_iter().map(Entry::Waiting)).collect();
        let status = Arc::new(Status::of(entries.iter().map(Entry::name), Some(clock)));
        Worker { entries, options, status, sink: None }
    }

    /// Takes the events of a link from a queue, too.
    pub fn listen(mut self, link: &str, queue: Queue) -> Self {
        for entry in &mut self.entries {
            if let Entry::Open(open, queues) = entry
                && open.name() == link
            {
                queues.push(queue.clone());
            }
        }
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
    pub async fn run(self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
        let Worker { entries, options, status, sink } = self;
        let mut lanes = JoinSet::new();
        let servers = Servers::new(options.jobs.clamp(1, MAX_JOBS));
        let mut senders = Vec::with_capacity(entries.len());
        for (at, entry) in entries.into_iter().enumerate() {
            let (sender, received) = mpsc::channel(MAX_EVENTS);
            senders.push(sender);
            let (options, status, sink) = (options.clone(), status.clone(), sink.clone());
            let with = With { options, status, servers: servers.clone(), sink };
            lanes.spawn(work_on(at, entry, with, received, stop.clone()));
        }
        let dispatching = async {
            while let Some(event) = events.recv().await {
                for sender in &senders {
                    // A link that has enough to do finds the rest by its sweep.
                    let _ = sender.try_send(event.clone());
                }
            }
            // Without hosts in this process, there are other sources.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = dispatching => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        status.drain();
        while let Some(ended) = lanes.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the work on a link ended abnormally");
            }
        }
    }
}

/// What all links of a worker share.
#[derive(Clone, Debug)]
struct With {
    options: WorkerOptions,
    status: Arc<Status>,
    servers: Arc<Servers>,
    sink: Option<Arc<dyn Sink>>,
}

/// Opens a link, however long that takes, and works on it until `stop` turns true.
async fn work_on(at: usize, entry: Entry, with: With, events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
    let (link, queues) = match entry {
        Entry::Open(link, queues) => (*link, queues),
        Entry::Waiting(opener) => {
            tokio::select! {
                Opened { link, queue } = open(at, &*opener, &with.status) => (link, Vec::from_iter(queue)),
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    };
    Lane::new(at, link, queues, with).run(events, stop).await;
}

/// Tries until it succeeds; until then the worker is not ready and says why.
async fn open(at: usize, opener: &dyn OpenLink, status: &Status) -> Opened {
    let what = format!("link {}", opener.name());
    let mut pace = Pace::new(Kind::Environment);
    loop {
        match beating(at, status, opener.open()).await {
            Ok(opened) => {
                status.used(at, &what, None);
                tracing::warn!(link = opener.name(), "the link could be opened and is worked on from now on");
                return opened;
            }
            Err(error) => {
                tracing::warn!(error, link = opener.name(), "the link cannot be opened; it is tried again");
                status.used(at, &what, Some(error));
            }
        }
        beating(at, status, tokio::time::sleep(pace.next_wait())).await;
    }
}

/// Shows that the link is alive while something else is waited for.
async fn beating<T>(at: usize, status: &Status, waiting: impl Future<Output = T>) -> T {
    let mut waiting = std::pin::pin!(waiting);
    loop {
        status.beat(at, 0);
        if let Ok(value) = tokio::time::timeout(BEAT_EVERY, &mut waiting).await {
            return value;
        }
    }
}
