//! Repeating work that failed for now. The only place that uses the `backoff` crate.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::Kind;

/// Most attempts at one piece of work.
pub const MAX_ATTEMPTS: u32 = 6;

/// Waits of work that is tried again until it succeeds: exponential with jitter, up to [`Pace::LONGEST`]. Work
/// that a person has to mend first starts with a longer one.
#[derive(Debug)]
pub struct Pace {
    waits: ExponentialBackoff,
}

impl Pace {
    /// The first wait after a failure that may pass by itself.
    const FIRST: Duration = Duration::from_secs(1);
    /// The first wait after any other failure.
    const FIRST_FOR_A_PERSON: Duration = Duration::from_secs(5);
    /// No wait is longer, but for jitter.
    pub const LONGEST: Duration = Duration::from_secs(300);

    /// After a first failure of this kind.
    pub fn new(kind: Kind) -> Self {
        let first = if kind.is_retryable() { Self::FIRST } else { Self::FIRST_FOR_A_PERSON };
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(Self::LONGEST)
            .with_max_elapsed_time(None)
            .build();
        Pace { waits }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        self.waits.next_backoff().unwrap_or(Self::LONGEST)
    }
}

/// Waits between attempts: exponential with jitter, from 50 ms to 5 s.
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
    /// After a failure: waits and says `true` where another attempt makes sense.
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

    /// How many attempts have failed.
    pub fn failed(&self) -> u32 {
        self.made
    }
}
