//! Where a repository is read or written.

use gitferry_engine::region::Region;
use gitferry_remote::Remote;

/// Where a repository is read or written.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// gitferry's own.
    Region(Region),
    /// Any Git server.
    Remote(Remote),
}

impl Endpoint {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Endpoint::Region(region) => &region.name,
            Endpoint::Remote(remote) => remote.name(),
        }
    }

    /// The region, where it is one.
    pub fn region(&self) -> Option<&Region> {
        match self {
            Endpoint::Region(region) => Some(region),
            Endpoint::Remote(_) => None,
        }
    }
}
