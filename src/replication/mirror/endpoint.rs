//! Endpoint of a link: a region or a remote.

use gitferry_engine::region::Region;
use gitferry_remote::Remote;

/// Endpoint of a link.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// Region of this configuration.
    Region(Region),
    /// Any Git server.
    Remote(Remote),
}

impl Endpoint {
    /// Name of the endpoint in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Endpoint::Region(region) => region.name(),
            Endpoint::Remote(remote) => remote.name(),
        }
    }

    /// The region; `None` for a remote.
    pub fn region(&self) -> Option<&Region> {
        match self {
            Endpoint::Region(region) => Some(region),
            Endpoint::Remote(_) => None,
        }
    }
}
