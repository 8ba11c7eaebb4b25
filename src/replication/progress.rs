//! Counters that a pass keeps and anybody may look at.

use gitferry_base::counter::Counter;

/// What a pass has done so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// Repositories that the pass has to look at.
    pub repositories: Counter,
    /// Repositories that are done.
    pub repositories_done: Counter,
    /// Bytes that are known to need copying.
    pub bytes: Counter,
    /// Bytes copied, or found copied already.
    pub bytes_done: Counter,
    /// Bytes really copied by this pass.
    pub bytes_copied: Counter,
}
