//! Where a worker hears of work beside events in its own process: queues, due marks, outboxes, frontiers. Each
//! is a task of its own: one that is slow holds up no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::status::Status;
use super::tasks::Cause;
use super::{BEAT_EVERY, WorkerOptions};
use crate::events::due::DueMarks;
use crate::events::outbox::{OutboxRow, read_outbox};
use crate::events::remote::{all_of, not_reached};
use crate::events::sqs::{LONG_POLL, Queue, take_batch};
use gitferry_base::Kind;
use gitferry_base::retry::Pace;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_replication::deliver::Link;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::remotes::RemoteLink;
use gitferry_replication::verified::{Verified, oldest};
use gitferry_replication::{AnyLink, ReplicationError, Which};
use gitferry_store::table::MAX_GET_KEYS;

/// How often due marks are read: those that a worker left behind which is gone.
const DUE_EVERY: Duration = Duration::from_secs(30);
/// A mark that is younger is in the hands of the worker that made it.
pub(super) const DUE_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// The shortest time between two repositories that a sweep tells of.
const TICK: Duration = Duration::from_micros(1);
/// Rows of an outbox whose repositories are known to be dealt with; more are looked at again.
const MAX_SEEN: usize = 100_000;

/// A repository that is to be looked at.
#[derive(Debug)]
pub(super) struct Found {
    pub link: usize,
    pub which: Which,
    pub cause: Cause,
}

/// Tells the worker what is to be done on one link.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub at: usize,
    pub link: AnyLink,
    pub options: WorkerOptions,
    pub status: Arc<Status>,
    /// Bounded: a worker that has enough to do takes no more from queues.
    pub found: mpsc::Sender<Found>,
}

impl Source {
    /// Everything but queues, for ever.
    pub async fn sweep(self) {
        futures::join!(self.read_due(), self.read_outbox(), self.compare_all(), self.look_at_stores());
    }

    /// Says which regions of the link are not what they were when they were opened.
    async fn look_at_stores(&self) {
        let via = match &self.link {
            AnyLink::Regions(_) => None,
            AnyLink::Remote(link) => link.via.as_ref(),
        };
        let regions = [self.link.source_region(), self.link.target_region(), via];
        let mut tick = every(BEAT_EVERY);
        // They have just been opened.
        tick.tick().await;
        loop {
            tick.tick().await;
            for region in regions.into_iter().flatten() {
                let error = region.look_again().await.err();
                let what = format!("region {}", region.name);
                self.status.used(self.at, &what, error.map(|error| error.to_string()));
            }
        }
    }

    async fn tell(&self, which: Which, cause: Cause) {
        // The worker is gone when this fails, and this task with it.
        let _ = self.found.send(Found { link: self.at, which, cause }).await;
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

    /// Takes messages for ever.
    pub async fn poll(self, queue: Queue) {
        let mut pace = None;
        loop {
            let Some(messages) = self.note("the queue", queue.receive(LONG_POLL).await) else {
                let pace = pace.get_or_insert_with(|| Pace::new(Kind::Transient));
                tokio::time::sleep(pace.next_wait()).await;
                continue;
            };
            pace = None;
            let bodies: Vec<&str> = messages.iter().map(|message| message.body.as_str()).collect();
            let outcome = take_batch(&self.link, Some(&queue), &bodies).await;
            gitferry_base::fault::crash_point("queue-marked");
            let counters = &self.status.counters;
            counters.messages.add(messages.len() as u64);
            counters.duplicates.add(outcome.duplicates);
            counters.ignored.add(outcome.ignored);
            counters.rejected.add(outcome.rejected);
            for (due, _) in outcome.due {
                self.tell(due.which(), Cause::Due(due)).await;
            }
            let done: Vec<_> = outcome.done.into_iter().map(|at| messages[at].clone()).collect();
            self.note("the queue", queue.delete(&done).await);
        }
    }

    /// Takes up the marks that nobody is working on.
    async fn read_due(&self) {
        let marks = DueMarks::of(&self.link);
        let (mut tick, mut first) = (every(DUE_EVERY), true);
        loop {
            tick.tick().await;
            let now = self.link.clock().now();
            // At the start they may all be its own, from before it died.
            let before = if first { now } else { now.checked_sub(DUE_AFTER).unwrap_or(now) };
            let Some(found) = self.note("the due marks", marks.read(before).await) else { continue };
            first = false;
            for due in found {
                self.tell(due.which(), Cause::Due(due)).await;
            }
        }
    }

    /// Looks at what the source has committed and not announced. A remote has no outbox.
    async fn read_outbox(&self) {
        let (Some(period), Some(source)) = (self.options.outbox_every, self.link.source_region()) else { return };
        let mut tick = every(period);
        let mut seen: HashMap<RepositoryId, u64> = HashMap::new();
        loop {
            tick.tick().await;
            let rows = read_outbox(&*source.table).await;
            let Some(rows) = self.note("the outbox", rows) else { continue };
            // Where nobody publishes, rows stay: each is looked at once.
            let new: Vec<_> = rows.into_iter().filter(|row| seen.get(&row.id) != Some(&row.seq)).collect();
            if self.take_up(source, &new, &mut seen).await.is_some() {
                self.status.counters.outboxes.add(1);
            }
        }
    }

    /// Tells of those repositories of an outbox that the target is behind with. `None`: not all could be looked at.
    async fn take_up(&self, source: &Region, rows: &[OutboxRow], seen: &mut HashMap<RepositoryId, u64>) -> Option<()> {
        for rows in rows.chunks(MAX_GET_KEYS) {
            let ids: Vec<RepositoryId> = rows.iter().map(|row| row.id).collect();
            for id in self.note("the outbox", self.different(source, &ids).await)? {
                self.tell(Which::Id(id), Cause::Event).await;
            }
            if seen.len() > MAX_SEEN {
                seen.clear();
            }
            seen.extend(rows.iter().map(|row| (row.id, row.seq)));
        }
        Some(())
    }

    async fn different(&self, source: &Region, ids: &[RepositoryId]) -> Result<Vec<RepositoryId>, ReplicationError> {
        let link = match &self.link {
            AnyLink::Regions(link) => link,
            AnyLink::Remote(link) => return not_reached(link, source, ids).await,
        };
        Ok(link.pairs_of(ids).await?.unsettled().collect())
    }

    /// Compares all frontiers from time to time, slowly. A remote has none: each repository is looked at.
    async fn compare_all(&self) {
        let mut tick = every(self.options.sweep_every);
        loop {
            tick.tick().await;
            let swept = match &self.link {
                AnyLink::Regions(link) => {
                    self.note("the count of damaged packs", self.count_aside(link).await);
                    self.compare_once(link).await
                }
                AnyLink::Remote(link) => self.tell_of_all(link).await,
            };
            if self.note("the sweep", swept).is_some() {
                self.status.counters.sweeps.add(1);
            }
        }
    }

    async fn tell_of_all(&self, link: &RemoteLink) -> Result<(), ReplicationError> {
        let mut rate = every(Duration::from_secs(1).div_f64(f64::from(self.options.sweep_rate.max(1))).max(TICK));
        for which in all_of(link).await? {
            rate.tick().await;
            self.tell(which, Cause::Sweep).await;
        }
        Ok(())
    }

    async fn count_aside(&self, link: &Link) -> Result<(), ReplicationError> {
        self.status.packs_aside(self.at, link.packs_aside().await?);
        Ok(())
    }

    async fn compare_once(&self, link: &Link) -> Result<(), ReplicationError> {
        let ids = link.source.list().await.in_region(&link.source)?;
        let mut rate =
            every(Duration::from_secs(1).mul_f64(MAX_GET_KEYS as f64 / f64::from(self.options.sweep_rate.max(1))));
        let verified = Verified::new(&link.target, &link.name).read().await.in_region(&link.target)?;
        let (mut unverified, mut on_link) = (None, 0);
        for ids in ids.chunks(MAX_GET_KEYS) {
            rate.tick().await;
            let pairs = link.pairs_of(ids).await?;
            on_link += pairs.sound.len() + pairs.broken.len();
            unverified = unverified.into_iter().chain(oldest(pairs.sound.iter(), &verified)).min();
            for id in pairs.unsettled() {
                self.tell(Which::Id(id), Cause::Sweep).await;
            }
        }
        self.status.unverified_since(self.at, unverified);
        self.status.counted(self.at, on_link);
        Ok(())
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
