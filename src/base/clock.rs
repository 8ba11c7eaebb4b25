//! Time and fresh identifiers, injected so that tests replay from a seed.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

/// Where time and identifiers come from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time of day, in whole milliseconds. Only ever shown or compared with retention periods: no
    /// decision about who wrote first depends on it.
    fn now(&self) -> Timestamp;

    /// A fresh identifier that sorts by the time it was made (UUIDv7).
    fn new_id(&self) -> Uuid;
}

/// The machine's own clock and randomness.
#[derive(Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// A shared handle.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

#[allow(clippy::disallowed_methods)] // The one place that asks the machine.
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
