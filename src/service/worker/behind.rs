//! Repositories that are behind, since when, and the lag of the last deliveries. No I/O.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::delivery::scheduler::Task;

/// Shortest time for which the lag of a delivery is reported; the longest is twice that.
pub(super) const LAG_WINDOW: Duration = Duration::from_secs(60);

/// Repositories that are being delivered, wait for it, or have failed.
#[derive(Debug, Default)]
pub(super) struct Behind {
    tasks: HashMap<Task, Late>,
}

#[derive(Debug)]
struct Late {
    since: Timestamp,
    /// The last delivery failed.
    failing: bool,
    fork: bool,
}

/// Repositories of one link that are behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Repositories that are behind.
    pub pending: u64,
    /// Repositories whose last delivery failed.
    pub failing: u64,
    /// Repositories with two histories.
    pub forks: u64,
    /// The time since which the oldest of them is behind.
    pub since: Option<Timestamp>,
}

impl Behind {
    /// Notes a request for a repository.
    pub fn heard(&mut self, task: &Task, now: Timestamp) {
        self.tasks.entry(task.clone()).or_insert(Late { since: now, failing: false, fork: false });
    }

    /// Notes a successful delivery; with `again`, there was a request meanwhile.
    pub fn delivered(&mut self, task: &Task, again: bool, now: Timestamp) {
        self.tasks.remove(task);
        if again {
            self.heard(task, now);
        }
    }

    /// Returns the time since which a repository is known to be behind.
    pub fn since(&self, task: &Task) -> Option<Timestamp> {
        self.tasks.get(task).map(|late| late.since)
    }

    /// Notes a failed delivery, with the commit time of the oldest change that the target lacks, where it is known.
    pub fn failed(&mut self, task: &Task, fork: bool, committed: Option<Timestamp>, now: Timestamp) {
        self.heard(task, now);
        if let Some(late) = self.tasks.get_mut(task) {
            late.failing = true;
            late.fork = fork;
            late.since = committed.map_or(late.since, |committed| committed.min(late.since));
        }
    }

    /// Counts the repositories of a link, by its position.
    pub fn standing(&self, link: usize) -> Standing {
        let of_link = self.tasks.iter().filter(|(task, _)| task.0 == link);
        of_link.fold(Standing::default(), |standing, (_, late)| Standing {
            pending: standing.pending + 1,
            failing: standing.failing + u64::from(late.failing),
            forks: standing.forks + u64::from(late.fork),
            since: Some(standing.since.map_or(late.since, |since| since.min(late.since))),
        })
    }
}

/// The largest lag of the last one to two windows. Reading it changes nothing, so there may be any number of readers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentLag {
    window: u128,
    now: Duration,
    before: Duration,
}

impl RecentLag {
    /// Notes the lag of a delivery that ended `at` this time after the start.
    pub fn note(&mut self, at: Duration, lag: Duration) {
        self.advance(at);
        self.now = self.now.max(lag);
    }

    /// Returns the largest lag.
    pub fn largest(mut self, at: Duration) -> Duration {
        self.advance(at);
        self.now.max(self.before)
    }

    /// Begins a new window if the last one has passed.
    fn advance(&mut self, at: Duration) {
        let window = at.as_nanos() / LAG_WINDOW.as_nanos();
        if window > self.window {
            self.before = if window == self.window + 1 { self.now } else { Duration::ZERO };
            self.now = Duration::ZERO;
            self.window = window;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::RepositoryKey;

    fn task(link: usize, number: u32) -> Task {
        (link, RepositoryKey::Name(number.to_string().into()))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_fails_is_behind_since_its_commit() {
        let mut behind = Behind::default();
        behind.heard(&task(0, 1), at(100));
        behind.heard(&task(0, 1), at(200));
        behind.heard(&task(0, 2), at(150));
        behind.heard(&task(1, 3), at(10));
        assert_eq!(behind.standing(0), Standing { pending: 2, failing: 0, forks: 0, since: Some(at(100)) });
        behind.failed(&task(0, 2), false, Some(at(50)), at(210));
        assert_eq!(behind.standing(0).since, Some(at(50)));
        assert_eq!((behind.since(&task(0, 2)), behind.since(&task(0, 9))), (Some(at(50)), None));
        // A later attempt that could not find that out does not make it younger.
        behind.failed(&task(0, 2), true, None, at(220));
        assert_eq!(behind.standing(0), Standing { pending: 2, failing: 1, forks: 1, since: Some(at(50)) });
        behind.delivered(&task(0, 2), false, at(230));
        assert_eq!(behind.standing(0), Standing { pending: 1, failing: 0, forks: 0, since: Some(at(100)) });
        behind.delivered(&task(0, 1), true, at(240));
        assert_eq!(behind.standing(0).since, Some(at(240)));
        behind.delivered(&task(0, 1), false, at(250));
        assert_eq!(behind.standing(0), Standing::default());
        assert_eq!(behind.standing(1).pending, 1);
    }

    #[test]
    fn a_lag_is_told_for_one_to_two_windows() {
        let (mut lag, second) = (RecentLag::default(), Duration::from_secs(1));
        lag.note(59 * second, 9 * second);
        lag.note(60 * second, 3 * second);
        assert_eq!(lag.largest(119 * second), 9 * second);
        assert_eq!(lag.largest(120 * second), 3 * second);
        assert_eq!(lag.largest(240 * second), Duration::ZERO);
        lag.note(300 * second, 2 * second);
        assert_eq!(lag.largest(300 * second), 2 * second);
    }
}
