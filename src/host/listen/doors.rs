//! Which connections there are, and which one goes when there are too many.
//!
//! Connections are shared between networks: when there is no room, one on which no work goes on is closed for a new
//! one, of the network that has the most, silent the longest. A connection for which there is no room all the same is
//! one of a few that are asked for health alone.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::shares::network_of;

/// Connections beyond the limit that are answered about health alone.
const RESERVED: usize = 16;

#[derive(Debug)]
struct Opened {
    network: IpAddr,
    /// Requests that hold a place.
    working: usize,
    /// When something went on last.
    active: Instant,
    reserved: bool,
    /// It has been told to close.
    closing: bool,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// It is let in.
    In,
    /// It is let in, and this one is closed.
    Instead(u64),
    /// It is asked for health alone; this one is closed if there are too many of them.
    Reserved(Option<u64>),
}

/// The open connections. Pure.
#[derive(Debug, Default)]
struct Opens {
    limit: usize,
    all: BTreeMap<u64, Opened>,
    next: u64,
}

impl Opens {
    fn admit(&self, network: IpAddr) -> Admission {
        let open = self.all.values().filter(|open| !open.reserved && !open.closing).count();
        if open < self.limit {
            return Admission::In;
        }
        let mut weights: HashMap<IpAddr, usize> = HashMap::new();
        for open in self.all.values().filter(|open| !open.closing) {
            *weights.entry(open.network).or_default() += 1;
        }
        let mine = weights.get(&network).copied().unwrap_or(0);
        let candidates = self.all.iter().filter_map(|(id, open)| {
            let weight = weights.get(&open.network).copied().unwrap_or(0);
            let gives_way = open.working == 0 && !open.reserved && !open.closing;
            (gives_way && (weight > mine || open.network == network)).then_some((weight, open.active, *id))
        });
        if let Some((_, _, id)) =
            candidates.max_by_key(|(weight, active, id)| (*weight, std::cmp::Reverse((*active, *id))))
        {
            return Admission::Instead(id);
        }
        let reserved = || self.all.iter().filter(|(_, open)| open.reserved && !open.closing);
        let oldest = (reserved().count() >= RESERVED).then(|| reserved().next().map(|(id, _)| *id)).flatten();
        Admission::Reserved(oldest)
    }

    fn open(&mut self, network: IpAddr, reserved: bool, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.all.insert(id, Opened { network, working: 0, active: now, reserved, closing: false });
        id
    }
}

/// The open connections of a host.
#[derive(Debug)]
pub(super) struct Doors {
    opens: Mutex<(Opens, HashMap<u64, Weak<Door>>)>,
    full: AtomicBool,
}

impl Doors {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let opens = Opens { limit: limit.max(1), ..Opens::default() };
        Arc::new(Doors { opens: Mutex::new((opens, HashMap::new())), full: AtomicBool::new(false) })
    }

    fn opens(&self) -> MutexGuard<'_, (Opens, HashMap<u64, Weak<Door>>)> {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection, which lasts until what is returned is dropped.
    pub(super) fn open(self: &Arc<Self>, peer: Option<SocketAddr>) -> OpenDoor {
        let network = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| network_of(peer.ip()));
        let mut opens = self.opens();
        let (reserved, closed) = match opens.0.admit(network) {
            Admission::In => (false, None),
            Admission::Instead(id) => (false, Some(id)),
            Admission::Reserved(id) => (true, id),
        };
        if let Some(open) = closed.and_then(|id| opens.0.all.get_mut(&id)) {
            open.closing = true;
        }
        let id = opens.0.open(network, reserved, Instant::now());
        let door = Arc::new(Door {
            id,
            doors: self.clone(),
            peer,
            reserved,
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let closed = closed.and_then(|id| opens.1.get(&id)?.upgrade());
        opens.1.insert(id, Arc::downgrade(&door));
        drop(opens);
        // Once for each time that it gets full: a flood must not flood the log.
        let full = reserved || closed.is_some();
        if !self.full.swap(full, Ordering::Relaxed) && full {
            tracing::warn!("there are too many connections; idle ones of those who have the most are closed");
        }
        closed.into_iter().for_each(|door| door.close());
        OpenDoor(door)
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct Door {
    id: u64,
    doors: Arc<Doors>,
    /// The other end, where the system tells it.
    pub peer: Option<SocketAddr>,
    /// There is no room for it: it is answered about health alone.
    pub reserved: bool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl Door {
    /// Work goes on for a request of this connection until what is returned is dropped: it is not closed for another.
    pub fn busy(self: &Arc<Self>) -> Arc<Busyness> {
        self.change(|open| open.working += 1);
        Arc::new(Busyness(self.clone()))
    }

    /// Something goes on.
    pub(super) fn touch(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Opened)) {
        if let Some(open) = self.doors.opens().0.all.get_mut(&self.id) {
            change(open);
            open.active = Instant::now();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection has to end; else the task is woken when it has to.
    pub(super) fn is_closed(&self, context: &std::task::Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.closed.load(Ordering::Acquire)
    }
}

/// The time in which work goes on for a request.
#[derive(Debug)]
pub struct Busyness(Arc<Door>);

impl Drop for Busyness {
    fn drop(&mut self) {
        self.0.change(|open| open.working = open.working.saturating_sub(1));
    }
}

/// A connection, as long as it is open.
#[derive(Debug)]
pub(super) struct OpenDoor(pub(super) Arc<Door>);

impl Drop for OpenDoor {
    fn drop(&mut self) {
        let mut opens = self.0.doors.opens();
        opens.0.all.remove(&self.0.id);
        opens.1.remove(&self.0.id);
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
    fn full() -> (Opens, [u64; 4]) {
        let start = Instant::now();
        let mut opens = Opens { limit: 4, ..Opens::default() };
        let mut second = 0;
        let ids = [1, 2, 1, 1].map(|last| {
            assert_eq!(opens.admit(network(last)), Admission::In);
            second += 1;
            opens.open(network(last), false, start + Duration::from_secs(second))
        });
        (opens, ids)
    }

    #[test]
    fn the_heaviest_network_gives_way_and_of_it_what_was_silent_the_longest() {
        let (mut opens, ids) = full();
        assert_eq!(opens.admit(network(3)), Admission::Instead(ids[0]));
        opens.all.get_mut(&ids[0]).unwrap().working = 1;
        assert_eq!(opens.admit(network(3)), Admission::Instead(ids[2]));
        // Its own, where it is the heaviest itself.
        assert_eq!(opens.admit(network(1)), Admission::Instead(ids[2]));
    }

    #[test]
    fn what_works_stays_and_health_is_answered() {
        let (mut opens, _) = full();
        opens.all.values_mut().for_each(|open| open.working = 1);
        for number in 0..RESERVED {
            assert_eq!(opens.admit(network(3)), Admission::Reserved(None), "{number}");
            opens.open(network(3), true, Instant::now());
        }
        assert_eq!(opens.admit(network(4)), Admission::Reserved(Some(4)));
    }

    #[test]
    fn a_light_network_is_not_closed_for_a_heavy_one() {
        let (mut opens, ids) = full();
        for id in [ids[0], ids[2], ids[3]] {
            opens.all.get_mut(&id).unwrap().working = 1;
        }
        assert_eq!(opens.admit(network(1)), Admission::Reserved(None));
        assert_eq!(opens.admit(network(3)), Admission::Instead(ids[1]));
    }
}
