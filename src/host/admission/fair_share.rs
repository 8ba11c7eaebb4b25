//! Fair share: which client is granted one of a limited number of permits. Pure decisions, no I/O.
//!
//! Permits are shared between clients, not between requests: a client that holds many yields to one that holds few.
//!
//! - While permits are free, every request is granted one, except for the reserved permits: those are for clients that
//!   hold none, so that no client keeps the others from being served, however many requests it sends.
//! - Otherwise requests queue, and the next permit goes to the queued client that holds the fewest.
//! - A holder that waits for its own client may be revoked for a queued request: after [`HEAVY_IDLE_TIMEOUT`] if the
//!   holder's client holds more permits, after [`IDLE_TIMEOUT`] in any case.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Idle time after which a request may be revoked for a client that holds fewer permits.
pub const HEAVY_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle time after which a request may be revoked for any queued request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client that a request is counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// Name of the token that the request shows.
    Principal(Arc<str>),
    /// Network that the request comes from; see [`network_of`].
    Network(IpAddr),
    /// The process itself, and clients without token and address.
    Other,
}

/// The network of one subscriber: an IPv4 address, or the first 64 bits of an IPv6 address.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Number of one request, queued or granted. Tickets ascend in the order of arrival.
pub type Ticket = u64;

/// Decision about a request that asks for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request holds a permit.
    Granted(Ticket),
    /// The request is queued. The second ticket is that of a request of a heavier client that is evicted from the full
    /// queue for it.
    Queued(Ticket, Option<Ticket>),
    /// The queue is full, and no client has clearly more requests than this one.
    Refused,
}

#[derive(Debug)]
struct Holder {
    client: ClientKey,
    /// Start of the request's wait for its client; `None` while the request works.
    idle_since: Option<Instant>,
    /// True once the request has been chosen to end.
    revoked: bool,
}

/// The permits of a pool, their holders and the queue.
#[derive(Debug)]
pub struct FairShare {
    permits: usize,
    /// Permits that only clients that hold none may take.
    reserved: usize,
    max_queued: usize,
    holders: BTreeMap<Ticket, Holder>,
    /// Queued requests in the order of arrival.
    queue: BTreeMap<Ticket, ClientKey>,
    next: Ticket,
}

impl FairShare {
    /// A pool of `permits` (at least one), of which `reserved` are for clients that hold none, with a queue of at most
    /// `max_queued` requests.
    pub fn new(permits: usize, reserved: usize, max_queued: usize) -> Self {
        let permits = permits.max(1);
        FairShare {
            permits,
            reserved: reserved.min(permits - 1),
            max_queued,
            holders: BTreeMap::new(),
            queue: BTreeMap::new(),
            next: 0,
        }
    }

    /// Decides about a new request of `client`.
    pub fn ask(&mut self, client: ClientKey) -> Outcome {
        let ticket = self.next;
        self.next += 1;
        // No queued request is overtaken: `admit` has granted every permit that a queued one may take.
        if self.may_grant(count(&self.held_by_client(), &client)) {
            self.grant(ticket, client);
            return Outcome::Granted(ticket);
        }
        let mut evicted = None;
        if self.queue.len() >= self.max_queued {
            let Some(other) = self.newest_of_heaviest(&client) else { return Outcome::Refused };
            self.queue.remove(&other);
            evicted = Some(other);
        }
        self.queue.insert(ticket, client);
        Outcome::Queued(ticket, evicted)
    }

    /// Grants free permits to queued requests, first of the client that holds the fewest, then in the order of arrival.
    pub fn admit(&mut self) -> Vec<Ticket> {
        let mut admitted = Vec::new();
        if self.queue.is_empty() || self.holders.len() >= self.permits {
            return admitted;
        }
        let mut held = self.held_by_client();
        loop {
            let next = self.queue.iter().map(|(ticket, client)| (count(&held, client), *ticket)).min();
            let Some((_, ticket)) = next.filter(|(held, _)| self.may_grant(*held)) else { break };
            let Some(client) = self.queue.remove(&ticket) else { break };
            *held.entry(client.clone()).or_default() += 1;
            self.grant(ticket, client);
            admitted.push(ticket);
        }
        admitted
    }

    /// Removes a request that has ended, or that no longer waits.
    pub fn leave(&mut self, ticket: Ticket) {
        self.holders.remove(&ticket);
        self.queue.remove(&ticket);
    }

    /// Records that a holder waits for its client from `since` on, or works (`None`).
    pub fn set_idle_since(&mut self, ticket: Ticket, since: Option<Instant>) {
        if let Some(holder) = self.holders.get_mut(&ticket) {
            holder.idle_since = since;
        }
    }

    /// Chooses the holders that have to end now: at most one per queued request.
    pub fn revoke(&mut self, now: Instant) -> Vec<Ticket> {
        let mut revoked = Vec::new();
        let ending = self.holders.values().filter(|holder| holder.revoked).count();
        let wanted = self.queue.len().saturating_sub(ending);
        if wanted == 0 {
            return revoked;
        }
        let mut held = self.held_by_client();
        let mut queued: Vec<(usize, Ticket)> =
            self.queue.iter().map(|(ticket, client)| (count(&held, client), *ticket)).collect();
        queued.sort_unstable();
        for (mine, _) in queued.into_iter().take(wanted) {
            let Some(ticket) = self.victim(&held, mine, now) else { break };
            if let Some(holder) = self.holders.get_mut(&ticket) {
                holder.revoked = true;
                held.entry(holder.client.clone()).and_modify(|count| *count -= 1);
            }
            revoked.push(ticket);
        }
        revoked
    }

    /// Number of queued requests.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns true if no request holds a permit.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Returns true if a permit is free for a client that holds `held`.
    fn may_grant(&self, held: usize) -> bool {
        let reserved = if held == 0 { 0 } else { self.reserved };
        self.holders.len() + reserved < self.permits
    }

    /// The holder to revoke for a client that holds `mine`: of the heaviest client, the one that is idle the longest.
    fn victim(&self, held: &HashMap<ClientKey, usize>, mine: usize, now: Instant) -> Option<Ticket> {
        let candidates = self.holders.iter().filter_map(|(ticket, holder)| {
            let idle = now.duration_since(holder.idle_since.filter(|_| !holder.revoked)?);
            let weight = count(held, &holder.client);
            let heavier = weight > mine + 1 && idle >= HEAVY_IDLE_TIMEOUT;
            (heavier || idle >= IDLE_TIMEOUT).then_some((weight, idle, *ticket))
        });
        candidates.max().map(|(_, _, ticket)| ticket)
    }

    /// The newest queued request of the heaviest client, if that client has at least two requests more than `client`.
    fn newest_of_heaviest(&self, client: &ClientKey) -> Option<Ticket> {
        let mut all = self.held_by_client();
        for client in self.queue.values() {
            *all.entry(client.clone()).or_default() += 1;
        }
        let mine = count(&all, client);
        let weights = self.queue.iter().map(|(ticket, client)| (count(&all, client), *ticket));
        weights.filter(|(weight, _)| *weight > mine + 1).max().map(|(_, ticket)| ticket)
    }

    fn grant(&mut self, ticket: Ticket, client: ClientKey) {
        self.holders.insert(ticket, Holder { client, idle_since: None, revoked: false });
        debug_assert!(self.holders.len() <= self.permits, "no more permits are granted than there are");
    }

    /// Permits by client, without those that are revoked.
    fn held_by_client(&self) -> HashMap<ClientKey, usize> {
        let mut held = HashMap::new();
        for holder in self.holders.values().filter(|holder| !holder.revoked) {
            *held.entry(holder.client.clone()).or_default() += 1;
        }
        held
    }
}

fn count(held: &HashMap<ClientKey, usize>, client: &ClientKey) -> usize {
    held.get(client).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(name: &str) -> ClientKey {
        ClientKey::Principal(name.into())
    }

    /// A pool whose permits are all held by one client, idle since `since`.
    fn full(permits: usize, since: Option<Instant>) -> FairShare {
        let mut fair_share = FairShare::new(permits, 0, 4);
        for _ in 0..permits {
            let Outcome::Granted(ticket) = fair_share.ask(client("bob")) else { panic!() };
            fair_share.set_idle_since(ticket, since);
        }
        fair_share
    }

    #[test]
    fn a_client_with_few_permits_revokes_the_idle_ones_of_a_client_with_many() {
        let start = Instant::now();
        let mut fair_share = full(3, Some(start));
        let Outcome::Queued(ann, None) = fair_share.ask(client("ann")) else { panic!() };
        assert_eq!(fair_share.revoke(start), Vec::<Ticket>::new(), "no request has been idle for long");
        let revoked = fair_share.revoke(start + HEAVY_IDLE_TIMEOUT);
        assert_eq!(revoked.len(), 1);
        assert_eq!(
            fair_share.revoke(start + HEAVY_IDLE_TIMEOUT),
            Vec::<Ticket>::new(),
            "one is revoked per queued request"
        );
        assert_eq!(fair_share.admit(), Vec::<Ticket>::new());
        fair_share.leave(revoked[0]);
        assert_eq!(fair_share.admit(), [ann]);
    }

    #[test]
    fn a_holder_that_works_is_not_revoked() {
        let start = Instant::now();
        let mut fair_share = full(3, None);
        fair_share.ask(client("ann"));
        assert_eq!(fair_share.revoke(start + IDLE_TIMEOUT * 10), Vec::<Ticket>::new());
    }

    #[test]
    fn reserved_permits_are_for_clients_that_hold_none() {
        let mut fair_share = FairShare::new(4, 1, 10);
        let held: Vec<Ticket> = (0..3)
            .map(|_| match fair_share.ask(client("bob")) {
                Outcome::Granted(ticket) => ticket,
                other => panic!("{other:?}"),
            })
            .collect();
        let Outcome::Queued(bob, None) = fair_share.ask(client("bob")) else { panic!() };
        // Bob leaves the reserved permit, and Ann takes it.
        let Outcome::Granted(ann) = fair_share.ask(client("ann")) else { panic!() };
        assert!(matches!(fair_share.ask(client("ann")), Outcome::Queued(..)));
        fair_share.leave(ann);
        assert_ne!(fair_share.admit(), [bob], "the second request of Ann holds none now");
        fair_share.leave(held[0]);
        assert_eq!(fair_share.admit(), Vec::<Ticket>::new(), "the reserved permit stays free");
        fair_share.leave(held[1]);
        assert_eq!(fair_share.admit(), [bob]);
    }

    #[test]
    fn idle_requests_of_the_same_client_are_revoked_after_the_longer_timeout() {
        let start = Instant::now();
        let mut fair_share = full(3, Some(start));
        fair_share.ask(client("bob"));
        assert_eq!(fair_share.revoke(start + HEAVY_IDLE_TIMEOUT * 2), Vec::<Ticket>::new());
        assert_eq!(fair_share.revoke(start + IDLE_TIMEOUT).len(), 1);
    }

    #[test]
    fn the_client_that_holds_the_fewest_is_next() {
        let mut fair_share = FairShare::new(2, 0, 10);
        let Outcome::Granted(one) = fair_share.ask(client("bob")) else { panic!() };
        fair_share.ask(client("bob"));
        let mut wait = |name| match fair_share.ask(client(name)) {
            Outcome::Queued(ticket, None) => ticket,
            other => panic!("{other:?}"),
        };
        let (bob, ann) = (wait("bob"), wait("ann"));
        fair_share.leave(one);
        assert_eq!(fair_share.admit(), [ann]);
        fair_share.leave(ann);
        assert_eq!(fair_share.admit(), [bob]);
    }

    #[test]
    fn a_full_queue_evicts_the_heaviest_client_first() {
        let mut fair_share = full(2, None);
        let waiting: Vec<Outcome> = (0..4).map(|_| fair_share.ask(client("bob"))).collect();
        let Outcome::Queued(newest, None) = waiting[3] else { panic!() };
        assert_eq!(fair_share.ask(client("bob")), Outcome::Refused);
        assert!(matches!(fair_share.ask(client("ann")), Outcome::Queued(_, Some(evicted)) if evicted == newest));
    }

    #[test]
    fn subscribers_of_ipv6_have_a_network() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        /// No order of requests exceeds the permits, or leaves an unreserved permit free while a request is queued.
        #[test]
        fn permits_are_never_exceeded_and_never_wasted(
            steps in proptest::collection::vec((0..4u8, 0..3u8, 0..20usize), 0..200),
            reserved in 0..3usize,
        ) {
            let start = Instant::now();
            let mut fair_share = FairShare::new(5, reserved, 6);
            let mut live: Vec<Ticket> = Vec::new();
            for (time, (what, who, which)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(time as u64);
                match what {
                    0 | 1 => match fair_share.ask(client(["a", "b", "c"][who as usize])) {
                        Outcome::Granted(ticket) => live.push(ticket),
                        Outcome::Queued(ticket, evicted) => {
                            live.push(ticket);
                            live.retain(|ticket| Some(*ticket) != evicted);
                        }
                        Outcome::Refused => prop_assert_eq!(fair_share.queue.len(), 6),
                    },
                    2 if !live.is_empty() => fair_share.leave(live.remove(which % live.len())),
                    _ if !live.is_empty() => {
                        fair_share.set_idle_since(live[which % live.len()], Some(now));
                        let before = fair_share.held_by_client();
                        for ticket in fair_share.revoke(now) {
                            let victim = &fair_share.holders[&ticket];
                            prop_assert!(victim.idle_since.is_some());
                            prop_assert!(count(&before, &victim.client) > 0);
                        }
                    }
                    _ => {}
                }
                fair_share.admit();
                prop_assert!(fair_share.holders.len() <= 5 && fair_share.queue.len() <= 6);
                let held = fair_share.held_by_client();
                prop_assert!(!fair_share.queue.values().any(|client| fair_share.may_grant(count(&held, client))));
                prop_assert!(fair_share.queue.is_empty() || fair_share.holders.len() >= 5 - reserved);
                prop_assert_eq!(fair_share.holders.len() + fair_share.queue.len(), live.len());
            }
        }
    }
}
