//! Ref namespaces reserved for gitferry.

/// Reserved namespace: refs below it are never mirrored, and never deleted as surplus refs of a target.
pub const OWN_PREFIX: &str = "refs/gitferry/";
/// Tips that a link has overwritten at its target.
pub const DIVERGED_PREFIX: &str = "refs/gitferry/diverged/";
/// Partial histories of a push that is too large for one pack, kept until the last slice has arrived.
pub const SLICES_PREFIX: &str = "refs/gitferry/slices/";
/// Old values of refs that make room for conflicting names, kept until the replacement has arrived.
pub const ASIDE_PREFIX: &str = "refs/gitferry/aside/";
/// Objects in transit through a region.
pub const VIA_PREFIX: &str = "refs/gitferry/via/";

/// Returns true if a name is in the namespace reserved for gitferry.
pub fn is_own(name: &[u8]) -> bool {
    name.strip_prefix(b"refs/gitferry").is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Returns true if links create refs of this name.
pub fn is_link_ref(name: &[u8]) -> bool {
    name.starts_with(DIVERGED_PREFIX.as_bytes()) || is_transit_ref(name)
}

/// Returns true if links create refs of this name for objects in transit. Such refs are hidden from other clients.
pub fn is_transit_ref(name: &[u8]) -> bool {
    [SLICES_PREFIX, ASIDE_PREFIX, VIA_PREFIX].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}
