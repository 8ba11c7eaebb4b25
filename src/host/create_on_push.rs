//! The region in which a push to a missing repository creates it.
//!
//! If two regions created a repository of the same name, it would have two primaries, and a link between the regions
//! could replicate neither. A region therefore creates no repository whose name an active link replicates into it,
//! unless an active link also runs the other way.

use std::sync::Arc;

use axum::http::HeaderMap;
use globset::GlobSet;

use super::forward::{OtherHost, forwarded_by};
use super::{Host, Refusal};
use gitferry_config::{Config, LinkMode};

/// An active link into the region.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Source of the link: a region or remote.
    pub source: String,
    /// Names of the repositories that the link replicates.
    pub repositories: GlobSet,
}

/// The active links into `region`, without those that have a counterpart in the other direction.
///
/// # Errors
/// The globs of a link are not valid.
pub fn upstreams(config: &Config, region: &str) -> Result<Vec<Upstream>, String> {
    let active = || config.links.values().filter(|link| link.mode == LinkMode::Active);
    let goes_back = |source: &str| active().any(|link| link.source == region && link.target == source);
    let incoming = active().filter(|link| link.target == region && !goes_back(&link.source));
    incoming.map(|link| Ok(Upstream { source: link.source.clone(), repositories: link.matcher()? })).collect()
}

/// Region that creates a missing repository.
pub(super) enum CreationSite {
    /// This region creates the repository when the push commits.
    Here,
    /// Another region does; requests are forwarded to its host.
    There(Arc<OtherHost>),
    /// Another region or remote does, without forwarding. The text is for the client.
    Elsewhere(String),
}

impl Host {
    /// The region that creates the missing repository `name`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if pushes to this host create no repositories.
    pub(super) fn creation_site(&self, name: &str, headers: &HeaderMap) -> Result<CreationSite, Refusal> {
        if !self.create_on_push {
            return Err(Refusal::NotFound);
        }
        let Some(Upstream { source, .. }) = self.upstreams.iter().find(|from| from.repositories.is_match(name)) else {
            return Ok(CreationSite::Here);
        };
        let host = self.forwarder.as_ref().filter(|_| forwarded_by(headers).is_none()).and_then(|all| all.host(source));
        if let Some(host) = host {
            return Ok(CreationSite::There(host));
        }
        let here = &self.region.name;
        let place = self.urls.get(source).map(|url| format!("{}/{name}", url.trim_end_matches('/')));
        let place = place.unwrap_or_else(|| source.clone());
        Ok(CreationSite::Elsewhere(format!("{name} would come to {here} from {source}; push to {place}")))
    }
}
