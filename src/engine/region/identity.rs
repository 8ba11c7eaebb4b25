//! The identity of a region: one document that `gitferry region init` writes into both stores. [`super::stores`] reads
//! and compares it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Format version of identities: the newest that this build reads, and the one that it writes.
pub(super) const FORMAT: u64 = 1;

/// Identity document in both stores of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format version of this document.
    pub(super) format: u64,
    /// Random id of this installation; another region of the same name has another one.
    pub(super) installation: Uuid,
    /// Name of the region.
    pub(super) region: String,
}
