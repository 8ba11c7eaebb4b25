//! Destination of a push: a repository here, one that the push creates, or the host of another region.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::create_on_push::{Creation, CreationSite};
use crate::forward::headers::{check_repository_id, forwarded_by};
use crate::forward::other_host::{Forwarder, OtherHost};
use crate::request::refusal::Refusal;
use crate::request::urls::HostUrls;
use crate::views::{OpenRepository, Views};
use gitferry_engine::ledger::head::{Head, RepositoryId, Role};
use gitferry_engine::region::push::Unborn;
use gitferry_engine::region::{Region, RegionError};

/// Destination of a push.
#[derive(Debug)]
pub enum Destination {
    /// A repository of this region, a replica included that is not forwarded.
    Existing(Arc<OpenRepository>),
    /// A repository that the push creates in this region.
    Unborn(Box<Unborn>),
    /// The host of another region; with the repository of that name in this region, if there is one.
    Forwarded(Arc<OtherHost>, Option<RepositoryId>),
    /// A place to which this host does not forward. The text is for the client.
    Elsewhere(String),
}

/// Finds the destinations of pushes.
#[derive(Debug)]
pub struct Destinations {
    region: Region,
    urls: Arc<HostUrls>,
    views: Arc<Views>,
    creation: Arc<Creation>,
    forwarder: Arc<Forwarder>,
}

impl Destinations {
    /// Destinations of the pushes that reach the host of `region`.
    pub fn new(
        region: Region,
        urls: Arc<HostUrls>,
        views: Arc<Views>,
        creation: Arc<Creation>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        Destinations { region, urls, views, creation, forwarder }
    }

    /// The destination of a push with these headers. Creates nothing.
    ///
    /// # Errors
    /// The repository is missing and is not created, or another host has forwarded the push to another repository.
    pub async fn find(&self, repository: &str, headers: &HeaderMap) -> Result<Destination, Refusal> {
        let opened = match self.views.open(repository).await {
            Err(RegionError::NoRepository { .. }) => return self.before_creation(repository, headers).await,
            opened => opened?,
        };
        let id = opened.state().item.id;
        check_repository_id(headers, repository, self.region.name(), Some(id))?;
        Ok(match self.forwarder.primary(&opened.state().item.head, headers) {
            Some(primary) => Destination::Forwarded(primary, Some(id)),
            None => Destination::Existing(opened),
        })
    }

    async fn before_creation(&self, repository: &str, headers: &HeaderMap) -> Result<Destination, Refusal> {
        check_repository_id(headers, repository, self.region.name(), None)?;
        Ok(match self.creation.site(repository, headers)? {
            CreationSite::There(primary) => Destination::Forwarded(primary, None),
            CreationSite::Elsewhere(reason) => Destination::Elsewhere(reason),
            CreationSite::Here => {
                let unborn = self.region.receiver().unborn(repository, gix::hash::Kind::Sha1).await?;
                Destination::Unborn(Box::new(unborn))
            }
        })
    }

    /// Reason for refusing pushes to a repository; `None` if it is no replica.
    pub fn refusal_of_replica(&self, repository: &str, head: &Head, headers: &HeaderMap) -> Option<String> {
        if head.role != Role::Replica {
            return None;
        }
        let primary = &head.epoch.region;
        Some(match forwarded_by(headers) {
            None => {
                // All regions may share one URL; then the URL of the primary is the one that the client uses already.
                let place = self.urls.repository_elsewhere(primary, repository);
                let place = place.unwrap_or_else(|| format!("a host of region {primary}"));
                format!("{repository} is a replica here; push to {place}")
            }
            Some(other) => {
                let here = self.region.name();
                format!("{other} forwarded the push to {here}, but {repository} is a replica in {here}, too")
            }
        })
    }
}
