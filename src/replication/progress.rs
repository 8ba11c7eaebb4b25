//! Counters of a pass, which progress bars and metrics read while it runs.

use gitferry_base::counter::Counter;

/// Progress of a link's passes.
#[derive(Debug, Default)]
pub struct Progress {
    /// Repositories to compare.
    pub repositories: Counter,
    /// Repositories that are finished: equal, delivered or failed.
    pub repositories_done: Counter,
    /// Bytes to copy, as far as they are known yet.
    pub bytes: Counter,
    /// Bytes that the target has: copied by this pass or by an earlier attempt.
    pub bytes_done: Counter,
    /// Bytes that this pass copied.
    pub bytes_copied: Counter,
}
