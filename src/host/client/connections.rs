//! The open connections of a host, and which of them is closed when there are too many.
//!
//! Connections are shared fairly between networks. At the limit, a new connection replaces one on which no request is
//! in progress: of the network with the most connections, the one that is idle the longest. A new connection that can
//! replace none is served for health checks alone; [`RESERVED`] of those may be open beyond the limit.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::admission::fair_share::network_of;

/// Connections beyond the limit that are served for health checks alone.
const RESERVED: usize = 16;

#[derive(Debug)]
struct Entry {
    network: IpAddr,
    /// Requests in progress that hold a slot.
    in_flight: usize,
    last_active: Instant,
    /// True for a connection beyond the limit, which serves health checks alone.
    reserved: bool,
    /// True once the connection has been asked to close.
    closing: bool,
}

/// Decision about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Accept,
    /// Accepted in place of this connection, which is closed.
    Replace(u64),
    /// Accepted for health checks alone. The connection given is closed, if there are too many of those.
    HealthOnly(Option<u64>),
}

/// The open connections by number, and the decision about new ones. Pure.
#[derive(Debug, Default)]
struct ConnectionTable {
    limit: usize,
    entries: BTreeMap<u64, Entry>,
    next: u64,
}

impl ConnectionTable {
    fn decide(&self, network: IpAddr) -> Decision {
        let open = self.entries.values().filter(|entry| !entry.reserved && !entry.closing).count();
        if open < self.limit {
            return Decision::Accept;
        }
        let mut weights: HashMap<IpAddr, usize> = HashMap::new();
        for entry in self.entries.values().filter(|entry| !entry.closing) {
            *weights.entry(entry.network).or_default() += 1;
        }
        let mine = weights.get(&network).copied().unwrap_or(0);
        let candidates = self.entries.iter().filter_map(|(id, entry)| {
            let weight = weights.get(&entry.network).copied().unwrap_or(0);
            let replaceable = entry.in_flight == 0 && !entry.reserved && !entry.closing;
            (replaceable && (weight > mine || entry.network == network)).then_some((weight, entry.last_active, *id))
        });
        if let Some((_, _, id)) =
            candidates.max_by_key(|(weight, active, id)| (*weight, std::cmp::Reverse((*active, *id))))
        {
            return Decision::Replace(id);
        }
        let reserved = || self.entries.iter().filter(|(_, entry)| entry.reserved && !entry.closing);
        let oldest = (reserved().count() >= RESERVED).then(|| reserved().next().map(|(id, _)| *id)).flatten();
        Decision::HealthOnly(oldest)
    }

    fn insert(&mut self, network: IpAddr, reserved: bool, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, Entry { network, in_flight: 0, last_active: now, reserved, closing: false });
        id
    }
}

/// The open connections of a host.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<(ConnectionTable, HashMap<u64, Weak<ClientConnection>>)>,
    full: AtomicBool,
}

impl Connections {
    /// Starts without connections. At most `limit` are open, at least one.
    pub fn new(limit: usize) -> Arc<Self> {
        let table = ConnectionTable { limit: limit.max(1), ..ConnectionTable::default() };
        Arc::new(Connections { open: Mutex::new((table, HashMap::new())), full: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, (ConnectionTable, HashMap<u64, Weak<ClientConnection>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection until the guard is dropped, and closes the connection that it replaces.
    pub fn open(self: &Arc<Self>, peer: Option<SocketAddr>) -> OpenConnection {
        let network = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| network_of(peer.ip()));
        let mut open = self.lock();
        let (reserved, replaced) = match open.0.decide(network) {
            Decision::Accept => (false, None),
            Decision::Replace(id) => (false, Some(id)),
            Decision::HealthOnly(id) => (true, id),
        };
        if let Some(entry) = replaced.and_then(|id| open.0.entries.get_mut(&id)) {
            entry.closing = true;
        }
        let id = open.0.insert(network, reserved, Instant::now());
        let connection = Arc::new(ClientConnection {
            id,
            connections: self.clone(),
            peer,
            reserved,
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let replaced = replaced.and_then(|id| open.1.get(&id)?.upgrade());
        open.1.insert(id, Arc::downgrade(&connection));
        drop(open);
        // Logged when the limit is reached, not per connection, so that a flood of connections does not flood the log.
        let full = reserved || replaced.is_some();
        if !self.full.swap(full, Ordering::Relaxed) && full {
            tracing::warn!("there are too many connections; idle ones of the networks with the most are closed");
        }
        replaced.into_iter().for_each(|connection| connection.close());
        OpenConnection(connection)
    }
}

/// A client's connection, shared with the requests that it carries.
#[derive(Debug)]
pub struct ClientConnection {
    id: u64,
    connections: Arc<Connections>,
    peer: Option<SocketAddr>,
    reserved: bool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl ClientConnection {
    /// Address of the other end; `None` if the system does not report it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns true for a connection beyond the limit, which serves health checks alone.
    pub fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Marks a request of this connection as in progress until the guard is dropped: until then no other connection
    /// replaces this one.
    pub fn begin_request(self: &Arc<Self>) -> Arc<InFlight> {
        self.update(|entry| entry.in_flight += 1);
        Arc::new(InFlight(self.clone()))
    }

    /// Records activity.
    pub fn touch(&self) {
        self.update(|_| {});
    }

    fn update(&self, update: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.connections.lock().0.entries.get_mut(&self.id) {
            update(entry);
            entry.last_active = Instant::now();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Returns true if the connection has to close. Otherwise the task of `context` is woken when it has to.
    pub fn is_closed(&self, context: &std::task::Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.closed.load(Ordering::Acquire)
    }
}

/// A request in progress on a connection.
#[derive(Debug)]
pub struct InFlight(Arc<ClientConnection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.update(|entry| {
            debug_assert!(entry.in_flight > 0, "every request in progress is counted once");
            entry.in_flight = entry.in_flight.saturating_sub(1);
        });
    }
}

/// Keeps a connection registered; removes it on drop.
#[derive(Debug)]
pub struct OpenConnection(Arc<ClientConnection>);

impl OpenConnection {
    /// The connection, for its requests.
    pub fn connection(&self) -> &Arc<ClientConnection> {
        &self.0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.0.connections.lock();
        open.0.entries.remove(&self.0.id);
        open.1.remove(&self.0.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn network(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// Three connections of the first network and one of the second, a second after each other.
    fn full() -> (ConnectionTable, [u64; 4]) {
        let start = Instant::now();
        let mut table = ConnectionTable { limit: 4, ..ConnectionTable::default() };
        let mut second = 0;
        let ids = [1, 2, 1, 1].map(|last| {
            assert_eq!(table.decide(network(last)), Decision::Accept);
            second += 1;
            table.insert(network(last), false, start + Duration::from_secs(second))
        });
        (table, ids)
    }

    #[test]
    fn the_idlest_connection_of_the_heaviest_network_is_replaced() {
        let (mut table, ids) = full();
        assert_eq!(table.decide(network(3)), Decision::Replace(ids[0]));
        table.entries.get_mut(&ids[0]).unwrap().in_flight = 1;
        assert_eq!(table.decide(network(3)), Decision::Replace(ids[2]));
        // A network that is the heaviest replaces one of its own.
        assert_eq!(table.decide(network(1)), Decision::Replace(ids[2]));
    }

    #[test]
    fn connections_with_requests_stay_and_health_checks_are_accepted() {
        let (mut table, _) = full();
        table.entries.values_mut().for_each(|entry| entry.in_flight = 1);
        for number in 0..RESERVED {
            assert_eq!(table.decide(network(3)), Decision::HealthOnly(None), "{number}");
            table.insert(network(3), true, Instant::now());
        }
        assert_eq!(table.decide(network(4)), Decision::HealthOnly(Some(4)));
    }

    #[test]
    fn a_light_network_is_not_closed_for_a_heavy_one() {
        let (mut table, ids) = full();
        for id in [ids[0], ids[2], ids[3]] {
            table.entries.get_mut(&id).unwrap().in_flight = 1;
        }
        assert_eq!(table.decide(network(1)), Decision::HealthOnly(None));
        assert_eq!(table.decide(network(3)), Decision::Replace(ids[1]));
    }
}
