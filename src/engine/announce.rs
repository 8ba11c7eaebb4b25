//! Events: hints that a repository changed, from the code that commits to the code that replicates.

use std::sync::Arc;

use crate::ledger::head::RepositoryId;

/// A repository has reached a new state in a region. Events may be lost, doubled or reordered; the ledger is the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Name of the region.
    pub region: String,
    /// Id of the repository.
    pub repository: RepositoryId,
    /// Sequence number of the newest change.
    pub seq: u64,
}

/// Receives events. `publish` never blocks and never fails; a lost event is made good by the next pass.
pub trait Sink: std::fmt::Debug + Send + Sync {
    /// Announces that a repository changed.
    fn publish(&self, event: Event);
}

/// Publishes each event to several sinks.
#[derive(Clone, Debug)]
pub struct Fanout(pub Vec<Arc<dyn Sink>>);

impl Sink for Fanout {
    fn publish(&self, event: Event) {
        self.0.iter().for_each(|sink| sink.publish(event.clone()));
    }
}
