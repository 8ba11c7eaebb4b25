//! How many Git requests are in progress at a time, and how many of them compute.
//!
//! The two are bounded apart. A request that waits for a slow client costs a thread and a few buffers: there
//! may be hundreds. One that computes costs a processor and the memory of a pack check or an enumeration: more
//! than the processors can do only makes all of them slower and larger. So whoever computes holds a [`Work`],
//! and gives it back for as long as it waits for its client: slow clients cannot starve others, however many.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::HostLimits;

/// Requests that compute at a time, for each processor: some wait for a disk or the table.
const WORK_PER_PROCESSOR: usize = 2;
/// At least so many compute at a time.
const MIN_WORK: usize = 4;

/// Lets requests in.
#[derive(Debug)]
pub struct Gate {
    slots: Arc<Semaphore>,
    slot_count: u32,
    waiting: Semaphore,
    longest_wait: Duration,
    work: Arc<Semaphore>,
}

/// Too many requests are in progress and wait already.
#[derive(Debug)]
pub struct Busy;

/// A request in progress. Dropping it lets another one in.
#[derive(Debug)]
pub struct Slot {
    work: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate for the limits of a host.
    pub fn new(limits: &HostLimits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let slot_count = u32::try_from(limits.requests).unwrap_or(u32::MAX).clamp(1, 1 << 16);
        Gate {
            slots: Arc::new(Semaphore::new(slot_count as usize)),
            slot_count,
            waiting: Semaphore::new(limits.waiting.min(Semaphore::MAX_PERMITS)),
            longest_wait: limits.longest_wait,
            work: Arc::new(Semaphore::new((processors * WORK_PER_PROCESSOR).max(MIN_WORK))),
        }
    }

    /// Waits for its turn, not for ever.
    pub async fn enter(&self) -> Result<Slot, Busy> {
        let permit = match self.slots.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
                let turn = tokio::time::timeout(self.longest_wait, self.slots.clone().acquire_owned()).await;
                turn.map_err(|_| Busy)?.map_err(|_| Busy)?
            }
        };
        Ok(Slot { work: self.work.clone(), _permit: permit })
    }

    /// Waits until no request is in progress.
    pub async fn until_empty(&self) {
        drop(self.slots.acquire_many(self.slot_count).await);
    }
}

impl Slot {
    /// Starts to compute, when there is room. Blocking.
    pub fn work(&self, runtime: &Handle) -> Arc<Work> {
        let work = Work { room: self.work.clone(), runtime: runtime.clone(), held: Mutex::new(None) };
        work.resume();
        Arc::new(work)
    }
}

/// The right to compute, of one thread.
#[derive(Debug)]
pub struct Work {
    room: Arc<Semaphore>,
    runtime: Handle,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Work {
    /// Lets others compute while this thread waits for its client.
    pub fn pause<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.hold(None);
        let waited = wait();
        self.resume();
        waited
    }

    /// [`Work::pause`] within a runtime.
    pub async fn pause_async<T>(&self, wait: impl Future<Output = T>) -> T {
        self.hold(None);
        let waited = wait.await;
        self.hold(self.room.clone().acquire_owned().await.ok());
        waited
    }

    fn resume(&self) {
        let permit = self.runtime.block_on(self.room.clone().acquire_owned());
        self.hold(permit.ok());
    }

    fn hold(&self, permit: Option<OwnedSemaphorePermit>) {
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *held = permit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(requests: usize, waiting: usize) -> Gate {
        Gate::new(&HostLimits { requests, waiting, longest_wait: Duration::from_secs(5), ..HostLimits::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded_in_number_and_time() {
        let gate = gate(1, 1);
        let slot = gate.enter().await.unwrap();
        let (second, third) = tokio::join!(gate.enter(), gate.enter());
        assert!(second.is_err() && third.is_err());
        let (fourth, ()) = tokio::join!(gate.enter(), async { drop(slot) });
        assert!(fourth.is_ok());
        drop(fourth);
        gate.until_empty().await;
    }

    #[test]
    fn who_waits_for_a_client_lets_others_compute() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let gate = gate(1000, 0);
        let room = gate.work.available_permits();
        let slots: Vec<Slot> = (0..room).map(|_| runtime.block_on(gate.enter()).unwrap()).collect();
        let works: Vec<_> = slots.iter().map(|slot| slot.work(runtime.handle())).collect();
        assert_eq!(gate.work.available_permits(), 0);
        let other = runtime.block_on(gate.enter()).unwrap();
        // Would never end if the first still held its right.
        works[0].pause(|| drop(other.work(runtime.handle())));
        assert_eq!(gate.work.available_permits(), 0);
        drop(works);
        assert_eq!(gate.work.available_permits(), room);
    }
}
