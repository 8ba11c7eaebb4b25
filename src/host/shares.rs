//! Who gets one of a limited number of places. Pure.
//!
//! Places are shared between parties, not between requests: a party that holds many gives way to one that holds few.
//! While there is room, every request is let in, but for the last places: those are for parties that hold none, so that
//! no party, however much it asks for, keeps others from being served. When there is no room, requests wait, and the
//! next place goes to the waiting party that holds the fewest. A holder that waits for its own client may have to leave for a waiting request: that
//! of a heavier party soon, any other when its client has been silent for long.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A holder of a heavier party leaves for others when its client has been silent for this long.
pub const HEAVY_SILENCE: Duration = Duration::from_secs(1);
/// Any holder leaves for others when its client has been silent for this long.
pub const ANY_SILENCE: Duration = Duration::from_secs(10);

/// Who shares places with others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The holder of the token of this name.
    Token(Arc<str>),
    /// A network; see [`network_of`].
    Network(IpAddr),
    /// The program itself, and clients of which nothing is known.
    Other,
}

/// The network that one subscriber has: an IPv4 address, or the first 64 bits of an IPv6 address.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Names one request, waiting or holding a place.
pub type Ticket = u64;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has a place.
    Holds(Ticket),
    /// It waits; another one that waits, of a heavier party, is refused to make room where it is named.
    Waits(Ticket, Option<Ticket>),
    /// There are too many that wait, and no party has more of them.
    Refused,
}

#[derive(Debug)]
struct Holder {
    party: Party,
    /// Since when its client has been silent; `None` while the request works.
    silent_since: Option<Instant>,
    /// It has been told to leave.
    revoked: bool,
}

/// The places, their holders, and who waits for one.
#[derive(Debug)]
pub struct Shares {
    places: usize,
    /// The last of the places, which parties that hold none may take.
    reserved: usize,
    most_waiting: usize,
    holders: BTreeMap<Ticket, Holder>,
    /// In the order of their coming.
    waiters: BTreeMap<Ticket, Party>,
    next: Ticket,
}

impl Shares {
    /// So many places, the last of them `reserved` for parties that hold none, for which so many may wait.
    pub fn new(places: usize, reserved: usize, most_waiting: usize) -> Self {
        let places = places.max(1);
        let (holders, waiters) = (BTreeMap::new(), BTreeMap::new());
        Shares { places, reserved: reserved.min(places - 1), most_waiting, holders, waiters, next: 0 }
    }

    /// A request asks for a place.
    pub fn ask(&mut self, party: Party) -> Verdict {
        let ticket = self.next;
        self.next += 1;
        // Those that wait already may not enter: a place that one of them may take is given at once.
        if self.may_enter(count(&self.held(), &party)) {
            self.hold(ticket, party);
            return Verdict::Holds(ticket);
        }
        let mut displaced = None;
        if self.waiters.len() >= self.most_waiting {
            let Some(other) = self.heaviest_waiter(&party) else { return Verdict::Refused };
            self.waiters.remove(&other);
            displaced = Some(other);
        }
        self.waiters.insert(ticket, party);
        Verdict::Waits(ticket, displaced)
    }

    /// Gives free places to those that wait: first to the party that holds the fewest, then to who came first.
    pub fn admit(&mut self) -> Vec<Ticket> {
        let mut admitted = Vec::new();
        if self.waiters.is_empty() || self.holders.len() >= self.places {
            return admitted;
        }
        let mut held = self.held();
        loop {
            let next = self.waiters.iter().map(|(ticket, party)| (count(&held, party), *ticket)).min();
            let Some((_, ticket)) = next.filter(|(held, _)| self.may_enter(*held)) else { break };
            let Some(party) = self.waiters.remove(&ticket) else { break };
            *held.entry(party.clone()).or_default() += 1;
            self.hold(ticket, party);
            admitted.push(ticket);
        }
        admitted
    }

    /// A request is over, or waits no longer.
    pub fn leave(&mut self, ticket: Ticket) {
        self.holders.remove(&ticket);
        self.waiters.remove(&ticket);
    }

    /// A holder waits for its client from `since` on, or works.
    pub fn silent(&mut self, ticket: Ticket, since: Option<Instant>) {
        if let Some(holder) = self.holders.get_mut(&ticket) {
            holder.silent_since = since;
        }
    }

    /// The holders that have to leave now for those that wait: at most one for each.
    pub fn revoke(&mut self, now: Instant) -> Vec<Ticket> {
        let mut revoked = Vec::new();
        let leaving = self.holders.values().filter(|holder| holder.revoked).count();
        let mut wanted = self.waiters.len().saturating_sub(leaving);
        if wanted == 0 {
            return revoked;
        }
        let mut held = self.held();
        let mut waiting: Vec<(usize, Ticket)> =
            self.waiters.iter().map(|(ticket, party)| (count(&held, party), *ticket)).collect();
        waiting.sort_unstable();
        for (mine, _) in waiting {
            let Some(ticket) = (wanted > 0).then(|| self.victim(&held, mine, now)).flatten() else { break };
            if let Some(holder) = self.holders.get_mut(&ticket) {
                holder.revoked = true;
                held.entry(holder.party.clone()).and_modify(|count| *count -= 1);
            }
            wanted -= 1;
            revoked.push(ticket);
        }
        revoked
    }

    /// Whether no request holds a place.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Whether there is a place for a party that holds so many.
    fn may_enter(&self, held: usize) -> bool {
        let reserved = if held == 0 { 0 } else { self.reserved };
        self.holders.len() + reserved < self.places
    }

    /// The holder that leaves for a request of a party that holds `mine`: of the heaviest party, silent the longest.
    fn victim(&self, held: &HashMap<Party, usize>, mine: usize, now: Instant) -> Option<Ticket> {
        let candidates = self.holders.iter().filter_map(|(ticket, holder)| {
            let silence = now.duration_since(holder.silent_since.filter(|_| !holder.revoked)?);
            let weight = count(held, &holder.party);
            let heavier = weight > mine + 1 && silence >= HEAVY_SILENCE;
            (heavier || silence >= ANY_SILENCE).then_some((weight, silence, *ticket))
        });
        candidates.max().map(|(_, _, ticket)| ticket)
    }

    /// The newest request that waits of the heaviest party, if that is heavier than another one's by more than one.
    fn heaviest_waiter(&self, party: &Party) -> Option<Ticket> {
        let mut all = self.held();
        for party in self.waiters.values() {
            *all.entry(party.clone()).or_default() += 1;
        }
        let mine = count(&all, party);
        let weights = self.waiters.iter().map(|(ticket, party)| (count(&all, party), *ticket));
        weights.filter(|(weight, _)| *weight > mine + 1).max().map(|(_, ticket)| ticket)
    }

    fn hold(&mut self, ticket: Ticket, party: Party) {
        self.holders.insert(ticket, Holder { party, silent_since: None, revoked: false });
    }

    /// How many places each party holds, those that it is about to leave not counted.
    fn held(&self) -> HashMap<Party, usize> {
        let mut held = HashMap::new();
        for holder in self.holders.values().filter(|holder| !holder.revoked) {
            *held.entry(holder.party.clone()).or_default() += 1;
        }
        held
    }
}

fn count(held: &HashMap<Party, usize>, party: &Party) -> usize {
    held.get(party).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn party(name: &str) -> Party {
        Party::Token(name.into())
    }

    /// A full house of one party, all of whose clients are silent since `since`.
    fn full(places: usize, since: Option<Instant>) -> Shares {
        let mut shares = Shares::new(places, 0, 4);
        for _ in 0..places {
            let Verdict::Holds(ticket) = shares.ask(party("bob")) else { panic!() };
            shares.silent(ticket, since);
        }
        shares
    }

    #[test]
    fn one_that_holds_few_displaces_the_silent_of_one_that_holds_many() {
        let start = Instant::now();
        let mut shares = full(3, Some(start));
        let Verdict::Waits(ann, None) = shares.ask(party("ann")) else { panic!() };
        assert_eq!(shares.revoke(start), Vec::<Ticket>::new(), "no client has been silent for long");
        let revoked = shares.revoke(start + HEAVY_SILENCE);
        assert_eq!(revoked.len(), 1);
        assert_eq!(shares.revoke(start + HEAVY_SILENCE), Vec::<Ticket>::new(), "one leaves for one");
        assert_eq!(shares.admit(), Vec::<Ticket>::new());
        shares.leave(revoked[0]);
        assert_eq!(shares.admit(), [ann]);
    }

    #[test]
    fn who_works_is_left_alone() {
        let start = Instant::now();
        let mut shares = full(3, None);
        shares.ask(party("ann"));
        assert_eq!(shares.revoke(start + ANY_SILENCE * 10), Vec::<Ticket>::new());
    }

    #[test]
    fn the_last_places_are_for_parties_that_hold_none() {
        let mut shares = Shares::new(4, 1, 10);
        let held: Vec<Ticket> = (0..3)
            .map(|_| match shares.ask(party("bob")) {
                Verdict::Holds(ticket) => ticket,
                other => panic!("{other:?}"),
            })
            .collect();
        let Verdict::Waits(bob, None) = shares.ask(party("bob")) else { panic!() };
        // All of them work, and one that comes late does too.
        let Verdict::Holds(ann) = shares.ask(party("ann")) else { panic!() };
        assert!(matches!(shares.ask(party("ann")), Verdict::Waits(..)));
        shares.leave(ann);
        assert_ne!(shares.admit(), [bob], "the other one of ann's");
        shares.leave(held[0]);
        assert_eq!(shares.admit(), Vec::<Ticket>::new(), "the last one stays free");
        shares.leave(held[1]);
        assert_eq!(shares.admit(), [bob]);
    }

    #[test]
    fn ones_own_silent_requests_give_way_after_a_long_time() {
        let start = Instant::now();
        let mut shares = full(3, Some(start));
        shares.ask(party("bob"));
        assert_eq!(shares.revoke(start + HEAVY_SILENCE * 2), Vec::<Ticket>::new());
        assert_eq!(shares.revoke(start + ANY_SILENCE).len(), 1);
    }

    #[test]
    fn the_party_that_holds_the_fewest_is_next() {
        let mut shares = Shares::new(2, 0, 10);
        let Verdict::Holds(one) = shares.ask(party("bob")) else { panic!() };
        shares.ask(party("bob"));
        let mut wait = |name| match shares.ask(party(name)) {
            Verdict::Waits(ticket, None) => ticket,
            other => panic!("{other:?}"),
        };
        let (bob, ann) = (wait("bob"), wait("ann"));
        shares.leave(one);
        assert_eq!(shares.admit(), [ann]);
        shares.leave(ann);
        assert_eq!(shares.admit(), [bob]);
    }

    #[test]
    fn a_full_queue_refuses_the_heaviest_first() {
        let mut shares = full(2, None);
        let waiting: Vec<Verdict> = (0..4).map(|_| shares.ask(party("bob"))).collect();
        let Verdict::Waits(newest, None) = waiting[3] else { panic!() };
        assert_eq!(shares.ask(party("bob")), Verdict::Refused);
        assert!(matches!(shares.ask(party("ann")), Verdict::Waits(_, Some(displaced)) if displaced == newest));
    }

    #[test]
    fn subscribers_of_ipv6_have_a_network() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        /// However parties come and go, places are never exceeded, and no place stays empty while a request waits.
        #[test]
        fn places_are_kept(
            steps in proptest::collection::vec((0..4u8, 0..3u8, 0..20usize), 0..200),
            reserved in 0..3usize,
        ) {
            let start = Instant::now();
            let mut shares = Shares::new(5, reserved, 6);
            let mut live: Vec<Ticket> = Vec::new();
            for (time, (what, who, which)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(time as u64);
                match what {
                    0 | 1 => match shares.ask(party(["a", "b", "c"][who as usize])) {
                        Verdict::Holds(ticket) => live.push(ticket),
                        Verdict::Waits(ticket, displaced) => {
                            live.push(ticket);
                            live.retain(|ticket| Some(*ticket) != displaced);
                        }
                        Verdict::Refused => prop_assert_eq!(shares.waiters.len(), 6),
                    },
                    2 if !live.is_empty() => shares.leave(live.remove(which % live.len())),
                    _ if !live.is_empty() => {
                        shares.silent(live[which % live.len()], Some(now));
                        let before = shares.held();
                        for ticket in shares.revoke(now) {
                            let victim = &shares.holders[&ticket];
                            prop_assert!(victim.silent_since.is_some());
                            prop_assert!(count(&before, &victim.party) > 0);
                        }
                    }
                    _ => {}
                }
                shares.admit();
                prop_assert!(shares.holders.len() <= 5 && shares.waiters.len() <= 6);
                let held = shares.held();
                prop_assert!(!shares.waiters.values().any(|party| shares.may_enter(count(&held, party))));
                prop_assert!(shares.waiters.is_empty() || shares.holders.len() >= 5 - reserved);
                prop_assert_eq!(shares.holders.len() + shares.waiters.len(), live.len());
            }
        }
    }
}
