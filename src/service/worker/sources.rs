//! Sources of work other than events within the process: queues, pending jobs, outboxes and sweeps. Each is a task of
//! its own, so that a slow one holds up no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::options::WorkerOptions;
use super::status::{BEAT_EVERY, Status};
use crate::delivery::intake::take_batch;
use crate::delivery::link::SweepObserver;
use crate::delivery::pending::{ABANDONED_AFTER, PendingJobs};
use crate::delivery::scheduler::Cause;
use crate::delivery::{Link, RepositoryKey};
use crate::events::outbox::{OutboxRow, read_outbox};
use crate::events::sqs::{LONG_POLL, Queue};
use gitferry_base::Kind;
use gitferry_base::retry::Backoff;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_replication::ReplicationError;
use gitferry_store::table::MAX_GET_KEYS;

/// Period between two reads of the pending jobs: a worker that is gone may have left some.
const READ_JOBS_EVERY: Duration = Duration::from_secs(30);
/// Shortest time between two repositories of a sweep.
const SHORTEST_SWEEP_WAIT: Duration = Duration::from_micros(1);
/// Most rows of an outbox that are remembered as dealt with; with more, all are compared again.
const MAX_SEEN: usize = 100_000;

/// A repository that has to be delivered.
#[derive(Debug)]
pub(super) struct Found {
    /// Position of the link.
    pub link: usize,
    pub repository: RepositoryKey,
    pub cause: Cause,
}

/// The sources of one link.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Position of the link.
    pub at: usize,
    pub link: Arc<dyn Link>,
    pub options: WorkerOptions,
    pub status: Arc<Status>,
    /// Bounded: a worker that has enough to do takes no more from queues.
    pub found: mpsc::Sender<Found>,
}

impl Source {
    /// Runs all sources but queues, without end.
    pub async fn sweep(self) {
        futures::join!(self.read_jobs(), self.read_outbox(), self.sweep_periodically(), self.check_stores());
    }

    /// Checks that the stores of the link's regions are still those that were opened.
    async fn check_stores(&self) {
        let mut tick = every(BEAT_EVERY);
        // The stores have just been opened.
        tick.tick().await;
        loop {
            tick.tick().await;
            for region in self.link.regions() {
                let error = region.stores().check().await.err();
                let what = format!("region {}", region.name());
                self.status.used(self.at, &what, error.map(|error| error.to_string()));
            }
        }
    }

    async fn request(&self, repository: RepositoryKey, cause: Cause) {
        // This fails only when the worker is gone, and this task with it.
        let _ = self.found.send(Found { link: self.at, repository, cause }).await;
    }

    fn note<T, E: std::fmt::Display>(&self, what: &str, result: Result<T, E>) -> Option<T> {
        let name = format!("{what} of link {}", self.link.name());
        match result {
            Ok(value) => {
                self.status.used(self.at, &name, None);
                Some(value)
            }
            Err(error) => {
                tracing::warn!(%error, link = self.link.name(), "{what}: failed; tried again");
                self.status.used(self.at, &name, Some(error.to_string()));
                None
            }
        }
    }

    /// Receives messages without end. A message is deleted once its event is a pending job, or a dead letter.
    pub async fn poll(self, queue: Queue) {
        let mut backoff = None;
        loop {
            let Some(messages) = self.note("the queue", queue.receive(LONG_POLL).await) else {
                let backoff = backoff.get_or_insert_with(|| Backoff::new(Kind::Transient));
                tokio::time::sleep(backoff.next_wait()).await;
                continue;
            };
            backoff = None;
            let bodies: Vec<&str> = messages.iter().map(|message| message.body.as_str()).collect();
            let outcome = take_batch(&*self.link, Some(&queue), &bodies).await;
            gitferry_base::fault::crash_point("queue-marked");
            let counters = &self.status.counters;
            counters.messages.add(messages.len() as u64);
            counters.duplicates.add(outcome.duplicates);
            counters.ignored.add(outcome.ignored);
            counters.rejected.add(outcome.rejected);
            for (job, _) in outcome.pending {
                self.request(job.repository(), Cause::Job(job)).await;
            }
            let done: Vec<_> = outcome.done.into_iter().map(|at| messages[at].clone()).collect();
            self.note("the queue", queue.delete(&done).await);
        }
    }

    /// Takes up the pending jobs that no worker is working on.
    async fn read_jobs(&self) {
        let jobs = PendingJobs::of(&*self.link);
        let mut tick = every(READ_JOBS_EVERY);
        let mut is_first = true;
        loop {
            tick.tick().await;
            let now = self.link.clock().now();
            // At the start all of them may be this worker's own, from before it died.
            let before = if is_first { now } else { now.checked_sub(ABANDONED_AFTER).unwrap_or(now) };
            let Some(found) = self.note("the pending jobs", jobs.read(before).await) else { continue };
            is_first = false;
            for job in found {
                self.request(job.repository(), Cause::Job(job)).await;
            }
        }
    }

    /// Compares the repositories in the outbox of the source. A remote has no outbox.
    async fn read_outbox(&self) {
        let Some(period) = self.options.outbox_every else { return };
        let Some(source) = self.link.source_region() else { return };
        let mut tick = every(period);
        let mut seen: HashMap<RepositoryId, u64> = HashMap::new();
        loop {
            tick.tick().await;
            let rows = read_outbox(source.table()).await;
            let Some(rows) = self.note("the outbox", rows) else { continue };
            // Without a publisher the rows stay: each is compared once.
            let new: Vec<_> = rows.into_iter().filter(|row| seen.get(&row.id) != Some(&row.seq)).collect();
            if self.note("the outbox", self.request_undelivered(&new, &mut seen).await).is_some() {
                self.status.counters.outboxes.add(1);
            }
        }
    }

    /// Requests the repositories of an outbox that the target is behind with.
    async fn request_undelivered(
        &self,
        rows: &[OutboxRow],
        seen: &mut HashMap<RepositoryId, u64>,
    ) -> Result<(), ReplicationError> {
        for rows in rows.chunks(MAX_GET_KEYS) {
            let ids: Vec<RepositoryId> = rows.iter().map(|row| row.id).collect();
            for repository in self.link.undelivered(&ids).await? {
                self.request(repository, Cause::Event).await;
            }
            if seen.len() > MAX_SEEN {
                seen.clear();
            }
            seen.extend(rows.iter().map(|row| (row.id, row.seq)));
        }
        Ok(())
    }

    /// Sweeps at the start and once each period, at the rate of the options.
    async fn sweep_periodically(&self) {
        let mut tick = every(self.options.sweep_every);
        loop {
            tick.tick().await;
            if let Some(Some(packs)) = self.note("the count of damaged packs", self.link.packs_aside().await) {
                self.status.packs_aside(self.at, packs);
            }
            let sweep = Sweep { source: self, next: Mutex::new(Instant::now()) };
            let Some(totals) = self.note("the sweep", self.link.sweep(&sweep).await) else { continue };
            if let Some(repositories) = totals.repositories {
                self.status.counted(self.at, repositories);
            }
            self.status.unverified_since(self.at, totals.unverified_since);
            self.status.counters.sweeps.add(1);
        }
    }
}

/// One sweep over a link.
struct Sweep<'a> {
    source: &'a Source,
    /// Earliest time of the next repository.
    next: Mutex<Instant>,
}

#[async_trait]
impl SweepObserver for Sweep<'_> {
    async fn throttle(&self, repositories: usize) {
        let rate = f64::from(self.source.options.sweep_rate.max(1));
        let wait = Duration::from_secs_f64(repositories as f64 / rate).max(SHORTEST_SWEEP_WAIT);
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + wait;
    }

    async fn found(&self, repository: RepositoryKey) {
        self.source.request(repository, Cause::Sweep).await;
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
