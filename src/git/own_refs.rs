//! Names of refs that gitferry gives itself.

/// Below this gitferry keeps refs of its own: never mirrored, and never deleted with the rest.
pub const OWN_PREFIX: &str = "refs/gitferry/";
/// Where a link keeps the tips that it overwrites.
pub const DIVERGED_PREFIX: &str = "refs/gitferry/diverged/";
/// Where a link names the parts of a history that is too large for one push, until the rest is there.
pub const SLICES_PREFIX: &str = "refs/gitferry/slices/";
/// Where a link keeps what a ref named that makes room for another one, until that one is there.
pub const ASIDE_PREFIX: &str = "refs/gitferry/aside/";
/// Where a link names objects that are on their way through a region.
pub const VIA_PREFIX: &str = "refs/gitferry/via/";

/// Whether a ref's name is one that only gitferry gives.
pub fn is_own(name: &[u8]) -> bool {
    name.strip_prefix(b"refs/gitferry").is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether it is one that links give.
pub fn is_of_links(name: &[u8]) -> bool {
    name.starts_with(DIVERGED_PREFIX.as_bytes()) || is_passing(name)
}

/// Whether it is one that links give to what is on its way: nobody else is shown it.
pub fn is_passing(name: &[u8]) -> bool {
    [SLICES_PREFIX, ASIDE_PREFIX, VIA_PREFIX].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}
