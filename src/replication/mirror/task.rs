//! Inputs of a pass over one repository.

use super::checkpoint::Checkpoint;
use super::ends::HeadSetter;
use super::lease::Fence;
use super::lfs::LfsTransfer;
use super::policy::RefPolicy;
use super::push::LargePushFailures;
use super::via::Detour;
use crate::progress::Progress;
use gitferry_remote::PushLimits;

/// Inputs of a pass over one repository.
pub struct MirrorTask<'t> {
    /// Refs that are mirrored, and the changes that the target's refs may undergo.
    pub policy: &'t RefPolicy,
    /// Limits of the target for one push.
    pub limits: &'t PushLimits,
    /// Access to the target's `HEAD`.
    pub heads: &'t dyn HeadSetter,
    /// Result of the last complete pass.
    pub checkpoint: Option<&'t Checkpoint>,
    /// True if a source without refs may empty the target.
    pub allow_empty: bool,
    /// Counts bytes as they flow.
    pub progress: &'t Progress,
    /// Transfer of LFS objects; `None` if the link ignores LFS.
    pub lfs: Option<&'t dyn LfsTransfer>,
    /// Way through a region, for a source that alone cannot serve the pass.
    pub detour: Option<&'t dyn Detour>,
    /// Failures of large pushes, over all attempts of the delivery.
    pub large_push_failures: &'t LargePushFailures,
    /// Asked for permission before each push.
    pub fence: Option<&'t dyn Fence>,
}
