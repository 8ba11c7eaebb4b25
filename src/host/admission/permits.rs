//! Pools of permits with a queue. [`super::fair_share`] decides without I/O; this module waits and wakes.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::fair_share::{ClientKey, FairShare, Outcome, Ticket};
use crate::metrics::QueueMetrics;

/// Interval at which a queued request checks again if an idle holder can be revoked for it.
const REVOKE_INTERVAL: Duration = Duration::from_millis(500);

/// The queue of waiting requests is full, or a request has waited for the longest time that is allowed.
#[derive(Debug)]
pub struct Busy;

/// A fixed number of permits, with a queue.
#[derive(Debug)]
pub struct PermitPool {
    state: Mutex<PoolState>,
    emptied: Notify,
    metrics: QueueMetrics,
}

#[derive(Debug)]
struct PoolState {
    fair_share: FairShare,
    /// Senders of the state of each permit, queued or granted.
    permits: HashMap<Ticket, watch::Sender<PermitState>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitState {
    Queued,
    Granted,
    /// Evicted from the queue in favour of another client.
    Refused,
    /// Granted, but the request has to end in favour of a queued one.
    Revoked,
}

impl PermitPool {
    /// A pool without requests.
    pub fn new(fair_share: FairShare, metrics: QueueMetrics) -> Arc<Self> {
        let state = PoolState { fair_share, permits: HashMap::new() };
        Arc::new(PermitPool { state: Mutex::new(state), emptied: Notify::new(), metrics })
    }

    /// Waits until no request holds a permit or waits for one.
    pub async fn wait_until_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Returns true if no request holds a permit.
    pub fn is_empty(&self) -> bool {
        self.state().fair_share.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a permit for a request of the client `key`.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full, or no permit is granted within `longest_wait`.
    pub async fn acquire(self: &Arc<Self>, key: ClientKey, longest_wait: Option<Duration>) -> Result<Permit, Busy> {
        let acquired = self.wait(key, longest_wait).await;
        self.metrics.decided(acquired.is_ok());
        acquired
    }

    async fn wait(self: &Arc<Self>, key: ClientKey, longest_wait: Option<Duration>) -> Result<Permit, Busy> {
        let mut permit = self.ask(key)?;
        let deadline = longest_wait.map(|wait| Instant::now() + wait);
        loop {
            let state = *permit.state.borrow_and_update();
            match state {
                PermitState::Queued => {}
                PermitState::Refused => return Err(Busy),
                PermitState::Granted | PermitState::Revoked => return Ok(permit),
            }
            self.state().revoke();
            let recheck = Instant::now() + REVOKE_INTERVAL;
            let until = deadline.map_or(recheck, |deadline| deadline.min(recheck));
            if tokio::time::timeout_at(until, permit.state.changed()).await.is_err()
                && deadline.is_some_and(|deadline| deadline <= Instant::now())
            {
                return Err(Busy);
            }
        }
    }

    /// Asks for a permit and returns at once, with the permit granted or queued.
    pub fn ask(self: &Arc<Self>, key: ClientKey) -> Result<Permit, Busy> {
        let mut pool = self.state();
        let (ticket, state) = match pool.fair_share.ask(key) {
            Outcome::Refused => return Err(Busy),
            Outcome::Granted(ticket) => (ticket, PermitState::Granted),
            Outcome::Queued(ticket, evicted) => {
                evicted.into_iter().for_each(|evicted| pool.set(evicted, PermitState::Refused));
                (ticket, PermitState::Queued)
            }
        };
        let (sender, state) = watch::channel(state);
        pool.permits.insert(ticket, sender);
        self.metrics.set_waiting(pool.fair_share.queued());
        Ok(Permit { pool: self.clone(), ticket, state })
    }
}

impl PoolState {
    fn set(&mut self, ticket: Ticket, state: PermitState) {
        if let Some(sender) = self.permits.get(&ticket) {
            sender.send_replace(state);
        }
    }

    fn revoke(&mut self) {
        for ticket in self.fair_share.revoke(Instant::now()) {
            self.set(ticket, PermitState::Revoked);
        }
    }
}

/// A permit of a pool, granted or queued. Dropping it admits the next request.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<PermitPool>,
    ticket: Ticket,
    state: watch::Receiver<PermitState>,
}

impl Permit {
    /// Signal for the holder to end in favour of other clients.
    pub fn revocation(&self) -> Revocation {
        Revocation(self.state.clone())
    }

    /// A handle that marks client waits without holding the permit.
    pub fn client_waits(&self) -> ClientWaits {
        ClientWaits { pool: self.pool.clone(), ticket: self.ticket }
    }

    #[cfg(test)]
    pub fn is_queued(&self) -> bool {
        *self.state.borrow() == PermitState::Queued
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let empty = {
            let mut pool = self.pool.state();
            pool.fair_share.leave(self.ticket);
            pool.permits.remove(&self.ticket);
            for admitted in pool.fair_share.admit() {
                pool.set(admitted, PermitState::Granted);
            }
            self.pool.metrics.set_waiting(pool.fair_share.queued());
            pool.fair_share.is_empty()
        };
        if empty {
            self.pool.emptied.notify_waiters();
        }
    }
}

/// Signal for a request to end in favour of other clients.
#[derive(Clone, Debug)]
pub struct Revocation(watch::Receiver<PermitState>);

impl Revocation {
    /// Returns true if the request has to end.
    pub fn is_revoked(&self) -> bool {
        *self.0.borrow() == PermitState::Revoked
    }

    /// Waits until the request has to end. Never returns for a request that ends by itself.
    pub async fn revoked(mut self) {
        if self.0.wait_for(|state| *state == PermitState::Revoked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until a request has to end in favour of other clients. Never returns without a revocation.
pub async fn revoked(revocation: Option<Revocation>) {
    match revocation {
        Some(revocation) => revocation.revoked().await,
        None => std::future::pending().await,
    }
}

/// Error of a request whose permit was revoked. Its kind is [`io::ErrorKind::ResourceBusy`].
pub fn revoked_error() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "the request was idle and its slot was given to another client")
}

/// Marks the times in which a request waits for its client.
#[derive(Clone, Debug)]
pub struct ClientWaits {
    pool: Arc<PermitPool>,
    ticket: Ticket,
}

impl ClientWaits {
    /// Marks the request as waiting for its client until the guard is dropped.
    pub fn begin(&self) -> ClientWait {
        self.set_idle_since(Some(Instant::now()));
        ClientWait(self.clone())
    }

    fn set_idle_since(&self, since: Option<Instant>) {
        self.pool.state().fair_share.set_idle_since(self.ticket, since);
    }
}

/// A time in which a request waits for its client; it ends on drop.
#[derive(Debug)]
pub struct ClientWait(ClientWaits);

impl Drop for ClientWait {
    fn drop(&mut self) {
        self.0.set_idle_since(None);
    }
}
