//! Values that make up a link with a remote at one end.

use std::sync::Arc;

use globset::GlobSet;

use super::endpoint::Endpoint;
use super::policy::RefPolicy;
use gitferry_base::clock::Clock;
use gitferry_config::LfsMode;
use gitferry_engine::region::Region;
use gitferry_engine::region::push::Missing;
use gitferry_store::table::Table;

/// Values that make up a link with a remote at one end.
#[derive(Debug)]
pub struct RemoteLinkParts {
    /// Name of the link in the configuration.
    pub name: String,
    /// End that is read.
    pub source: Endpoint,
    /// End that is written.
    pub target: Endpoint,
    /// Patterns for the names of the repositories on the link.
    pub repositories: GlobSet,
    /// Names that the configuration gives in full.
    pub names: Vec<String>,
    /// Refs that are mirrored, and the changes that the target's refs may undergo.
    pub policy: RefPolicy,
    /// Handling of Git LFS objects.
    pub lfs: LfsMode,
    /// Fate of a pass whose LFS objects are missing at the source.
    pub lfs_missing: Missing,
    /// Region through which objects go when the source alone cannot tell what the target lacks, or cannot split a
    /// history.
    pub via: Option<Region>,
    /// Table with checkpoints, statistics and leases. Without one, every pass starts from the refs alone.
    pub table: Option<Arc<dyn Table>>,
    /// Clock for statistics and leases.
    pub clock: Arc<dyn Clock>,
}
