//! Limits shared by the check, the readers and the builders of packs.

/// Size in bytes above which a blob that is stored whole is inflated as a stream.
pub const STREAMED_BLOB_BYTES: u64 = 16 << 20;
/// Most bytes of a delta, of its base or result, and of a commit, tree or tag, unless
/// [`CheckOptions`](super::CheckOptions) say otherwise. Git makes no deltas above `core.bigFileThreshold` (512 MiB). Blobs
/// that are stored whole have no limit.
pub const MAX_RESOLVED_BYTES: u64 = 1 << 30;
/// Longest delta chain: the maximum of Git's `pack.depth`.
pub const MAX_DELTA_DEPTH: usize = 4095;
/// Bytes of delta bases that all threads of a check together hold for unapplied deltas, unless
/// [`CheckOptions`](super::CheckOptions) say otherwise; as `core.deltaBaseCacheLimit` in Git. Bases beyond the limit are
/// resolved again when needed.
pub const MAX_HELD_BYTES: u64 = 96 << 20;
