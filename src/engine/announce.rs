//! Hints that a repository changed: from the code that commits to the code that acts on it.

use std::sync::Arc;

use crate::ledger::head::RepositoryId;

/// A repository has reached a new state in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub region: String,
    /// Which repository.
    pub repository: RepositoryId,
    /// The number of its newest change.
    pub seq: u64,
}

/// Takes events. Never blocks and never fails: what cannot be delivered is found by a sweep.
pub trait Sink: std::fmt::Debug + Send + Sync {
    /// Tells that a repository changed.
    fn publish(&self, event: Event);
}

/// Tells several.
#[derive(Clone, Debug)]
pub struct Several(pub Vec<Arc<dyn Sink>>);

impl Sink for Several {
    fn publish(&self, event: Event) {
        self.0.iter().for_each(|sink| sink.publish(event.clone()));
    }
}
