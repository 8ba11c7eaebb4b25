//! Counters that a pass keeps and anybody may look at.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a pass has done so far. Relaxed: only ever shown.
#[derive(Debug, Default)]
pub struct Progress {
    /// Repositories that the pass has to look at.
    pub repositories: Counter,
    /// Repositories that are done.
    pub repositories_done: Counter,
    /// Bytes that are known to need copying.
    pub bytes: Counter,
    /// Bytes copied, or found copied already.
    pub bytes_done: Counter,
    /// Bytes really copied by this pass.
    pub bytes_copied: Counter,
}

/// A counter that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
