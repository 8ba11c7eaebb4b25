//! Status and counters of a worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::behind::{RecentLag, Standing};
use super::metrics::LinkMetrics;
use crate::delivery::RepositoryKey;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_base::counter::Counter;

/// Period of the sign of life of a link that has nothing to do.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Time without a sign of life after which the loop of a link counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Counters of a worker since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages received from queues.
    pub messages: Counter,
    /// Messages that announced a state which the target had, or which another message announced.
    pub duplicates: Counter,
    /// Messages about nothing that the link carries.
    pub ignored: Counter,
    /// Messages that went to the dead-letter queue.
    pub rejected: Counter,
    /// Deliveries that brought changes.
    pub delivered: Counter,
    /// Changes that deliveries brought.
    pub changes: Counter,
    /// Deliveries that failed.
    pub failed: Counter,
    /// Complete reads of outboxes.
    pub outboxes: Counter,
    /// Complete sweeps.
    pub sweeps: Counter,
    /// Changes that a sweep delivered and no event had announced.
    pub unannounced: Counter,
    /// Repositories that wait, run or back off.
    pending: AtomicU64,
}

impl Counters {
    /// Counters by name.
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

/// Liveness and readiness of a worker.
#[derive(Debug)]
pub struct Status {
    /// Counters since the start.
    pub counters: Counters,
    start: Instant,
    draining: AtomicBool,
    /// Status of each link, by its position.
    links: Mutex<Vec<LinkStatus>>,
    clock: Arc<dyn Clock>,
}

/// Status of one link.
#[derive(Debug, Default)]
struct LinkStatus {
    name: String,
    delivered: u64,
    failed: u64,
    lag: RecentLag,
    /// `None` before the link is opened.
    standing: Option<Standing>,
    /// Stores, queues and other resources that cannot be used, with the reason.
    unusable: BTreeMap<String, String>,
    /// Oldest of the last verifications of the target's repositories.
    unverified_since: Option<Timestamp>,
    /// Damaged packs that are set aside in the regions of the link, as of the last count.
    packs_aside: Option<u64>,
    /// Last sign of life of its loop, since the start.
    beat: Duration,
    /// Repositories that wait, run or back off.
    waiting: u64,
    failing: Failing,
}

/// Deliveries of a link that failed since the last successful one.
#[derive(Debug, Default)]
struct Failing {
    /// The first two repositories that failed.
    repositories: Vec<RepositoryKey>,
    /// Repositories on the link, as of the last sweep that counted them.
    on_link: Option<usize>,
    last: String,
}

impl Failing {
    /// Repositories that have to fail, without a success in between, before a link counts as failing: a single one may
    /// itself be the cause.
    const ENOUGH: usize = 2;

    fn failed(&mut self, which: &RepositoryKey, reason: &str) {
        if self.repositories.len() < Self::ENOUGH && !self.repositories.contains(which) {
            self.repositories.push(which.clone());
        }
        self.last = reason.to_owned();
    }

    /// Returns the reason why every delivery of the link fails, if every one does.
    fn why(&self) -> Option<String> {
        let enough = self.on_link.map_or(Self::ENOUGH, |on_link| on_link.clamp(1, Self::ENOUGH));
        (self.repositories.len() >= enough).then(|| format!("every delivery fails; the last one: {}", self.last))
    }
}

/// A resource that a worker needs and cannot use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// The resource.
    pub what: String,
    /// Reason why it cannot be used.
    pub why: String,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            counters: Counters::default(),
            start: Instant::now(),
            draining: AtomicBool::new(false),
            links: Mutex::default(),
            clock: SystemClock::shared(),
        }
    }
}

impl Status {
    /// Makes the status of a worker over some links.
    pub(super) fn of<'a>(links: impl Iterator<Item = &'a str>, clock: Option<Arc<dyn Clock>>) -> Self {
        let links = links.map(|name| LinkStatus { name: name.into(), ..LinkStatus::default() }).collect();
        let clock = clock.unwrap_or_else(SystemClock::shared);
        Status { links: Mutex::new(links), clock, ..Status::default() }
    }

    fn links(&self) -> MutexGuard<'_, Vec<LinkStatus>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Current time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Notes a delivery that brought changes, with their lag.
    pub(super) fn delivered(&self, link: usize, lag: Duration) {
        let at = self.start.elapsed();
        if let Some(link) = self.links().get_mut(link) {
            link.delivered += 1;
            link.lag.note(at, lag);
            link.failing.repositories.clear();
        }
    }

    /// Notes a delivery that found nothing to do, which says nothing about other repositories: a target that takes no
    /// writes still answers for repositories that have not changed.
    pub(super) fn worked(&self, link: usize, which: &RepositoryKey) {
        if let Some(link) = self.links().get_mut(link) {
            link.failing.repositories.retain(|failing| failing != which);
        }
    }

    /// Notes a failed delivery.
    pub(super) fn failed(&self, link: usize, which: &RepositoryKey, reason: &str) {
        if let Some(link) = self.links().get_mut(link) {
            link.failed += 1;
            link.failing.failed(which, reason);
        }
    }

    /// Notes the number of repositories on a link.
    pub(super) fn counted(&self, link: usize, repositories: usize) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.failing.on_link = Some(repositories));
    }

    /// Notes the repositories of a link that are behind.
    pub(super) fn stand(&self, link: usize, standing: Standing) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.standing = Some(standing));
    }

    /// Notes the oldest of the last verifications of a link's repositories.
    pub(super) fn unverified_since(&self, link: usize, since: Option<Timestamp>) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.unverified_since = since);
    }

    /// Notes the number of damaged packs in the regions of a link.
    pub(super) fn packs_aside(&self, link: usize, packs: u64) {
        self.links().iter_mut().skip(link).take(1).for_each(|link| link.packs_aside = Some(packs));
    }

    /// Metrics of all links.
    pub fn metrics(&self) -> Vec<LinkMetrics> {
        let (now, at) = (self.now(), self.start.elapsed());
        let age = |since: Timestamp| now.duration_since(since).max(SignedDuration::ZERO).as_secs_f64();
        let metrics = |link: &LinkStatus| {
            let standing = link.standing.unwrap_or_default();
            LinkMetrics {
                link: link.name.clone(),
                unopened: link.standing.is_none(),
                ready: Some(link.not_ready().is_empty()),
                lag_seconds: standing.since.map_or(0.0, age).max(link.lag.largest(at).as_secs_f64()),
                pending: standing.pending,
                delivered: link.delivered,
                failed: link.failed,
                failing: standing.failing,
                forks: standing.forks,
                oldest_unverified_seconds: link.unverified_since.map(age),
                packs_aside: link.packs_aside,
                recovery_point_age_seconds: None,
            }
        };
        self.links().iter().map(metrics).collect()
    }

    /// Notes a sign of life of the loop of a link.
    pub(super) fn beat(&self, link: usize, pending: usize) {
        let now = self.start.elapsed();
        let mut links = self.links();
        if let Some(link) = links.get_mut(link) {
            link.beat = now;
            link.waiting = pending as u64;
        }
        self.counters.pending.store(links.iter().map(|link| link.waiting).sum(), Ordering::Relaxed);
    }

    /// Notes that the worker takes no more work.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Notes that a resource of a link could be used, or could not.
    pub(super) fn used(&self, link: usize, what: &str, error: Option<String>) {
        let mut links = self.links();
        let Some(link) = links.get_mut(link) else { return };
        match error {
            Some(error) => _ = link.unusable.insert(what.into(), error),
            None => _ = link.unusable.remove(what),
        }
    }

    /// Returns true if the loops of all links are alive.
    pub fn is_alive(&self) -> bool {
        let now = self.start.elapsed();
        self.links().iter().all(|link| now.saturating_sub(link.beat) < STUCK_AFTER)
    }

    /// Returns the resources that keep the worker from its work; empty if it is ready.
    pub fn not_ready(&self) -> Vec<NotReady> {
        if self.draining.load(Ordering::Relaxed) {
            return vec![NotReady { what: "worker".into(), why: "it is stopping".into() }];
        }
        let mut all: Vec<NotReady> = Vec::new();
        // Links share regions.
        for not_ready in self.links().iter().flat_map(LinkStatus::not_ready) {
            if !all.contains(&not_ready) {
                all.push(not_ready);
            }
        }
        all
    }
}

impl LinkStatus {
    fn not_ready(&self) -> Vec<NotReady> {
        let unusable = self.unusable.iter().map(|(what, why)| NotReady { what: what.clone(), why: why.clone() });
        let failing = self.failing.why();
        unusable.chain(failing.map(|why| NotReady { what: format!("deliveries of link {}", self.name), why })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(name: &str) -> RepositoryKey {
        RepositoryKey::Name(name.into())
    }

    fn of_two() -> Status {
        let status = Status::of(["a", "b"].into_iter(), None);
        status.counted(0, 1_000);
        status
    }

    fn ready(status: &Status) -> [Option<bool>; 2] {
        let metrics = status.metrics();
        [metrics[0].ready, metrics[1].ready]
    }

    #[test]
    fn a_link_of_which_every_delivery_fails_is_not_ready_and_hides_no_other() {
        let status = of_two();
        status.failed(0, &which("one"), "no");
        status.failed(0, &which("one"), "no");
        assert_eq!((ready(&status), status.not_ready()), ([Some(true); 2], Vec::new()));
        status.failed(0, &which("two"), "no");
        assert_eq!(ready(&status), [Some(false), Some(true)]);
        let [not_ready] = &status.not_ready()[..] else { panic!("{:?}", status.not_ready()) };
        assert!(not_ready.what.contains("link a") && not_ready.why.ends_with("no"), "{not_ready:?}");
        // A delivery that found nothing to do proves nothing.
        status.worked(0, &which("three"));
        assert_eq!(ready(&status), [Some(false), Some(true)]);
        status.worked(0, &which("two"));
        assert_eq!(ready(&status), [Some(true); 2]);
        status.failed(0, &which("two"), "no");
        status.delivered(0, Duration::ZERO);
        assert_eq!(ready(&status), [Some(true); 2]);
    }

    #[test]
    fn what_cannot_be_used_makes_its_link_unready_until_it_can() {
        let status = of_two();
        status.used(1, "the queue of link b", Some("denied".into()));
        assert_eq!(ready(&status), [Some(true), Some(false)]);
        assert_eq!(status.not_ready(), [NotReady { what: "the queue of link b".into(), why: "denied".into() }]);
        status.used(1, "the queue of link b", None);
        assert_eq!((ready(&status), status.not_ready()), ([Some(true); 2], Vec::new()));
    }

    #[test]
    fn a_link_is_unknown_until_it_is_opened_and_ages_are_never_negative() {
        let status = of_two();
        assert!(status.metrics().iter().all(|link| link.unopened));
        let later = status.now().checked_add(SignedDuration::from_hours(1)).unwrap();
        status.stand(0, Standing { pending: 3, failing: 2, forks: 1, since: Some(later) });
        status.unverified_since(0, Some(later));
        let link = &status.metrics()[0];
        assert_eq!((link.unopened, link.pending, link.failing, link.forks), (false, 3, 2, 1));
        assert_eq!((link.lag_seconds, link.oldest_unverified_seconds), (0.0, Some(0.0)));
    }
}
