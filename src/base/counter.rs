//! Counters for metrics, shared between threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Monotonic counter. Relaxed ordering suffices: the value is only reported.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
