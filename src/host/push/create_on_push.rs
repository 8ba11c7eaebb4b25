//! The region in which a push to a missing repository creates it.
//!
//! If two regions created a repository of the same name, it would have two primaries, and a link between the regions
//! could replicate neither. A region therefore creates no repository whose name an active link replicates into it,
//! unless an active link also runs the other way.

use std::sync::Arc;

use axum::http::HeaderMap;
use globset::GlobSet;

use crate::forward::other_host::{Forwarder, OtherHost};
use crate::request::refusal::Refusal;
use crate::request::urls::HostUrls;
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

/// Decides which region creates a missing repository.
#[derive(Debug)]
pub(crate) struct Creation {
    /// Region of this host.
    here: String,
    /// True if a push to a name without a repository creates the repository.
    enabled: bool,
    upstreams: Vec<Upstream>,
    urls: Arc<HostUrls>,
    forwarder: Arc<Forwarder>,
}

/// Region that creates a missing repository.
pub(crate) enum CreationSite {
    /// This region creates the repository when the push commits.
    Here,
    /// Another region does; requests are forwarded to its host.
    There(Arc<OtherHost>),
    /// Another region or remote does, without forwarding. The text is for the client.
    Elsewhere(String),
}

impl Creation {
    /// Decides for the host of region `here`. If not `enabled`, pushes create no repositories.
    pub(crate) fn new(
        here: &str,
        enabled: bool,
        upstreams: Vec<Upstream>,
        urls: Arc<HostUrls>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        Creation { here: here.into(), enabled, upstreams, urls, forwarder }
    }

    /// Region or remote from which a repository of this name is to be replicated into this region.
    pub(crate) fn source_of(&self, name: &str) -> Option<&str> {
        let upstream = self.upstreams.iter().find(|from| from.repositories.is_match(name));
        upstream.map(|from| from.source.as_str())
    }

    /// The region that creates the missing repository `name`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if pushes to this host create no repositories.
    pub(crate) fn site(&self, name: &str, headers: &HeaderMap) -> Result<CreationSite, Refusal> {
        if !self.enabled {
            return Err(Refusal::NotFound);
        }
        let Some(source) = self.source_of(name) else { return Ok(CreationSite::Here) };
        if let Some(host) = self.forwarder.host(source, headers) {
            return Ok(CreationSite::There(host));
        }
        let here = &self.here;
        let place = self.urls.repository(source, name).unwrap_or_else(|| source.to_owned());
        Ok(CreationSite::Elsewhere(format!("{name} is to be replicated into {here} from {source}; push to {place}")))
    }
}
