//! The standing of a region: the outcome of the last check of its stores, shared by all handles of a process.
//! [`super::stores`] makes the checks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::identity::Identity;

/// Shortest interval between two checks of stores behind a network.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest interval between two checks of stores on this machine, which cost microseconds.
const LOCAL_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Outcome of the last check of a region's stores, shared within the process.
#[derive(Debug)]
pub struct Standing {
    pub(super) interval: Duration,
    /// Held during a check: concurrent callers wait for its outcome.
    pub(super) last: tokio::sync::Mutex<Last>,
    /// Reason why the stores are not those that were opened; no change is committed to them.
    wrong: Mutex<Option<Arc<str>>>,
}

#[derive(Debug, Default)]
pub(super) struct Last {
    /// End of the last check, and its error.
    pub look: Option<(Instant, Option<Arc<str>>)>,
    pub seen: Seen,
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

    pub(super) fn set_wrong(&self, reason: Option<Arc<str>>) {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
