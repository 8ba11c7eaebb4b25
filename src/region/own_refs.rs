//! Names of refs that gitferry gives itself.

/// Below this gitferry keeps refs of its own: never mirrored, and never deleted with the rest.
pub const OWN_PREFIX: &str = "refs/gitferry/";
/// Where a link keeps the tips that it overwrites.
pub const DIVERGED_PREFIX: &str = "refs/gitferry/diverged/";
/// Where a link names the parts of a history that is too large for one push, until the rest is there.
pub const SLICES_PREFIX: &str = "refs/gitferry/slices/";

/// Whether a ref's name is one that only gitferry gives.
pub fn is_own(name: &[u8]) -> bool {
    name.strip_prefix(b"refs/gitferry").is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether it is one that links give to refs of their targets.
pub fn is_of_links(name: &[u8]) -> bool {
    [DIVERGED_PREFIX, SLICES_PREFIX].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}
