//! Process-wide memory budgets for allocations whose size a request determines.
//!
//! One budget covers pushes: large objects, tables of objects, lists of commands. The other covers objects read from
//! held packs, mostly to serve fetches: a slow client must not hold memory that pushes wait for.
//!
//! Amounts below [`UNMETERED_BYTES`] are not counted; other limits bound their number. Objects that do not fit into
//! the budget spill to temporary files, so only tables wait for memory, in FIFO order.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Default size of the budget in bytes; [`Budget::set_total`] changes it.
pub const DEFAULT_BUDGET_BYTES: u64 = 512 << 20;
/// Default size of the budget for reads in bytes; [`Budget::set_total`] changes it.
pub const DEFAULT_READ_BUDGET_BYTES: u64 = 256 << 20;
/// Minimum size of a budget in bytes.
pub const MIN_BUDGET_BYTES: u64 = 16 << 20;
/// Reservations of fewer bytes are not counted and always succeed.
pub const UNMETERED_BYTES: u64 = 1 << 20;
/// Longest wait for a reservation, after which it fails with [`Busy`].
pub const MAX_WAIT: Duration = Duration::from_secs(60);

static PUSHES: Budget = Budget::new(DEFAULT_BUDGET_BYTES);
static READS: Budget = Budget::new(DEFAULT_READ_BUDGET_BYTES);

/// Returns the budget of the process for objects read from held packs. Readers spill to files instead of waiting.
pub fn reads() -> &'static Budget {
    &READS
}

/// Returns the budget of the process for pushes.
pub fn budget() -> &'static Budget {
    &PUSHES
}

/// Memory budget, shared by all threads.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    total: u64,
    held: u64,
    /// Highest value of `held` so far.
    peak: u64,
    /// Tickets of waiting reservations, FIFO.
    waiting: VecDeque<u64>,
    next_ticket: u64,
    max_wait: Duration,
}

impl State {
    fn has_room(&self, bytes: u64) -> bool {
        self.held.saturating_add(bytes) <= self.total
    }

    fn hold(&mut self, bytes: u64) {
        self.held = self.held.saturating_add(bytes);
        self.peak = self.peak.max(self.held);
    }
}

/// The memory budget was exhausted for longer than [`MAX_WAIT`]. Safe to retry later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has no memory left for {bytes} bytes at the moment; try again later")]
pub struct Busy {
    /// Requested bytes.
    pub bytes: u64,
}

impl Budget {
    /// Creates a budget of `total` bytes.
    pub const fn new(total: u64) -> Self {
        Budget {
            state: Mutex::new(State {
                total,
                held: 0,
                peak: 0,
                waiting: VecDeque::new(),
                next_ticket: 0,
                max_wait: MAX_WAIT,
            }),
            changed: Condvar::new(),
        }
    }

    /// Changes the size, to [`MIN_BUDGET_BYTES`] at least. A budget smaller than the bytes reserved now admits nothing
    /// until enough of them are released.
    pub fn set_total(&self, bytes: u64) {
        self.lock().total = bytes.max(MIN_BUDGET_BYTES);
        self.changed.notify_all();
    }

    /// Changes the longest wait of reservations, [`MAX_WAIT`] by default. Affects only those that start to wait later.
    pub fn set_max_wait(&self, max_wait: Duration) {
        self.lock().max_wait = max_wait;
    }

    /// Reserves bytes without waiting; `None` if they are not available or other reservations wait.
    pub fn try_take(&self, bytes: u64) -> Option<Reservation<'_>> {
        let mut reservation = Reservation { budget: self, bytes: 0 };
        reservation.try_grow(bytes).then_some(reservation)
    }

    /// Reserves bytes, blocking in FIFO order for at most [`MAX_WAIT`] or the limit set by [`Budget::set_max_wait`]. A
    /// request larger than the whole budget reserves all of it.
    pub fn take(&self, bytes: u64) -> Result<Reservation<'_>, Busy> {
        let max_wait = self.lock().max_wait;
        self.take_within(bytes, max_wait)
    }

    fn take_within(&self, bytes: u64, longest: Duration) -> Result<Reservation<'_>, Busy> {
        if bytes < UNMETERED_BYTES {
            return Ok(Reservation { budget: self, bytes: 0 });
        }
        let start = Instant::now();
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        loop {
            let bytes = bytes.min(state.total);
            if state.waiting.front() == Some(&ticket) && state.has_room(bytes) {
                state.waiting.pop_front();
                state.hold(bytes);
                drop(state);
                self.changed.notify_all();
                return Ok(Reservation { budget: self, bytes });
            }
            let Some(left) = longest.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                state.waiting.retain(|waiting| *waiting != ticket);
                drop(state);
                self.changed.notify_all();
                return Err(Busy { bytes });
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Number of bytes reserved now.
    pub fn held(&self) -> u64 {
        self.lock().held
    }

    /// Highest number of bytes reserved at a time.
    pub fn peak(&self) -> u64 {
        self.lock().peak
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes reserved from a [`Budget`], released on drop.
#[derive(Debug)]
pub struct Reservation<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl Reservation<'_> {
    /// Extends the reservation without waiting. Returns false if the bytes are not available, or other reservations
    /// wait.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        if bytes < UNMETERED_BYTES {
            return true;
        }
        let mut state = self.budget.lock();
        let room = state.waiting.is_empty() && state.has_room(bytes);
        if room {
            state.hold(bytes);
            self.bytes += bytes;
        }
        room
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut state = self.budget.lock();
            debug_assert!(state.held >= self.bytes, "a reservation releases no more than it took");
            state.held = state.held.saturating_sub(self.bytes);
            drop(state);
            self.budget.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_held_never_exceeds_the_budget_and_is_given_back() {
        let budget = Budget::new(64 * MIB);
        let one = budget.take(40 * MIB).unwrap();
        assert!(budget.try_take(25 * MIB).is_none());
        let mut two = budget.try_take(20 * MIB).unwrap();
        assert!(!two.try_grow(5 * MIB) && two.try_grow(4 * MIB) && two.try_grow(UNMETERED_BYTES - 1));
        assert_eq!(budget.held(), 64 * MIB);
        assert_eq!(budget.take_within(MIB, Duration::ZERO).unwrap_err(), Busy { bytes: MIB });
        drop((one, two));
        assert_eq!((budget.held(), budget.peak()), (0, 64 * MIB));
    }

    #[test]
    fn more_than_the_budget_waits_for_all_of_it() {
        let budget = Budget::new(64 * MIB);
        let small = budget.take(MIB).unwrap();
        assert!(budget.take_within(1 << 40, Duration::ZERO).is_err());
        drop(small);
        let all = budget.take(1 << 40).unwrap();
        assert_eq!(budget.held(), 64 * MIB);
        drop(all);
    }

    #[test]
    fn those_who_wait_go_in_their_order_and_all_go() {
        let budget = Arc::new(Budget::new(64 * MIB));
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = budget.take(64 * MIB).unwrap();
        let threads: Vec<_> = (0..8u64)
            .map(|number| {
                let (budget, order) = (budget.clone(), order.clone());
                let waits = budget.clone();
                let thread = std::thread::spawn(move || {
                    // Large and small ones: no small one passes a large one.
                    let held = budget.take(if number % 2 == 0 { 64 * MIB } else { MIB }).unwrap();
                    order.lock().unwrap().push(number);
                    assert!(budget.held() <= 64 * MIB);
                    drop(held);
                });
                while waits.lock().waiting.len() <= number as usize {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        assert!(budget.try_take(MIB).is_none(), "others wait");
        drop(first);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let order = order.lock().unwrap();
        // Those that run at the same time may note it in either order.
        assert!(order.iter().enumerate().all(|(at, number)| at.abs_diff(*number as usize) <= 1), "{order:?}");
        assert_eq!(budget.held(), 0);
    }
}
