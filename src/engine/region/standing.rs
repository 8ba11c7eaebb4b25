//! The second look at a region's stores: a store can be lost, swapped or set back while a process has it open.
//!
//! All handles of a region in one process share what the last look showed. A look reads one row pair and one small
//! object, and is taken at most once in [`LOOK_EVERY`], however many callers ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::identity::Identity;
use super::{Region, RegionError};

/// Least time between two looks at stores that are reached over a network.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Least time between two looks at stores on this machine, which cost microseconds.
const LOOK_AT_FILES_EVERY: Duration = Duration::from_secs(2);
/// Longest wait for the answers of one look.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the stores of a region were when this process last looked at them.
#[derive(Debug)]
pub struct Standing {
    every: Duration,
    /// Held while a look is under way: callers wait for its outcome and take no look of their own.
    last: tokio::sync::Mutex<Last>,
    /// Why the stores are not those that were opened; no change is committed to them.
    wrong: Mutex<Option<Arc<str>>>,
}

#[derive(Debug, Default)]
struct Last {
    /// The end of the last look, and why the stores cannot be used.
    look: Option<(Instant, Option<Arc<str>>)>,
    seen: Seen,
}

/// What the stores have shown this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub identity: Option<Identity>,
    pub mark: u64,
}

impl Default for Standing {
    fn default() -> Self {
        Standing::looked_at_every(LOOK_AT_FILES_EVERY)
    }
}

/// The regions that this process has open, by the places of their stores.
static OPEN: Mutex<Option<HashMap<[String; 2], Weak<Standing>>>> = Mutex::new(None);

impl Standing {
    fn looked_at_every(every: Duration) -> Self {
        Standing { every, last: tokio::sync::Mutex::default(), wrong: Mutex::default() }
    }

    /// That of the region in these stores, which all its handles in this process share.
    pub fn shared(places: [String; 2], are_remote: bool) -> Arc<Standing> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(standing) = open.get(&places).and_then(Weak::upgrade) {
            return standing;
        }
        open.retain(|_, standing| standing.strong_count() > 0);
        let every = if are_remote { LOOK_EVERY } else { LOOK_AT_FILES_EVERY };
        let standing = Arc::new(Standing::looked_at_every(every));
        open.insert(places, Arc::downgrade(&standing));
        standing
    }

    /// Why no change may be committed, as far as the last look showed.
    pub(super) fn wrong(&self) -> Option<Arc<str>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_wrong(&self, reason: Option<Arc<str>>) {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

impl Region {
    /// Looks whether the stores are still those that were opened, unless that was done a moment ago. Where they are
    /// not, nothing is committed to them until they are again.
    ///
    /// # Errors
    /// Why the stores cannot be used.
    pub async fn look_again(&self) -> Result<(), Arc<str>> {
        let mut last = self.standing.last.lock().await;
        if let Some((at, outcome)) = &last.look
            && at.elapsed() < self.standing.every
        {
            return outcome.clone().map_or(Ok(()), Err);
        }
        let looked = timeout(PATIENCE, self.compare_stores(&last.seen)).await;
        let outcome: Option<Arc<str>> = match looked {
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
            Err(_) => Some(format!("the stores of {} did not answer within {PATIENCE:?}", self.name).into()),
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

    /// Looks again and again, for a process that writes the region and must not go on when its stores are not the same
    /// any more.
    pub async fn keep_looking(&self) {
        loop {
            tokio::time::sleep(self.standing.every).await;
            // The outcome is logged, and kept for commits.
            let _ = self.look_again().await;
        }
    }
}
