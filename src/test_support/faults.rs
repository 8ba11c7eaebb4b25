//! What the decorators of both stores share: names of operations, scripted faults, a meter.
//!
//! One [`Faults`] may drive a table and an object store at once, so that a simulated crash stops both.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most scripted faults that may wait at a time.
pub const MAX_SCRIPTED_FAULTS: usize = 1_024;

/// One operation of a table or of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Operation {
    TableGet,
    TableQuery,
    TableTransact,
    ObjectPut,
    ObjectPutFile,
    ObjectGet,
    ObjectHead,
    ObjectList,
    ObjectDelete,
    ObjectBegin,
    ObjectPutPart,
    ObjectParts,
    ObjectComplete,
    ObjectAbort,
    ObjectCopyFrom,
}

impl Operation {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Operation; 15] = [
        Operation::TableGet,
        Operation::TableQuery,
        Operation::TableTransact,
        Operation::ObjectPut,
        Operation::ObjectPutFile,
        Operation::ObjectGet,
        Operation::ObjectHead,
        Operation::ObjectList,
        Operation::ObjectDelete,
        Operation::ObjectBegin,
        Operation::ObjectPutPart,
        Operation::ObjectParts,
        Operation::ObjectComplete,
        Operation::ObjectAbort,
        Operation::ObjectCopyFrom,
    ];

    /// Whether it may change something, so that a lost answer is ambiguous.
    pub fn is_write(self) -> bool {
        !matches!(
            self,
            Operation::TableGet
                | Operation::TableQuery
                | Operation::ObjectGet
                | Operation::ObjectHead
                | Operation::ObjectList
                | Operation::ObjectParts
        )
    }
}

/// When a call fails: before it reached the store, or after it took effect (its answer is lost).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The store never saw it.
    Before,
    /// The store did it; only the answer is lost.
    After,
}

/// As what a call fails that the store never saw, or whose answer carries nothing but what was read. A write that took
/// effect has only one way to fail: its outcome stays unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// The connection broke: a write may have happened, for all that the caller knows.
    #[default]
    Unclear,
    /// The store said clearly that it is too busy: a write has not happened.
    Busy,
    /// The store refuses, as when credentials or permissions were taken away.
    Denied,
    /// The store says that what it holds is damaged.
    Damaged,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 4] = [Failure::Unclear, Failure::Busy, Failure::Denied, Failure::Damaged];
}

/// Decides which calls fail. Scripted, or random from a seed; the same script and the same order of
/// calls always give the same faults.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<FaultState>,
}

#[derive(Debug, Default)]
struct FaultState {
    calls: u64,
    scripted: VecDeque<Scripted>,
    crash: Option<(u64, When)>,
    crashed: bool,
    random: Option<Random>,
    failure: Failure,
    doubt: Option<Operation>,
    injected: u64,
}

#[derive(Debug)]
struct Scripted {
    operation: Operation,
    remaining: u64,
    when: When,
}

#[derive(Debug)]
struct Random {
    state: u64,
    one_in: u64,
}

impl Random {
    /// SplitMix64: tiny, and the same everywhere.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Faults {
    /// No faults yet.
    pub fn none() -> Self {
        Faults::default()
    }

    /// One call in `one_in` fails, half of them before and half after they took effect.
    pub fn random(seed: u64, one_in: u64) -> Self {
        let faults = Faults::none();
        faults.lock().random = Some(Random { state: seed, one_in: one_in.max(1) });
        faults
    }

    /// Makes the `nth` call of `operation` from now (counted from 1) fail, once. Beyond
    /// [`MAX_SCRIPTED_FAULTS`] the oldest one is forgotten.
    pub fn fail_nth(&self, operation: Operation, nth: u64, when: When) {
        let mut state = self.lock();
        if state.scripted.len() >= MAX_SCRIPTED_FAULTS {
            state.scripted.pop_front();
        }
        state.scripted.push_back(Scripted { operation, remaining: nth.max(1), when });
    }

    /// Loses the answer of the `nth` transaction of a table from now (counted from 1), which happens, and has the next
    /// `read` behind it fail as `failure`: the read that was to find out.
    pub fn doubt(&self, nth: u64, read: Operation, failure: Failure) {
        self.fail_as(failure);
        self.fail_nth(Operation::TableTransact, nth, When::After);
        self.lock().doubt = Some(read);
    }

    /// As what calls fail from now on.
    pub fn fail_as(&self, failure: Failure) {
        self.lock().failure = failure;
    }

    /// As what calls fail now.
    pub(crate) fn failure(&self) -> Failure {
        self.lock().failure
    }

    /// Simulates a crash at the `nth` call of any operation from now (counted from 1): it fails, before
    /// or after it took effect, and every later call fails before reaching the store.
    pub fn crash_at(&self, nth: u64, when: When) {
        self.lock().crash = Some((nth.max(1), when));
    }

    /// The process is back: no crash is planned or under way; what was scripted beside it stays.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.crashed = false;
        state.crash = None;
    }

    /// Whether the simulated crash has happened.
    pub fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// How many calls were made so far, failed ones included.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many calls were made to fail so far.
    pub fn injected(&self) -> u64 {
        self.lock().injected
    }

    /// Counts a call and decides when it fails; `None` if it does not.
    pub fn next(&self, operation: Operation) -> Option<When> {
        let mut state = self.lock();
        state.calls += 1;
        let fault = state.decide(operation);
        state.injected += u64::from(fault.is_some());
        fault
    }

    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultState {
    fn decide(&mut self, operation: Operation) -> Option<When> {
        if self.crashed {
            return Some(When::Before);
        }
        if let Some((remaining, when)) = &mut self.crash {
            *remaining -= 1;
            if *remaining == 0 {
                let when = *when;
                self.crashed = true;
                return Some(when);
            }
        }
        for scripted in self.scripted.iter_mut().filter(|s| s.operation == operation) {
            scripted.remaining = scripted.remaining.saturating_sub(1);
        }
        if let Some(at) = self.scripted.iter().position(|s| s.operation == operation && s.remaining == 0) {
            let when = self.scripted.remove(at).map(|s| s.when);
            if let (Operation::TableTransact, Some(read)) = (operation, self.doubt.take()) {
                self.scripted.push_back(Scripted { operation: read, remaining: 1, when: When::Before });
            }
            return when;
        }
        let random = self.random.as_mut()?;
        if !random.next().is_multiple_of(random.one_in) {
            return None;
        }
        Some(if random.next().is_multiple_of(2) { When::Before } else { When::After })
    }
}

/// Counts calls and bytes per operation.
#[derive(Debug, Default)]
pub struct Meter {
    counters: [Counter; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicU64,
    errors: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
}

/// What a [`Meter`] has counted for one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Calls, failed ones included.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Bytes sent to the store by calls that succeeded.
    pub written: u64,
    /// Bytes received from the store.
    pub read: u64,
}

/// What a [`Meter`] had counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Operation, Count>);

impl Snapshot {
    /// The counts of one operation.
    pub fn of(&self, operation: Operation) -> Count {
        self.0.get(&operation).copied().unwrap_or_default()
    }

    /// Over all operations.
    pub fn total(&self) -> Count {
        self.0.values().fold(Count::default(), |sum, c| Count {
            calls: sum.calls + c.calls,
            errors: sum.errors + c.errors,
            written: sum.written + c.written,
            read: sum.read + c.read,
        })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (operation, c) in &self.0 {
            let Count { calls, errors, written, read } = c;
            writeln!(f, "{operation:?}: {calls} calls, {errors} errors, {written} bytes out, {read} bytes in")?;
        }
        Ok(())
    }
}

impl Meter {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Meter::default()
    }

    /// The counts so far; operations never called are left out.
    pub fn snapshot(&self) -> Snapshot {
        let counts = Operation::ALL.iter().filter_map(|&operation| {
            let counter = self.counters.get(operation as usize)?;
            let count = Count {
                calls: counter.calls.load(Ordering::Relaxed),
                errors: counter.errors.load(Ordering::Relaxed),
                written: counter.written.load(Ordering::Relaxed),
                read: counter.read.load(Ordering::Relaxed),
            };
            (count.calls > 0).then_some((operation, count))
        });
        Snapshot(counts.collect())
    }

    /// Counts one call. `sizes` are bytes written and read when it succeeded.
    pub(crate) fn count(&self, operation: Operation, sizes: Option<(u64, u64)>) {
        let Some(counter) = self.counters.get(operation as usize) else { return };
        counter.calls.fetch_add(1, Ordering::Relaxed);
        match sizes {
            None => _ = counter.errors.fetch_add(1, Ordering::Relaxed),
            Some((written, read)) => {
                counter.written.fetch_add(written, Ordering::Relaxed);
                counter.read.fetch_add(read, Ordering::Relaxed);
            }
        }
    }
}
