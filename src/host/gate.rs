//! How many Git requests are in progress at a time, and how many of them compute.
//!
//! The two are bounded apart. A request that waits for a slow client costs a thread and a few buffers: there
//! may be hundreds. One that computes costs a processor and the memory of a pack check or an enumeration: more
//! than the processors can do only makes all of them slower and larger. So a request that computes holds a [`Work`],
//! and gives it back for as long as it waits for its client: slow clients cannot starve others, however many.
//!
//! Both are shared between parties: [`super::shares`] decides, this carries it out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::client::Client;
use super::listen::Busyness;
use super::shares::{Party, Shares, Ticket, Verdict};
use gitferry_config::HostLimits;

/// Requests that compute at a time, for each processor: some wait for a disk or the table.
const WORK_PER_PROCESSOR: usize = 2;
/// At least so many compute at a time.
const MIN_WORK: usize = 4;
/// One of so many places is reserved for parties that hold none; computing has reserved places beside the others.
const RESERVED_PART: usize = 8;
/// How often a request that waits looks whether another one has to leave for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Lets requests in.
#[derive(Debug)]
pub struct Gate {
    slots: Arc<Places>,
    longest_wait: Duration,
    work: Arc<Places>,
}

/// Too many requests are in progress and wait already.
#[derive(Debug)]
pub struct Busy;

impl Gate {
    /// A gate for the limits of a host.
    pub fn new(limits: &HostLimits) -> Self {
        Gate::for_places(limits.requests, limits.longest_wait, limits)
    }

    /// A gate for another number of requests at a time, and another time to wait.
    pub fn for_places(places: usize, longest_wait: Duration, limits: &HostLimits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let work = (processors * WORK_PER_PROCESSOR).max(MIN_WORK);
        let reserved = work.div_ceil(RESERVED_PART);
        Gate {
            slots: Places::new(Shares::new(places, places / RESERVED_PART, limits.waiting)),
            longest_wait,
            work: Places::new(Shares::new(work + reserved, reserved, usize::MAX)),
        }
    }

    /// Waits for the turn of the client whose request this task answers, not for ever.
    pub async fn enter(&self) -> Result<Slot, Busy> {
        let client = Client::current();
        let party = client.party();
        let place = self.slots.take(party.clone(), Some(self.longest_wait)).await?;
        client.revocable(place.revocation());
        let busy = client.door.as_ref().map(|door| door.busy());
        Ok(Slot { place: Arc::new(place), party, work: self.work.clone(), _busy: busy })
    }

    /// Waits until no request is in progress.
    pub async fn until_empty(&self) {
        loop {
            let emptied = self.slots.emptied.notified();
            if self.slots.state().shares.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

/// A number of places.
#[derive(Debug)]
struct Places {
    state: Mutex<State>,
    emptied: Notify,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    seats: HashMap<Ticket, watch::Sender<Seat>>,
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Waits,
    Holds,
    /// It has waited in vain.
    Refused,
    /// It has to leave for others.
    Revoked,
}

impl Places {
    fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Places { state: Mutex::new(State { shares, seats: HashMap::new() }), emptied: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(self: &Arc<Self>, party: Party, longest_wait: Option<Duration>) -> Result<Place, Busy> {
        let mut place = self.ask(party)?;
        let deadline = longest_wait.map(|wait| Instant::now() + wait);
        loop {
            let seat = *place.seat.borrow_and_update();
            match seat {
                Seat::Waits => {}
                Seat::Refused => return Err(Busy),
                Seat::Holds | Seat::Revoked => return Ok(place),
            }
            self.state().revoke();
            let look = Instant::now() + LOOK_EVERY;
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            if tokio::time::timeout_at(until, place.seat.changed()).await.is_err()
                && deadline.is_some_and(|deadline| deadline <= Instant::now())
            {
                return Err(Busy);
            }
        }
    }

    fn ask(self: &Arc<Self>, party: Party) -> Result<Place, Busy> {
        let mut state = self.state();
        let (ticket, seat) = match state.shares.ask(party) {
            Verdict::Refused => return Err(Busy),
            Verdict::Holds(ticket) => (ticket, Seat::Holds),
            Verdict::Waits(ticket, displaced) => {
                displaced.into_iter().for_each(|displaced| state.tell(displaced, Seat::Refused));
                (ticket, Seat::Waits)
            }
        };
        let (sender, seat) = watch::channel(seat);
        state.seats.insert(ticket, sender);
        Ok(Place { places: self.clone(), ticket, seat })
    }
}

impl State {
    fn tell(&mut self, ticket: Ticket, seat: Seat) {
        if let Some(sender) = self.seats.get(&ticket) {
            sender.send_replace(seat);
        }
    }

    fn revoke(&mut self) {
        for ticket in self.shares.revoke(Instant::now()) {
            self.tell(ticket, Seat::Revoked);
        }
    }
}

/// A place, held or waited for. Dropping it lets another request in.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    ticket: Ticket,
    seat: watch::Receiver<Seat>,
}

impl Place {
    fn revocation(&self) -> Revocation {
        Revocation(self.seat.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let empty = {
            let mut state = self.places.state();
            state.shares.leave(self.ticket);
            state.seats.remove(&self.ticket);
            for admitted in state.shares.admit() {
                state.tell(admitted, Seat::Holds);
            }
            state.shares.is_empty()
        };
        if empty {
            self.places.emptied.notify_waiters();
        }
    }
}

/// Ends a request in favour of others.
#[derive(Clone, Debug)]
pub struct Revocation(watch::Receiver<Seat>);

impl Revocation {
    /// Whether the request has to end.
    pub fn is_revoked(&self) -> bool {
        *self.0.borrow() == Seat::Revoked
    }

    /// Waits until the request has to end; for ever where it need not.
    pub async fn revoked(mut self) {
        if self.0.wait_for(|seat| *seat == Seat::Revoked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A request in progress. Dropping it lets another one in.
#[derive(Clone, Debug)]
pub struct Slot {
    place: Arc<Place>,
    party: Party,
    work: Arc<Places>,
    _busy: Option<Arc<Busyness>>,
}

impl Slot {
    /// Starts to compute, when there is room. Blocking.
    pub fn work(&self, runtime: &Handle) -> Arc<Work> {
        let work = Work { slot: self.clone(), runtime: runtime.clone(), held: Mutex::new(None) };
        work.resume();
        Arc::new(work)
    }

    /// Ends the request in favour of others.
    pub fn revocation(&self) -> Revocation {
        self.place.revocation()
    }

    /// The client's turn, until what is returned is dropped.
    pub fn clients_turn(&self) -> ClientsTurn {
        self.turns().begin()
    }

    /// Tells whose turn it is without holding the place.
    pub fn turns(&self) -> Turns {
        Turns { places: self.place.places.clone(), ticket: self.place.ticket }
    }
}

/// Tells whose turn it is in a request.
#[derive(Clone, Debug)]
pub struct Turns {
    places: Arc<Places>,
    ticket: Ticket,
}

impl Turns {
    /// The client's turn, until what is returned is dropped.
    pub fn begin(&self) -> ClientsTurn {
        self.silent(Some(Instant::now()));
        ClientsTurn(self.clone())
    }

    fn silent(&self, since: Option<Instant>) {
        self.places.state().shares.silent(self.ticket, since);
    }
}

/// The time in which a request waits for its client.
#[derive(Debug)]
pub struct ClientsTurn(Turns);

impl Drop for ClientsTurn {
    fn drop(&mut self) {
        self.0.silent(None);
    }
}

/// The right to compute, of one thread.
#[derive(Debug)]
pub struct Work {
    slot: Slot,
    runtime: Handle,
    held: Mutex<Option<Place>>,
}

impl Work {
    /// Lets others compute while this thread waits for its client.
    pub fn pause<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.hold(None);
        let waited = {
            let _turn = self.slot.clients_turn();
            wait()
        };
        self.resume();
        waited
    }

    /// Ends the request in favour of others.
    pub fn revocation(&self) -> Revocation {
        self.slot.revocation()
    }

    /// [`Work::pause`] within a runtime.
    pub async fn pause_async<T>(&self, wait: impl Future<Output = T>) -> T {
        self.hold(None);
        let waited = wait.await;
        self.hold(self.slot.work.take(self.slot.party.clone(), None).await.ok());
        waited
    }

    fn resume(&self) {
        let place = self.runtime.block_on(self.slot.work.take(self.slot.party.clone(), None));
        self.hold(place.ok());
    }

    fn hold(&self, place: Option<Place>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::HEAVY_SILENCE;

    fn gate(requests: usize, waiting: usize) -> Gate {
        Gate::new(&HostLimits { requests, waiting, longest_wait: Duration::from_secs(5), ..HostLimits::default() })
    }

    /// A client with a token.
    fn client(token: &str) -> Arc<Client> {
        let client = Client::new(String::new(), crate::proxies::Seen::default(), None);
        client.recognised(token);
        client
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

    #[tokio::test(start_paused = true)]
    async fn silent_requests_of_one_party_leave_for_another() {
        let gate = gate(3, 5);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(client("bob").scope(gate.enter()).await.unwrap());
        }
        let turns: Vec<_> = held.iter().map(Slot::clients_turn).collect();
        let ann = client("ann");
        let entering = ann.scope(gate.enter());
        let leaving = async {
            futures::future::select_all(held.iter().map(|slot| Box::pin(slot.revocation().revoked()))).await;
            drop((turns, held));
        };
        let (entered, ()) = tokio::join!(entering, leaving);
        assert!(entered.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_party_that_works_keeps_its_places() {
        let gate = gate(2, 5);
        let bob = client("bob");
        let held = [bob.clone().scope(gate.enter()).await.unwrap(), bob.scope(gate.enter()).await.unwrap()];
        assert!(client("ann").scope(gate.enter()).await.is_err());
        tokio::time::sleep(HEAVY_SILENCE).await;
        assert!(held.iter().all(|slot| !slot.revocation().is_revoked()));
    }

    #[test]
    fn who_waits_for_a_client_lets_others_compute() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let gate = gate(1000, 0);
        let slot = || runtime.block_on(gate.enter()).unwrap();
        let first = slot().work(runtime.handle());
        let mut works = vec![first];
        // As many more as there is room for.
        while let Ok(place) = gate.work.ask(Party::Other) {
            if *place.seat.borrow() == Seat::Waits {
                break;
            }
            drop(place);
            works.push(slot().work(runtime.handle()));
        }
        // One party leaves the last place to another.
        let ann = client("ann");
        let late = runtime.block_on(ann.scope(gate.enter())).unwrap();
        drop(late.work(runtime.handle()));
        let other = slot();
        // Would never end if the first still held its right.
        works[0].pause(|| drop(other.work(runtime.handle())));
        drop(works);
        assert!(gate.work.state().shares.is_empty());
    }
}
