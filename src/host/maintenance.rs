//! Maintenance of the repositories that a host has open: snapshots of refs and consolidation of packs.
//!
//! It runs in the background, whenever a request (a failed push or a fetch, too) finds that a repository needs it, and
//! after a push that makes it necessary; a few repositories at a time and each once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::ledger::refs::wants_snapshot;
use gitferry_engine::region::consolidate::{CONSOLIDATE_ABOVE, CROWDED_ABOVE, Consolidated};
use gitferry_engine::region::{Region, Result};

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
    /// The repositories that are at work or wait for it.
    queued: Mutex<HashMap<RepositoryId, Noted>>,
    slots: Semaphore,
    /// Counts consolidations, so that open repositories notice that their packs may have been replaced.
    consolidations: AtomicU64,
}

/// Requests for maintenance of one repository since its work began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    Once,
    /// Another one came: the work may have looked at an older state.
    Again,
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

    /// Starts maintenance of a repository that needs it. Where it is under way, it looks again when it is done. Within a
    /// runtime.
    pub fn note(self: &Arc<Self>, item: &HeadItem, packs: usize) {
        if packs <= CONSOLIDATE_ABOVE && !wants_snapshot(&item.head) {
            return;
        }
        let id = item.id;
        {
            let mut queued = self.queued();
            if let Some(noted) = queued.get_mut(&id) {
                *noted = Noted::Again;
                return;
            }
            if queued.len() >= MAX_QUEUED {
                return;
            }
            queued.insert(id, Noted::Once);
        }
        tokio::spawn(self.clone().work(id));
    }

    /// Maintains a repository until no request has noted it meanwhile.
    async fn work(self: Arc<Self>, id: RepositoryId) {
        loop {
            let done = self.maintain(id).await;
            if let Err(error) = &done {
                let region = &self.region.name;
                tracing::warn!(%error, repository = %id, region, "could not maintain a repository; it is tried again");
            }
            if done.map_or(true, |done| done.is_stalled()) {
                tokio::time::sleep(PAUSE).await;
            }
            let mut queued = self.queued();
            match queued.get_mut(&id) {
                Some(noted @ Noted::Again) => *noted = Noted::Once,
                _ => {
                    queued.remove(&id);
                    return;
                }
            }
        }
    }

    fn queued(&self) -> MutexGuard<'_, HashMap<RepositoryId, Noted>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn maintain(&self, id: RepositoryId) -> Result<Consolidated> {
        let mut turn = self.region.consolidation_turn(id);
        let mut done = Consolidated::default();
        for _ in 0..MAX_LOOKS {
            let Ok(_slot) = self.slots.acquire().await else { break };
            done = self.region.maintain_in_turn(id, &mut turn).await?;
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
