//! Background maintenance of the repositories that a host has open: snapshots of refs and consolidation of packs.
//!
//! Any request that finds a repository in need of maintenance starts it (fetches and failed pushes, too), and so does a
//! push that makes it necessary. [`MAX_AT_A_TIME`] repositories are maintained concurrently, each by one task.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::ledger::refs::wants_snapshot;
use gitferry_engine::region::consolidate::{CONSOLIDATE_ABOVE, CROWDED_ABOVE, Consolidated};
use gitferry_engine::region::{Region, Result};

/// Repositories that are maintained concurrently.
const MAX_AT_A_TIME: usize = 2;
/// Most repositories at work or in the queue. Further ones are dropped, and the next request asks again.
const MAX_QUEUED: usize = 1_000;
/// Backoff after maintenance of a repository that failed or made no progress.
const BACKOFF: Duration = Duration::from_secs(10);
/// Most attempts on a repository that another process is maintaining.
const MAX_ATTEMPTS: u32 = 30;
/// Packs above which pushes to a repository are delayed, so that consolidation keeps up.
const SLOW_ABOVE: usize = 2 * CONSOLIDATE_ABOVE;
/// Delay of a push to a repository with [`CROWDED_ABOVE`] packs.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// The maintenance of a region's repositories.
#[derive(Debug)]
pub struct Maintenance {
    region: Region,
    /// Repositories that are maintained or queued.
    queued: Mutex<HashMap<RepositoryId, Requested>>,
    slots: Semaphore,
    /// Number of consolidations. A change makes open repositories read their manifest again.
    consolidations: AtomicU64,
}

/// Requests for maintenance of one repository since its maintenance began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requested {
    Once,
    /// Requested again: the running maintenance may have seen an older state.
    Again,
}

impl Maintenance {
    /// Creates the maintenance of a region, idle.
    pub fn new(region: Region) -> Arc<Self> {
        Arc::new(Maintenance {
            region,
            queued: Mutex::default(),
            slots: Semaphore::new(MAX_AT_A_TIME),
            consolidations: AtomicU64::new(0),
        })
    }

    /// Number of maintenance attempts that have completed in this process.
    pub fn consolidations(&self) -> u64 {
        self.consolidations.load(Ordering::Acquire)
    }

    /// Starts maintenance of a repository that needs it, or runs it once more if it is running. Call it within a
    /// runtime.
    pub fn request(self: &Arc<Self>, item: &HeadItem, packs: usize) {
        if packs <= CONSOLIDATE_ABOVE && !wants_snapshot(&item.head) {
            return;
        }
        let id = item.id;
        {
            let mut queued = self.queued();
            if let Some(requested) = queued.get_mut(&id) {
                *requested = Requested::Again;
                return;
            }
            if queued.len() >= MAX_QUEUED {
                return;
            }
            queued.insert(id, Requested::Once);
        }
        tokio::spawn(self.clone().run(id));
    }

    /// Maintains a repository until no further request has come in.
    async fn run(self: Arc<Self>, id: RepositoryId) {
        loop {
            let done = self.maintain(id).await;
            if let Err(error) = &done {
                let region = self.region.name();
                tracing::warn!(%error, repository = %id, region, "maintenance of a repository failed; the next request retries it");
            }
            if done.map_or(true, |done| done.is_stalled()) {
                tokio::time::sleep(BACKOFF).await;
            }
            let mut queued = self.queued();
            match queued.get_mut(&id) {
                Some(requested @ Requested::Again) => *requested = Requested::Once,
                _ => {
                    queued.remove(&id);
                    return;
                }
            }
        }
    }

    fn queued(&self) -> MutexGuard<'_, HashMap<RepositoryId, Requested>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn maintain(&self, id: RepositoryId) -> Result<Consolidated> {
        let mut waiter = self.region.consolidator().waiter(id);
        let mut done = Consolidated::default();
        for _ in 0..MAX_ATTEMPTS {
            let Ok(_slot) = self.slots.acquire().await else { break };
            done = self.region.consolidator().maintain_with(id, &mut waiter).await?;
            // Counted even if another process did the work: packs may have been replaced.
            self.consolidations.fetch_add(1, Ordering::Release);
            if !done.busy {
                break;
            }
        }
        Ok(done)
    }
}

/// Backpressure on pushes, by the number of packs of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// Delay the push once by this time; zero for no delay.
    Delay(Duration),
    /// Wait until the repository has fewer packs.
    Full,
}

impl Backpressure {
    /// The delay grows with the square of the packs above [`SLOW_ABOVE`].
    pub fn of(packs: usize) -> Self {
        if packs > CROWDED_ABOVE {
            return Backpressure::Full;
        }
        let over = packs.saturating_sub(SLOW_ABOVE) as f64 / (CROWDED_ABOVE - SLOW_ABOVE) as f64;
        Backpressure::Delay(MAX_DELAY.mul_f64(over * over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_limit_and_then_pushes_wait() {
        assert_eq!(Backpressure::of(0), Backpressure::Delay(Duration::ZERO));
        assert_eq!(Backpressure::of(SLOW_ABOVE), Backpressure::Delay(Duration::ZERO));
        assert_eq!(Backpressure::of(CROWDED_ABOVE), Backpressure::Delay(MAX_DELAY));
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
