//! What a worker has done, and whether it is well.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::behind::{RecentLag, Standing};
use super::metrics::Figures;
use crate::clock::{Clock, SystemClock};
use crate::counter::Counter;
use crate::replication::Which;

/// A worker whose loop has not come round for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What a worker has done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages taken from queues.
    pub messages: Counter,
    /// Of these: announced what the target had, or what another message announced too.
    pub duplicates: Counter,
    /// Of these: about nothing that the link carries.
    pub ignored: Counter,
    /// Of these: went to the dead-letter queue.
    pub rejected: Counter,
    /// Deliveries that brought something.
    pub delivered: Counter,
    /// Changes in them.
    pub changes: Counter,
    /// Deliveries that failed.
    pub failed: Counter,
    /// Readings of outboxes that came to their end.
    pub outboxes: Counter,
    /// Full sweeps that came to their end.
    pub sweeps: Counter,
    /// What a full sweep delivered and no event had announced.
    pub unannounced: Counter,
    /// Deliveries under way or waiting.
    pending: AtomicU64,
}

impl Counters {
    /// All of them, by name.
    pub fn to_json(&self) -> Value {
        json!({
            "messages": self.messages.get(),
            "duplicates": self.duplicates.get(),
            "ignored": self.ignored.get(),
            "rejected": self.rejected.get(),
            "delivered": self.delivered.get(),
            "changes": self.changes.get(),
            "failed": self.failed.get(),
            "outboxes": self.outboxes.get(),
            "sweeps": self.sweeps.get(),
            "unannounced": self.unannounced.get(),
            "pending": self.pending.load(Ordering::Relaxed),
        })
    }
}

/// Whether a worker is alive, and whether it gets at all that it works with.
#[derive(Debug)]
pub struct Status {
    /// What it has done.
    pub counters: Counters,
    start: Instant,
    draining: AtomicBool,
    /// What it works with, and why that cannot be used where it cannot.
    sources: Mutex<BTreeMap<String, Option<String>>>,
    /// By the place of the link.
    links: Mutex<Vec<LinkStatus>>,
    clock: Arc<dyn Clock>,
}

/// What the metrics of one link are made of.
#[derive(Debug, Default)]
struct LinkStatus {
    name: String,
    delivered: u64,
    failed: u64,
    lag: RecentLag,
    standing: Standing,
    /// Since when the repository has not been verified that has waited longest.
    unverified_since: Option<Timestamp>,
    /// Damaged packs that are set aside in its regions, as they were counted last.
    packs_aside: Option<u64>,
    /// When its loop came round last, since the start.
    beat: Duration,
    /// Repositories that wait or are being delivered.
    waiting: u64,
    failing: Failing,
}

/// Deliveries of a link that failed since the last one that did not.
#[derive(Debug, Default)]
struct Failing {
    /// The first two repositories that failed.
    repositories: Vec<Which>,
    /// Repositories on the link, as far as a sweep has counted them.
    on_link: Option<usize>,
    last: String,
}

impl Failing {
    /// Repositories that have to fail, without a success in between, before a link counts as failing: a single one may
    /// be to blame itself.
    const ENOUGH: usize = 2;

    fn failed(&mut self, which: &Which, reason: &str) {
        if self.repositories.len() < Self::ENOUGH && !self.repositories.contains(which) {
            self.repositories.push(which.clone());
        }
        self.last = reason.to_owned();
    }

    /// Why no delivery of the link succeeds, if none does.
    fn why(&self) -> Option<String> {
        let enough = self.on_link.map_or(Self::ENOUGH, |on_link| on_link.clamp(1, Self::ENOUGH));
        (self.repositories.len() >= enough).then(|| format!("every delivery fails; the last one: {}", self.last))
    }
}

/// What a worker works with and cannot use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// What it is.
    pub what: String,
    /// Why it cannot be used.
    pub why: String,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            counters: Counters::default(),
            start: Instant::now(),
            draining: AtomicBool::new(false),
            sources: Mutex::default(),
            links: Mutex::default(),
            clock: SystemClock::shared(),
        }
    }
}

impl Status {
    /// Of a worker over some links.
    pub(super) fn of<'a>(links: impl Iterator<Item = &'a str>, clock: Option<Arc<dyn Clock>>) -> Self {
        let links = links.map(|name| LinkStatus { name: name.into(), ..LinkStatus::default() }).collect();
        let clock = clock.unwrap_or_else(SystemClock::shared);
        Status { links: Mutex::new(links), clock, ..Status::default() }
    }

    fn links(&self) -> MutexGuard<'_, Vec<LinkStatus>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is now, for whoever counts in time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A delivery on a link brought something, so late.
    pub(super) fn delivered(&self, link: usize, lag: Duration) {
        let at = self.start.elapsed();
        if let Some(link) = self.links().get_mut(link) {
            link.delivered += 1;
            link.lag.note(at, lag);
            link.failing.repositories.clear();
        }
    }

    /// A delivery on a link ended well and had nothing to bring.
    pub(super) fn worked(&self, link: usize) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.failing.repositories.clear());
    }

    /// A delivery on a link failed.
    pub(super) fn failed(&self, link: usize, which: &Which, reason: &str) {
        if let Some(link) = self.links().get_mut(link) {
            link.failed += 1;
            link.failing.failed(which, reason);
        }
    }

    /// A sweep has counted the repositories on a link.
    pub(super) fn counted(&self, link: usize, repositories: usize) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.failing.on_link = Some(repositories));
    }

    /// How a link stands.
    pub(super) fn stand(&self, link: usize, standing: Standing) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.standing = standing);
    }

    /// Since when the repository of a link has not been verified that has waited longest.
    pub(super) fn unverified_since(&self, link: usize, since: Option<Timestamp>) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.unverified_since = since);
    }

    /// Counted the damaged packs that are set aside in the regions of a link.
    pub(super) fn packs_aside(&self, link: usize, packs: u64) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.packs_aside = Some(packs));
    }

    /// What the metrics of all links say now.
    pub fn figures(&self) -> Vec<Figures> {
        let (now, at) = (self.now(), self.start.elapsed());
        let age = |since: Timestamp| now.duration_since(since).max(SignedDuration::ZERO).as_secs_f64();
        let figures = |link: &LinkStatus| Figures {
            link: link.name.clone(),
            lag_seconds: link.standing.since.map_or(0.0, age).max(link.lag.largest(at).as_secs_f64()),
            pending: link.standing.pending,
            delivered: link.delivered,
            failed: link.failed,
            forks: link.standing.forks,
            oldest_unverified_seconds: link.unverified_since.map(age),
            packs_aside: link.packs_aside,
            recovery_point_age_seconds: None,
        };
        self.links().iter().map(figures).collect()
    }

    /// The loop of a link has come round.
    pub(super) fn beat(&self, link: usize, pending: usize) {
        let now = self.start.elapsed();
        let mut links = self.links();
        if let Some(link) = links.get_mut(link) {
            link.beat = now;
            link.waiting = pending as u64;
        }
        self.counters.pending.store(links.iter().map(|link| link.waiting).sum(), Ordering::Relaxed);
    }

    /// It takes no more work.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Something that it works with could be used, or could not.
    pub(super) fn used(&self, what: &str, error: Option<String>) {
        let mut sources = self.sources.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sources.insert(what.into(), error);
    }

    /// Whether the loops of all links come round.
    pub fn is_alive(&self) -> bool {
        let now = self.start.elapsed();
        self.links().iter().all(|link| now.saturating_sub(link.beat) < STUCK_AFTER)
    }

    /// What stands in the way of work; nothing when it is ready.
    pub fn not_ready(&self) -> Vec<NotReady> {
        if self.draining.load(Ordering::Relaxed) {
            return vec![NotReady { what: "worker".into(), why: "it is stopping".into() }];
        }
        let sources = self.sources.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let failed = sources.iter().filter_map(|(what, why)| Some((what, why.as_ref()?)));
        let mut failed: Vec<NotReady> =
            failed.map(|(what, why)| NotReady { what: what.clone(), why: why.clone() }).collect();
        drop(sources);
        let links = self.links();
        let failing =
            links.iter().filter_map(|link| Some((format!("deliveries of link {}", link.name), link.failing.why()?)));
        failed.extend(failing.map(|(what, why)| NotReady { what, why }));
        failed
    }
}
