//! Number of characters that matching compares. Only tests count.

#[cfg(test)]
pub(crate) use counting::{count, of};

/// Counts a comparison.
#[cfg(not(test))]
pub(crate) fn count() {}

#[cfg(test)]
mod counting {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    /// Result of the work, and the number of characters that it compares.
    pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = STEPS.get();
        let result = work();
        (result, STEPS.get() - before)
    }
}
