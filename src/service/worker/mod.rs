//! The long-running worker: delivers the changes that events announce, and sweeps for changes that no event announced.
//!
//! Repositories are independent of each other: a slow or broken one never holds up another. Any number of events for a
//! repository that is being delivered come to one more delivery.

pub mod backup;
mod behind;
pub mod garbage;
pub mod health;
mod lane;
pub mod metrics;
mod options;
mod servers;
mod sources;
pub mod status;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::delivery::Link;
use crate::events::sqs::Queue;
use gitferry_base::Kind;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_base::retry::Backoff;
use gitferry_engine::announce::{Event, Sink};
use gitferry_replication::pass::MAX_JOBS;
use lane::{Lane, Shared};
pub use options::WorkerOptions;
use servers::Servers;
use status::{BEAT_EVERY, Status};

/// Most events that wait for one link; further ones are dropped and left to its sweep.
const MAX_EVENTS: usize = 10_000;

/// An opened link and its queue.
#[derive(Debug)]
pub struct Opened {
    /// The link.
    pub link: Arc<dyn Link>,
    /// The queue that brings its events, if there is one.
    pub queue: Option<Queue>,
}

/// Opens a link, again and again until its stores open. Other links are worked on meanwhile.
#[async_trait]
pub trait OpenLink: std::fmt::Debug + Send + Sync {
    /// Name of the link.
    fn name(&self) -> &str;

    /// Opens the link; an error is the reason in words.
    async fn open(&self) -> Result<Opened, String>;
}

/// One link, open or not yet.
#[derive(Debug)]
enum Entry {
    Open(Arc<dyn Link>, Vec<Queue>),
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

/// A worker over several links.
#[derive(Debug)]
pub struct Worker {
    entries: Vec<Entry>,
    options: WorkerOptions,
    status: Arc<Status>,
    /// Receives the changes of the targets.
    sink: Option<Arc<dyn Sink>>,
}

impl Worker {
    /// Makes a worker over open links.
    pub fn new<L: Link + 'static>(links: Vec<L>, options: WorkerOptions) -> Self {
        let links = links.into_iter().map(|link| Arc::new(link) as Arc<dyn Link>).collect();
        Worker::over(links, Vec::new(), options)
    }

    /// Makes a worker over open links, and links that it opens as soon as their stores do.
    pub fn over(links: Vec<Arc<dyn Link>>, waiting: Vec<Arc<dyn OpenLink>>, options: WorkerOptions) -> Self {
        let clock: Arc<dyn Clock> = links.first().map_or_else(SystemClock::shared, |link| link.clock().clone());
        let open = links.into_iter().map(|link| Entry::Open(link, Vec::new()));
        let entries: Vec<Entry> = open.chain(waiting.into_iter().map(Entry::Waiting)).collect();
        let status = Arc::new(Status::of(entries.iter().map(Entry::name), Some(clock)));
        Worker { entries, options, status, sink: None }
    }

    /// Adds a queue that brings events of an open link.
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

    /// Publishes the changes of the targets to a sink.
    pub fn announcing(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Status and counters, readable while the worker runs.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Works until `stop` turns true, then lets running deliveries end for [`WorkerOptions::grace`]. The next worker
    /// resumes deliveries that are cut off.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
        let Worker { entries, options, status, sink } = self;
        let mut lanes = JoinSet::new();
        let servers = Servers::new(options.jobs.clamp(1, MAX_JOBS));
        let mut senders = Vec::with_capacity(entries.len());
        for (at, entry) in entries.into_iter().enumerate() {
            let (sender, received) = mpsc::channel(MAX_EVENTS);
            senders.push(sender);
            let (options, status, sink) = (options.clone(), status.clone(), sink.clone());
            let shared = Shared { options, status, servers: servers.clone(), sink };
            lanes.spawn(work_on(at, entry, shared, received, stop.clone()));
        }
        let dispatching = async {
            while let Some(event) = events.recv().await {
                for sender in &senders {
                    // A full link finds the rest by its sweep.
                    let _ = sender.try_send(event.clone());
                }
            }
            // Without hosts in this process, queues and outboxes are the only sources.
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

/// Opens a link, however long that takes, and works on it until `stop` turns true.
async fn work_on(
    at: usize,
    entry: Entry,
    shared: Shared,
    events: mpsc::Receiver<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let (link, queues) = match entry {
        Entry::Open(link, queues) => (link, queues),
        Entry::Waiting(opener) => {
            tokio::select! {
                Opened { link, queue } = open(at, &*opener, &shared.status) => (link, Vec::from_iter(queue)),
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    };
    Lane::new(at, link, queues, shared).run(events, stop).await;
}

/// Tries until the link opens. Until then the worker is not ready and has the reason in its status.
async fn open(at: usize, opener: &dyn OpenLink, status: &Status) -> Opened {
    let what = format!("link {}", opener.name());
    let mut backoff = Backoff::new(Kind::Environment);
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
        beating(at, status, tokio::time::sleep(backoff.next_wait())).await;
    }
}

/// Reports the link as alive while a future is pending.
async fn beating<T>(at: usize, status: &Status, waiting: impl Future<Output = T>) -> T {
    let mut waiting = std::pin::pin!(waiting);
    loop {
        status.beat(at, 0);
        if let Ok(value) = tokio::time::timeout(BEAT_EVERY, &mut waiting).await {
            return value;
        }
    }
}
