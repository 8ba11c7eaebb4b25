//! The long-running worker: delivers what events announce, and sweeps for what none announced.
//!
//! Repositories are independent of each other: one that is slow or broken never holds up another, and any
//! number of events for one repository while it is being delivered come to one more look.

pub mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::events::Event;
use crate::ledger::head::RepositoryId;
use crate::replication::deliver::Link;
use crate::replication::pass::MAX_JOBS;

/// How to work.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Repositories to work on at a time.
    pub jobs: usize,
    /// How often all frontiers are compared.
    pub sweep_every: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions { jobs: crate::replication::pass::DEFAULT_JOBS, sweep_every: Duration::from_secs(5) }
    }
}

/// One repository on one link.
type Task = (usize, RepositoryId);

/// Delivers until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    links: Arc<[Link]>,
    options: WorkerOptions,
    jobs: Arc<Semaphore>,
    running: JoinSet<Task>,
    /// What is being delivered, and whether it has to be looked at once more afterwards.
    busy: HashMap<Task, bool>,
}

impl Worker {
    /// A worker over some links.
    pub fn new(links: Vec<Link>, options: WorkerOptions) -> Self {
        let jobs = Arc::new(Semaphore::new(options.jobs.clamp(1, MAX_JOBS)));
        Worker { links: links.into(), options, jobs, running: JoinSet::new(), busy: HashMap::new() }
    }

    /// Works until `stop` turns true, then lets running deliveries finish.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
        let mut sweep = tokio::time::interval(self.options.sweep_every);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut announced = true;
        let mut stopping = std::pin::pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            tokio::select! {
                () = &mut stopping => break,
                // Without hosts in this process, sweeps are all there is.
                event = events.recv(), if announced => match event {
                    Some(event) => self.on_event(&event),
                    None => announced = false,
                },
                Some(done) = self.running.join_next() => self.on_done(done),
                _ = sweep.tick() => self.sweep().await,
            }
        }
        while let Some(done) = self.running.join_next().await {
            self.busy.clear();
            self.on_done(done);
        }
    }

    fn on_event(&mut self, event: &Event) {
        let fed = |link: &Link| link.source.name == event.region;
        let links: Vec<usize> = (0..self.links.len()).filter(|at| fed(&self.links[*at])).collect();
        for link in links {
            self.start((link, event.repository));
        }
    }

    fn start(&mut self, task: Task) {
        if let Some(again) = self.busy.get_mut(&task) {
            *again = true;
            return;
        }
        self.busy.insert(task, false);
        let (links, jobs) = (self.links.clone(), self.jobs.clone());
        self.running.spawn(async move {
            let _permit = jobs.acquire().await;
            deliver(&links[task.0], task.1).await;
            task
        });
    }

    fn on_done(&mut self, done: Result<Task, tokio::task::JoinError>) {
        match done {
            Ok(task) => {
                if self.busy.remove(&task) == Some(true) {
                    self.start(task);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a delivery ended abnormally; the next sweep tries again");
                self.busy.clear();
            }
        }
    }

    /// Compares all frontiers and starts what differs.
    async fn sweep(&mut self) {
        let links = self.links.clone();
        for (at, link) in links.iter().enumerate() {
            match link.pairs(&[]).await {
                Ok(pairs) => {
                    let different: HashSet<RepositoryId> =
                        pairs.iter().filter(|pair| !pair.is_equal()).map(|pair| pair.source.id).collect();
                    different.into_iter().for_each(|id| self.start((at, id)));
                }
                Err(error) => tracing::warn!(%error, link = link.name, "a sweep failed; the next one tries again"),
            }
        }
    }
}

async fn deliver(link: &Link, id: RepositoryId) {
    match link.deliver(id).await {
        Ok(Some(delivered)) => {
            tracing::info!(link = link.name, %id, changes = delivered.changes, lag_ms = delivered.lag_ms, "delivered");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(link = link.name, %id, %error, "could not deliver; the next sweep tries again");
            link.note_failure(id, &error).await;
        }
    }
}
