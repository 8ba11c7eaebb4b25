//! The repositories that LFS requests read and write.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};

use super::refusal::LfsRefusal;
use crate::announcer::Announcer;
use crate::auth::{Access, Principal};
use crate::forward::other_host::{Forwarder, OtherHost};
use crate::push::create_on_push::{Creation, CreationSite};
use crate::quotas::Quotas;
use crate::request::refusal::Refusal;
use crate::request::urls::HostUrls;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::{Region, RegionError, is_visible};

/// Finds and creates the repositories of LFS requests, and records objects in them.
#[derive(Debug)]
pub struct Repositories {
    region: Region,
    creation: Arc<Creation>,
    forwarder: Arc<Forwarder>,
    urls: Arc<HostUrls>,
    announcer: Announcer,
    quotas: Arc<Quotas>,
}

impl Repositories {
    /// Repositories of `region`.
    pub fn new(
        region: Region,
        creation: Arc<Creation>,
        forwarder: Arc<Forwarder>,
        urls: Arc<HostUrls>,
        announcer: Announcer,
        quotas: Arc<Quotas>,
    ) -> Self {
        Repositories { region, creation, forwarder, urls, announcer, quotas }
    }

    /// Quotas on LFS objects.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    async fn find(&self, name: &str) -> Result<Option<HeadItem>, RegionError> {
        Ok(self.region.repositories().find(name).await?.filter(|item| is_visible(&item.head)))
    }

    /// The repository of a name.
    ///
    /// # Errors
    /// There is none (404), or the table cannot be read.
    pub async fn existing(&self, name: &str) -> Result<HeadItem, LfsRefusal> {
        Ok(self.find(name).await?.ok_or(Refusal::NotFound)?)
    }

    /// The repository that objects are downloaded from; `None` if it does not exist and a push of this client would
    /// create it. Clients ask for the missing objects of such a repository before they upload them.
    pub async fn readable(
        &self,
        name: &str,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> Result<Option<HeadItem>, LfsRefusal> {
        if let Some(item) = self.find(name).await? {
            return Ok(Some(item));
        }
        principal.authorize(name, Access::Create).map_err(|_| Refusal::NotFound)?;
        self.creation.site(name, headers)?;
        Ok(None)
    }

    /// The repository that accepts uploads here; `None` if it does not exist and the first upload creates it. A replica
    /// refuses and names the primary.
    pub async fn writable(&self, name: &str, headers: &HeaderMap) -> Result<Option<HeadItem>, LfsRefusal> {
        let Some(item) = self.find(name).await? else {
            return match self.creation.site(name, headers)? {
                CreationSite::Here => Ok(None),
                CreationSite::There(primary) => {
                    let reason = format!("{name} has to be created by the host {}; upload there", primary.url());
                    Err(LfsRefusal::new(StatusCode::FORBIDDEN, reason))
                }
                CreationSite::Elsewhere(reason) => Err(LfsRefusal::new(StatusCode::FORBIDDEN, reason)),
            };
        };
        self.region.committer().check_writable(&item).map_err(|error| match error {
            RegionError::Replica { primary, .. } => {
                let place = self.urls.repository(&primary, name).unwrap_or_else(|| format!("region {primary}"));
                LfsRefusal::new(StatusCode::FORBIDDEN, format!("{name} is a replica here; push to {place}"))
            }
            error => error.into(),
        })?;
        Ok(Some(item))
    }

    /// The host to which batch requests for uploads are forwarded, with the repository of that name in this region;
    /// `None` if they are answered here.
    pub async fn primary(
        &self,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Option<(Arc<OtherHost>, Option<RepositoryId>)>, LfsRefusal> {
        match self.find(name).await? {
            Some(item) => Ok(self.forwarder.primary(&item.head, headers).map(|primary| (primary, Some(item.id)))),
            None => match self.creation.site(name, headers)? {
                CreationSite::There(primary) => Ok(Some((primary, None))),
                CreationSite::Here | CreationSite::Elsewhere(_) => Ok(None),
            },
        }
    }

    /// Creates the repository of an uploaded object: objects arrive before the push of their pointers.
    pub async fn create(&self, name: &str, principal: &Principal) -> Result<HeadItem, LfsRefusal> {
        principal.authorize(name, Access::Create)?;
        self.quotas.check_new_repository()?;
        match self.region.repositories().create(name, gix::hash::Kind::Sha1, &principal.actor()).await {
            // Another upload has created the repository first.
            Err(RegionError::NameTaken { .. }) => self.existing(name).await,
            created => Ok(created?),
        }
    }

    /// Records objects in a change that were uploaded after the push of their pointers.
    pub async fn record(
        &self,
        item: &HeadItem,
        objects: &[LfsObject],
        principal: &Principal,
    ) -> Result<(), LfsRefusal> {
        if let Some(item) = self.region.lfs().name(item.id, objects, &principal.actor()).await? {
            self.announcer.committed(&item);
        }
        Ok(())
    }

    /// Refuses an upload whose repository was deleted or renamed meanwhile: a push under its old name would not find
    /// the object.
    pub async fn check_same(&self, item: &HeadItem) -> Result<(), LfsRefusal> {
        let now = read_head(self.region.table(), item.id).await.map_err(RegionError::from)?;
        if now.is_some_and(|now| is_visible(&now.head) && now.head.name == item.head.name) {
            return Ok(());
        }
        let reason = "the repository was deleted or renamed during the upload; upload the object again";
        Err(LfsRefusal::new(StatusCode::NOT_FOUND, reason))
    }
}
