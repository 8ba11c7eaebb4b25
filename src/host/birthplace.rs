//! Where a repository is made that is pushed to before it exists.
//!
//! Two regions that both make a repository of one name would have two primaries of it, and the link between them could
//! carry neither. So a region makes no repositories of names that an active link brings to it, unless the same names go
//! the other way, too.

use std::sync::Arc;

use globset::GlobSet;

use super::forward::{OtherHost, forwarded_by};
use super::{Host, Refusal};
use axum::http::HeaderMap;
use gitferry_config::{Config, LinkMode};

/// A source of repositories: an active link into the region.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The region or remote that repositories come from.
    pub source: String,
    /// The names of those that do.
    pub repositories: GlobSet,
}

/// The active links that bring repositories to a region, but for those that also go the other way.
///
/// # Errors
/// A glob of a link is not valid.
pub fn upstreams(config: &Config, region: &str) -> Result<Vec<Upstream>, String> {
    let active = || config.links.values().filter(|link| link.mode == LinkMode::Active);
    let goes_back = |source: &str| active().any(|link| link.source == region && link.target == source);
    let incoming = active().filter(|link| link.target == region && !goes_back(&link.source));
    incoming.map(|link| Ok(Upstream { source: link.source.clone(), repositories: link.matcher()? })).collect()
}

/// Where a repository is made.
pub(super) enum Birthplace {
    /// In this region, by the push itself.
    Here,
    /// At another host, to which requests are forwarded.
    There(Arc<OtherHost>),
    /// Elsewhere: what a client is told.
    Elsewhere(String),
}

impl Host {
    /// Where a repository is made that does not exist here.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where pushes make no repositories.
    pub(super) fn birthplace(&self, name: &str, headers: &HeaderMap) -> Result<Birthplace, Refusal> {
        if !self.create_on_push {
            return Err(Refusal::NotFound);
        }
        let Some(Upstream { source, .. }) = self.upstreams.iter().find(|from| from.repositories.is_match(name)) else {
            return Ok(Birthplace::Here);
        };
        let there =
            self.forwarder.as_ref().filter(|_| forwarded_by(headers).is_none()).and_then(|all| all.host(source));
        if let Some(there) = there {
            return Ok(Birthplace::There(there));
        }
        let here = &self.region.name;
        let place = self.urls.get(source).map(|url| format!("{}/{name}", url.trim_end_matches('/')));
        let place = place.unwrap_or_else(|| source.clone());
        Ok(Birthplace::Elsewhere(format!("{name} would come to {here} from {source}; push to {place}")))
    }
}
