//! What a worker has done, and whether it is well.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::counter::Counter;

/// A worker whose loop has not come round for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What a worker has done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages taken from queues.
    pub messages: Counter,
    /// Of these: announced what the target had, or what another message announced too.
    pub duplicates: Counter,
    /// Of these: about nothing that the link carries.
    pub ignored: Counter,
    /// Of these: went to the dead-letter queue.
    pub rejected: Counter,
    /// Deliveries that brought something.
    pub delivered: Counter,
    /// Changes in them.
    pub changes: Counter,
    /// Deliveries that failed.
    pub failed: Counter,
    /// Readings of outboxes that came to their end.
    pub outboxes: Counter,
    /// Full sweeps that came to their end.
    pub sweeps: Counter,
    /// What a full sweep delivered and no event had announced.
    pub unannounced: Counter,
    /// Deliveries under way or waiting.
    pending: AtomicU64,
}

impl Counters {
    /// All of them, by name.
    pub fn to_json(&self) -> Value {
        json!({
            "messages": self.messages.get(),
            "duplicates": self.duplicates.get(),
            "ignored": self.ignored.get(),
            "rejected": self.rejected.get(),
            "delivered": self.delivered.get(),
            "changes": self.changes.get(),
            "failed": self.failed.get(),
            "outboxes": self.outboxes.get(),
            "sweeps": self.sweeps.get(),
            "unannounced": self.unannounced.get(),
            "pending": self.pending.load(Ordering::Relaxed),
        })
    }
}

/// Whether a worker is alive, and whether it gets at all that it works with.
#[derive(Debug)]
pub struct Status {
    /// What it has done.
    pub counters: Counters,
    start: Instant,
    beat: AtomicU64,
    draining: AtomicBool,
    /// What it works with, and why that cannot be used where it cannot.
    sources: Mutex<BTreeMap<String, Option<String>>>,
}

/// What a worker works with and cannot use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// What it is.
    pub what: String,
    /// Why it cannot be used.
    pub why: String,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            counters: Counters::default(),
            start: Instant::now(),
            beat: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            sources: Mutex::default(),
        }
    }
}

impl Status {
    /// The loop has come round.
    pub(super) fn beat(&self, pending: usize) {
        self.beat.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.counters.pending.store(pending as u64, Ordering::Relaxed);
    }

    /// It takes no more work.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Something that it works with could be used, or could not.
    pub(super) fn used(&self, what: &str, error: Option<String>) {
        let mut sources = self.sources.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sources.insert(what.into(), error);
    }

    /// Whether its loop comes round.
    pub fn is_alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(beat) < STUCK_AFTER
    }

    /// What stands in the way of work; nothing when it is ready.
    pub fn not_ready(&self) -> Vec<NotReady> {
        if self.draining.load(Ordering::Relaxed) {
            return vec![NotReady { what: "worker".into(), why: "it is stopping".into() }];
        }
        let sources = self.sources.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let failed = sources.iter().filter_map(|(what, why)| Some((what, why.as_ref()?)));
        failed.map(|(what, why)| NotReady { what: what.clone(), why: why.clone() }).collect()
    }
}
