//! Events: hints that a repository changed. Never the truth: a lost one costs time until the next sweep, a
//! duplicate costs two reads.

pub mod in_process;

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
