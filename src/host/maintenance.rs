//! Maintenance of the repositories that a host has open: snapshots of refs and consolidation of packs.
//!
//! It runs in the background, whenever a request (a failed push or a fetch, too) finds that a repository needs it, a
//! few at a time and each repository once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::ledger::advance::read_head;
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::refs::wants_snapshot;
use crate::region::consolidate::{CONSOLIDATE_ABOVE, CROWDED_ABOVE, Consolidated};
use crate::region::{Region, Result};

/// Repositories that are maintained at a time.
const MAX_AT_A_TIME: usize = 2;
/// Repositories that wait for that; one more is noted again by its next request.
const MAX_QUEUED: usize = 1_000;
/// A repository is left alone for this long after maintenance that failed or found nothing to do.
const PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether another process, which maintains the repository, is done or dead.
const MAX_LOOKS: u32 = 30;
/// Pushes wait a moment while a repository has more packs than this, so that consolidation keeps up with them.
const SLOW_ABOVE: usize = 2 * CONSOLIDATE_ABOVE;
/// The longest such moment, with as many packs as writers wait for.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// The maintenance of a region's repositories.
#[derive(Debug)]
pub struct Maintenance {
    region: Region,
    queued: Mutex<HashSet<RepositoryId>>,
    slots: Semaphore,
    /// Counts consolidations, so that open repositories notice that their packs may have been replaced.
    consolidations: AtomicU64,
}

impl Maintenance {
    /// Nothing is under way yet.
    pub fn new(region: Region) -> Arc<Self> {
        Arc::new(Maintenance {
            region,
            queued: Mutex::default(),
            slots: Semaphore::new(MAX_AT_A_TIME),
            consolidations: AtomicU64::new(0),
        })
    }

    /// Consolidations that this process has done.
    pub fn consolidations(&self) -> u64 {
        self.consolidations.load(Ordering::Acquire)
    }

    /// Starts maintenance of a repository that needs it, unless it is under way. Within a runtime.
    pub fn note(self: &Arc<Self>, item: &HeadItem, packs: usize) {
        if packs <= CONSOLIDATE_ABOVE && !wants_snapshot(&item.head) {
            return;
        }
        let id = item.id;
        {
            let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
            if queued.len() >= MAX_QUEUED || !queued.insert(id) {
                return;
            }
        }
        let maintenance = self.clone();
        tokio::spawn(async move {
            let done = maintenance.maintain(id).await;
            if let Err(error) = &done {
                let region = &maintenance.region.name;
                tracing::warn!(%error, repository = %id, region, "could not maintain a repository; it is tried again");
            }
            if done.is_err() || done.is_ok_and(|done| done.merged == 0 && packs > CONSOLIDATE_ABOVE) {
                tokio::time::sleep(PAUSE).await;
            }
            maintenance.queued.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    async fn maintain(&self, id: RepositoryId) -> Result<Consolidated> {
        let mut turn = self.region.consolidation_turn(id);
        let mut done = Consolidated::default();
        for _ in 0..MAX_LOOKS {
            let Ok(_slot) = self.slots.acquire().await else { break };
            if let Some(item) = read_head(&*self.region.table, id).await? {
                self.region.maintain_snapshot(item).await;
            }
            done = self.region.consolidate_in_turn(id, &mut turn).await?;
            // Another process may have done it, too.
            self.consolidations.fetch_add(1, Ordering::Release);
            if !done.busy {
                break;
            }
        }
        Ok(done)
    }
}

/// How long a push waits before it is let in, by the packs that its repository has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// Not at all, or once.
    Delay(Duration),
    /// Until there are fewer.
    Full,
}

impl Backpressure {
    /// The delay grows with the square of what is too much.
    pub fn of(packs: usize) -> Self {
        if packs > CROWDED_ABOVE {
            return Backpressure::Full;
        }
        let over = packs.saturating_sub(SLOW_ABOVE) as f64 / (CROWDED_ABOVE - SLOW_ABOVE) as f64;
        Backpressure::Delay(LONGEST_DELAY.mul_f64(over * over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_limit_and_then_pushes_wait() {
        assert_eq!(Backpressure::of(0), Backpressure::Delay(Duration::ZERO));
        assert_eq!(Backpressure::of(SLOW_ABOVE), Backpressure::Delay(Duration::ZERO));
        assert_eq!(Backpressure::of(CROWDED_ABOVE), Backpressure::Delay(LONGEST_DELAY));
        assert_eq!(Backpressure::of(CROWDED_ABOVE + 1), Backpressure::Full);
        let delays: Vec<Duration> = (SLOW_ABOVE..=CROWDED_ABOVE)
            .map(|packs| match Backpressure::of(packs) {
                Backpressure::Delay(delay) => delay,
                Backpressure::Full => Duration::MAX,
            })
            .collect();
        assert!(delays.is_sorted());
    }
}
