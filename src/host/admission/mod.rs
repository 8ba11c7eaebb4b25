//! Admission control: bounds the requests in progress, and the requests that compute, at a time.
//!
//! The two limits are separate. A request that waits for a slow client costs a thread and a few buffers, so hundreds
//! may be in progress. A request that computes costs a processor and the memory of a pack check or an enumeration; more
//! of those than the processors can run only makes each one slower. A request that computes therefore holds a
//! [`ComputePermit`] and releases it while it waits for its client, so slow clients cannot starve the others.
//!
//! Both limits are shared fairly between clients; see [`permits`].

pub mod fair_share;
pub mod permits;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::client::Client;
use crate::client::connections::InFlight;
use crate::metrics::QueueMetrics;
use fair_share::{ClientKey, FairShare};
use gitferry_config::HostLimits;
use permits::{Busy, ClientWait, ClientWaits, Permit, PermitPool, Revocation};

/// Requests that compute at a time, per processor. More than one, because some wait for a disk or the table.
const COMPUTE_PER_PROCESSOR: usize = 2;
/// Lower bound of the requests that compute at a time.
const MIN_COMPUTE: usize = 4;
/// One in this many permits is reserved for clients that hold none. The compute pool adds its reserved permits to its
/// size.
const RESERVED_FRACTION: usize = 8;

/// Admission control of one kind of request.
#[derive(Debug)]
pub struct Admission {
    requests: Arc<PermitPool>,
    longest_wait: Duration,
    compute: Arc<PermitPool>,
}

/// Metrics of the two queues of an [`Admission`].
#[derive(Clone, Debug, Default)]
pub struct AdmissionMetrics {
    /// Requests that wait for a slot.
    pub requests: QueueMetrics,
    /// Waits of admitted requests for a permit to compute.
    pub compute: QueueMetrics,
}

impl Admission {
    /// Admission control under the limits of a host.
    pub fn new(limits: &HostLimits, metrics: AdmissionMetrics) -> Self {
        Admission::with_capacity(limits.requests, limits.longest_wait, limits, metrics)
    }

    /// Admission control for `requests` requests at a time, which wait at most `longest_wait`. The length of the queue
    /// comes from `limits`.
    pub fn with_capacity(
        requests: usize,
        longest_wait: Duration,
        limits: &HostLimits,
        metrics: AdmissionMetrics,
    ) -> Self {
        let requests = FairShare::new(requests, requests / RESERVED_FRACTION, limits.waiting);
        Admission {
            requests: PermitPool::new(requests, metrics.requests),
            longest_wait,
            compute: compute_pool(metrics.compute),
        }
    }

    /// Waits for a slot for the request that this task answers.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full, or no slot becomes free in time.
    pub async fn admit(&self) -> Result<Slot, Busy> {
        let client = Client::current();
        let key = client.key();
        let permit = self.requests.acquire(key.clone(), Some(self.longest_wait)).await?;
        client.set_revocation(permit.revocation());
        let in_flight = client.begin_request();
        Ok(Slot { permit: Arc::new(permit), key, compute: self.compute.clone(), _in_flight: in_flight })
    }

    /// Waits until no request is in progress.
    pub async fn wait_until_idle(&self) {
        self.requests.wait_until_empty().await;
    }
}

/// Permits to compute, for as many requests as the processors can run. Their queue is unbounded: requests that wait are
/// admitted already.
pub fn compute_pool(metrics: QueueMetrics) -> Arc<PermitPool> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let compute = (processors * COMPUTE_PER_PROCESSOR).max(MIN_COMPUTE);
    let reserved = compute.div_ceil(RESERVED_FRACTION);
    PermitPool::new(FairShare::new(compute + reserved, reserved, usize::MAX), metrics)
}

/// A request in progress. Dropping the last clone admits another request.
#[derive(Clone, Debug)]
pub struct Slot {
    permit: Arc<Permit>,
    key: ClientKey,
    compute: Arc<PermitPool>,
    _in_flight: Option<Arc<InFlight>>,
}

impl Slot {
    /// Waits for a permit to compute. Blocks the thread.
    pub fn begin_compute(&self, runtime: &Handle) -> Arc<ComputePermit> {
        let compute = ComputePermit { slot: self.clone(), runtime: runtime.clone(), held: Mutex::new(None) };
        compute.reacquire();
        Arc::new(compute)
    }

    /// Signal for the request to end in favour of other clients.
    pub fn revocation(&self) -> Revocation {
        self.permit.revocation()
    }

    /// Marks the request as waiting for its client until the guard is dropped.
    pub fn begin_client_wait(&self) -> ClientWait {
        self.client_waits().begin()
    }

    /// A handle that marks client waits without holding the slot.
    pub fn client_waits(&self) -> ClientWaits {
        self.permit.client_waits()
    }
}

/// The permit of one thread to compute.
#[derive(Debug)]
pub struct ComputePermit {
    slot: Slot,
    runtime: Handle,
    held: Mutex<Option<Permit>>,
}

impl ComputePermit {
    /// Releases the permit while `wait` blocks this thread on its client, then acquires the permit again.
    pub fn release_while<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.replace(None);
        let waited = {
            let _waiting = self.slot.begin_client_wait();
            wait()
        };
        self.reacquire();
        waited
    }

    /// Signal for the request to end in favour of other clients.
    pub fn revocation(&self) -> Revocation {
        self.slot.revocation()
    }

    /// Releases the permit while a future of this host's own work waits, then acquires the permit again. The wait is
    /// not counted as the client's.
    pub async fn release_while_awaiting<T>(&self, wait: impl Future<Output = T>) -> T {
        self.replace(None);
        let waited = wait.await;
        self.replace(self.acquire().await);
        waited
    }

    fn reacquire(&self) {
        self.replace(self.runtime.block_on(self.acquire()));
    }

    async fn acquire(&self) -> Option<Permit> {
        let permit = self.slot.compute.acquire(self.slot.key.clone(), None).await;
        debug_assert!(permit.is_ok(), "the queue for compute permits is unbounded and waits without a deadline");
        permit.ok()
    }

    fn replace(&self, permit: Option<Permit>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = permit;
    }
}

#[cfg(test)]
mod tests {
    use super::fair_share::HEAVY_IDLE_TIMEOUT;
    use super::*;

    fn admission(requests: usize, waiting: usize) -> Admission {
        let limits = HostLimits { requests, waiting, longest_wait: Duration::from_secs(5), ..HostLimits::default() };
        Admission::new(&limits, AdmissionMetrics::default())
    }

    /// A client with a token.
    fn client(token: &str) -> Arc<Client> {
        let client =
            Client::new(String::new(), crate::client::proxies::ClientInfo::default(), None, Default::default());
        client.set_principal_name(token);
        client
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded_in_number_and_time() {
        let admission = admission(1, 1);
        let slot = admission.admit().await.unwrap();
        let (second, third) = tokio::join!(admission.admit(), admission.admit());
        assert!(second.is_err() && third.is_err());
        let (fourth, ()) = tokio::join!(admission.admit(), async { drop(slot) });
        assert!(fourth.is_ok());
        drop(fourth);
        admission.wait_until_idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn idle_requests_of_one_client_yield_to_another() {
        let admission = admission(3, 5);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(client("bob").scope(admission.admit()).await.unwrap());
        }
        let waits: Vec<_> = held.iter().map(Slot::begin_client_wait).collect();
        let ann = client("ann");
        let admitting = ann.scope(admission.admit());
        let yielding = async {
            futures::future::select_all(held.iter().map(|slot| Box::pin(slot.revocation().revoked()))).await;
            drop((waits, held));
        };
        let (admitted, ()) = tokio::join!(admitting, yielding);
        assert!(admitted.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_not_idle_keeps_its_slots() {
        let admission = admission(2, 5);
        let bob = client("bob");
        let held = [bob.clone().scope(admission.admit()).await.unwrap(), bob.scope(admission.admit()).await.unwrap()];
        assert!(client("ann").scope(admission.admit()).await.is_err());
        tokio::time::sleep(HEAVY_IDLE_TIMEOUT).await;
        assert!(held.iter().all(|slot| !slot.revocation().is_revoked()));
    }

    #[test]
    fn a_request_that_waits_for_its_client_releases_its_compute_permit() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let admission = admission(1000, 0);
        let slot = || runtime.block_on(admission.admit()).unwrap();
        let first = slot().begin_compute(runtime.handle());
        let mut permits = vec![first];
        // Takes all the other permits of this client.
        while let Ok(permit) = admission.compute.ask(ClientKey::Other) {
            if permit.is_queued() {
                break;
            }
            drop(permit);
            permits.push(slot().begin_compute(runtime.handle()));
        }
        // The reserved permits are left to another client.
        let ann = client("ann");
        let late = runtime.block_on(ann.scope(admission.admit())).unwrap();
        drop(late.begin_compute(runtime.handle()));
        let other = slot();
        // Would block for ever if the first request still held its permit.
        permits[0].release_while(|| drop(other.begin_compute(runtime.handle())));
        drop(permits);
        assert!(admission.compute.is_empty());
    }
}
