//! Repeated checks of a region's stores: a store can be lost, swapped or set back while a process has it open.
//!
//! All handles of a region in one process share the outcome. A check reads two rows and one small object, and runs at
//! most once in [`CHECK_INTERVAL`], however many callers ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::identity::Identity;
use super::{Region, RegionError};

/// Shortest interval between two checks of stores behind a network.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest interval between two checks of stores on this machine, which cost microseconds.
const LOCAL_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for the answers of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Outcome of the last check of a region's stores, shared within the process.
#[derive(Debug)]
pub struct Standing {
    interval: Duration,
    /// Held during a check: concurrent callers wait for its outcome.
    last: tokio::sync::Mutex<Last>,
    /// Reason why the stores are not those that were opened; no change is committed to them.
    wrong: Mutex<Option<Arc<str>>>,
}

#[derive(Debug, Default)]
struct Last {
    /// End of the last check, and its error.
    look: Option<(Instant, Option<Arc<str>>)>,
    seen: Seen,
}

/// Identity and mark that the stores last showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub identity: Option<Identity>,
    pub mark: u64,
}

impl Default for Standing {
    fn default() -> Self {
        Standing::with_interval(LOCAL_CHECK_INTERVAL)
    }
}

/// Open regions of this process, by the locations of their stores.
static OPEN: Mutex<Option<HashMap<[String; 2], Weak<Standing>>>> = Mutex::new(None);

impl Standing {
    fn with_interval(interval: Duration) -> Self {
        Standing { interval, last: tokio::sync::Mutex::default(), wrong: Mutex::default() }
    }

    /// Returns the standing of the region in these stores, shared by all handles of this process.
    pub fn shared(places: [String; 2], are_remote: bool) -> Arc<Standing> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(standing) = open.get(&places).and_then(Weak::upgrade) {
            return standing;
        }
        open.retain(|_, standing| standing.strong_count() > 0);
        let interval = if are_remote { CHECK_INTERVAL } else { LOCAL_CHECK_INTERVAL };
        let standing = Arc::new(Standing::with_interval(interval));
        open.insert(places, Arc::downgrade(&standing));
        standing
    }

    /// Returns the reason why no change may be committed, as of the last check.
    pub(super) fn wrong(&self) -> Option<Arc<str>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_wrong(&self, reason: Option<Arc<str>>) {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

impl Region {
    /// Checks that the stores are still those that were opened, unless a check ended within the interval. After a
    /// mismatch, commits are refused until a check succeeds.
    ///
    /// # Errors
    /// The reason why the stores cannot be used.
    pub async fn check_stores(&self) -> Result<(), Arc<str>> {
        let mut last = self.standing.last.lock().await;
        if let Some((at, outcome)) = &last.look
            && at.elapsed() < self.standing.interval
        {
            return outcome.clone().map_or(Ok(()), Err);
        }
        let checked = timeout(CHECK_TIMEOUT, self.compare_stores(&last.seen)).await;
        let outcome: Option<Arc<str>> = match checked {
            Ok(Ok(seen)) => {
                last.seen = seen;
                self.standing.set_wrong(None);
                None
            }
            Ok(Err(error)) => {
                let reason: Arc<str> = error.to_string().into();
                if matches!(error, RegionError::WrongStore { .. }) {
                    self.standing.set_wrong(Some(reason.clone()));
                }
                Some(reason)
            }
            Err(_) => Some(format!("the stores of {} did not answer within {CHECK_TIMEOUT:?}", self.name).into()),
        };
        let before = last.look.take().and_then(|(_, outcome)| outcome);
        match (&before, &outcome) {
            (None, Some(reason)) => tracing::error!(region = self.name, "the region cannot be used: {reason}"),
            (Some(_), None) => tracing::warn!(region = self.name, "the region can be used again"),
            _ => {}
        }
        last.look = Some((Instant::now(), outcome.clone()));
        outcome.map_or(Ok(()), Err)
    }

    /// Checks periodically, for processes that write the region and must stop when its stores change.
    pub async fn watch_stores(&self) {
        loop {
            tokio::time::sleep(self.standing.interval).await;
            // The outcome is logged, and kept for commits.
            let _ = self.check_stores().await;
        }
    }
}
