//! Clock and source of fresh ids, injected so that tests replay from a seed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

/// Source of time and ids.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Wall-clock time in whole milliseconds. Used for display and retention periods only: no decision about the order
    /// of writes depends on it.
    fn now(&self) -> Timestamp;

    /// Fresh id that sorts by creation time (UUIDv7).
    fn new_id(&self) -> Uuid;
}

/// System clock and system randomness.
#[derive(Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// Shared handle.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

#[allow(clippy::disallowed_methods)] // The only place that reads the system clock.
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
