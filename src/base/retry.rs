//! Retries with exponential backoff. The only module that uses the `backoff` crate.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::Kind;

/// Most attempts at one operation.
pub const MAX_ATTEMPTS: u32 = 6;

/// Backoff for work that is retried until it succeeds: exponential with jitter, up to [`Backoff::LONGEST`]. Failures
/// that need an operator start with a longer wait.
#[derive(Debug)]
pub struct Backoff {
    waits: ExponentialBackoff,
}

impl Backoff {
    /// First wait after a retryable failure.
    const FIRST_RETRYABLE: Duration = Duration::from_secs(1);
    /// First wait after any other failure.
    const FIRST_OTHER: Duration = Duration::from_secs(5);
    /// Longest wait before jitter.
    pub const LONGEST: Duration = Duration::from_secs(300);

    /// Starts a backoff after a first failure of this kind.
    pub fn new(kind: Kind) -> Self {
        Self::at_most(kind, Self::LONGEST)
    }

    /// Starts a backoff like [`Self::new`] whose waits are at most `longest` before jitter.
    pub fn at_most(kind: Kind, longest: Duration) -> Self {
        let first = if kind.is_retryable() { Self::FIRST_RETRYABLE } else { Self::FIRST_OTHER };
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(first.min(longest))
            .with_max_interval(longest)
            .with_max_elapsed_time(None)
            .build();
        Backoff { waits }
    }

    /// Returns the wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        self.waits.next_backoff().unwrap_or(Self::LONGEST)
    }
}

/// Retry budget of one operation: at most [`MAX_ATTEMPTS`] attempts, with exponential waits and jitter from 50 ms to
/// 5 s.
#[derive(Debug)]
pub struct Attempts {
    waits: ExponentialBackoff,
    made: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(50))
            .with_max_interval(Duration::from_secs(5))
            .with_max_elapsed_time(None)
            .build();
        Attempts { waits, made: 0 }
    }
}

impl Attempts {
    /// Records a failure. Waits and returns true if another attempt may succeed; returns false if the kind is not
    /// retryable or the budget is spent.
    pub async fn again(&mut self, kind: Kind) -> bool {
        self.made += 1;
        if !kind.is_retryable() || self.made >= MAX_ATTEMPTS {
            return false;
        }
        if let Some(wait) = self.waits.next_backoff() {
            tokio::time::sleep(wait).await;
        }
        true
    }

    /// Number of failed attempts.
    pub fn failed(&self) -> u32 {
        self.made
    }
}
