//! Budgets of memory for what the work of all requests of this process takes in proportion to what they claim.
//!
//! One is for what pushes bring: large objects, tables of objects, lists of commands. One is for objects that are read
//! from held packs, to serve them above all: a client that fetches may be slow to take them, so it must not hold what
//! pushes wait for.
//!
//! Amounts below [`FREE_BYTES`] are not counted; how many of them there are is limited elsewhere. Objects that find no
//! room go to temporary files, so only tables wait; they wait in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the budget, unless the process says otherwise.
pub const DEFAULT_BUDGET_BYTES: u64 = 512 << 20;
/// Bytes of the budget for reads, unless the process says otherwise.
pub const DEFAULT_READ_BUDGET_BYTES: u64 = 256 << 20;
/// The least that a budget may have.
pub const MIN_BUDGET_BYTES: u64 = 16 << 20;
/// Smaller amounts are not counted.
pub const FREE_BYTES: u64 = 1 << 20;
/// How long a reservation waits for others to end.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

static PUSHES: Budget = Budget::new(DEFAULT_BUDGET_BYTES);
static READS: Budget = Budget::new(DEFAULT_READ_BUDGET_BYTES);

/// The process's budget for objects that are read from held packs. Nothing waits for it.
pub fn reads() -> &'static Budget {
    &READS
}

/// The process's budget for what pushes bring.
pub fn budget() -> &'static Budget {
    &PUSHES
}

/// Bytes that are shared.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    total: u64,
    held: u64,
    /// The most that was held at a time.
    peak: u64,
    /// Numbers of those who wait, in their order.
    waiting: VecDeque<u64>,
    next: u64,
    longest_wait: Duration,
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

/// Others hold the memory, and did not give it back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has no memory left for {bytes} bytes of it now; try again later")]
pub struct Busy {
    /// Bytes that were wanted.
    pub bytes: u64,
}

impl Budget {
    /// A budget of so many bytes.
    pub const fn new(total: u64) -> Self {
        Budget {
            state: Mutex::new(State {
                total,
                held: 0,
                peak: 0,
                waiting: VecDeque::new(),
                next: 0,
                longest_wait: LONGEST_WAIT,
            }),
            changed: Condvar::new(),
        }
    }

    /// Changes the size. Less than what is held now lets nothing in until that is given back.
    pub fn set_total(&self, bytes: u64) {
        self.lock().total = bytes.max(MIN_BUDGET_BYTES);
        self.changed.notify_all();
    }

    /// Changes how long a reservation waits, from [`LONGEST_WAIT`], for those that begin to wait after this.
    pub fn set_longest_wait(&self, longest: Duration) {
        self.lock().longest_wait = longest;
    }

    /// Takes bytes if they are there and none wait for them. Amounts that are not counted are always there.
    pub fn try_take(&self, bytes: u64) -> Option<Reservation<'_>> {
        let mut reservation = Reservation { budget: self, bytes: 0 };
        reservation.try_grow(bytes).then_some(reservation)
    }

    /// Takes bytes, when it is its turn and others have given back enough; no more than the whole budget, which means
    /// that nothing else is held. Blocking, not longer than [`LONGEST_WAIT`] unless that was changed.
    pub fn take(&self, bytes: u64) -> Result<Reservation<'_>, Busy> {
        let longest = self.lock().longest_wait;
        self.take_within(bytes, longest)
    }

    fn take_within(&self, bytes: u64, longest: Duration) -> Result<Reservation<'_>, Busy> {
        if bytes < FREE_BYTES {
            return Ok(Reservation { budget: self, bytes: 0 });
        }
        let start = Instant::now();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(number);
        loop {
            let bytes = bytes.min(state.total);
            if state.waiting.front() == Some(&number) && state.has_room(bytes) {
                state.waiting.pop_front();
                state.hold(bytes);
                drop(state);
                self.changed.notify_all();
                return Ok(Reservation { budget: self, bytes });
            }
            let Some(left) = longest.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                state.waiting.retain(|waiting| *waiting != number);
                drop(state);
                self.changed.notify_all();
                return Err(Busy { bytes });
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> u64 {
        self.lock().held
    }

    /// The most bytes that were held at a time.
    pub fn peak(&self) -> u64 {
        self.lock().peak
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a [`Budget`], given back when this is dropped.
#[derive(Debug)]
pub struct Reservation<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl Reservation<'_> {
    /// Takes more bytes if they are there and none wait for them; says whether that worked.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        if bytes < FREE_BYTES {
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
            debug_assert!(state.held >= self.bytes, "more is given back than was taken");
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
        assert!(!two.try_grow(5 * MIB) && two.try_grow(4 * MIB) && two.try_grow(FREE_BYTES - 1));
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
