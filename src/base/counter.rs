//! Counters that any thread may raise and anybody may look at.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that only rises. Relaxed: it is only ever shown.
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
