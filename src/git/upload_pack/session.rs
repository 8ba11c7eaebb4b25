//! Options and limits of a session with one client.

use super::graph::WorkLimits;
use crate::protocol::{RequestLimits, Version};

/// Limits on a single request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Limits on the number of wants, haves and other arguments.
    pub request: RequestLimits,
    /// Limits on the work before the pack is sent.
    pub work: WorkLimits,
}

/// Protocol version and server options of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Negotiated protocol version.
    pub version: Version,
    /// True if each request is self-contained (HTTP); false if all requests share a connection (SSH, `git://`).
    pub stateless: bool,
    /// True to advertise `ref-in-want` (version 2). Git's server leaves it off by default for a reason: if a ref moves
    /// after the advertisement, `git clone --single-branch` receives the new object, sets the branch to the old one
    /// and fails.
    pub ref_in_want: bool,
    /// True to omit every object that the haves reach from the pack, instead of only those in commits where wanted and
    /// held history meet (version 2). Reads all trees that the haves reach.
    pub thorough: bool,
    /// True if the client is gitferry in this process: haves that no ref reaches are acknowledged, too (version 2).
    pub own: bool,
}
