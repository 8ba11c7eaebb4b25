//! Ends of a link for one repository: a Git server, or a region that acts as one.

use tokio::runtime::Handle;

use super::endpoint::Endpoint;
use super::error::MirrorError;
use gitferry_engine::region::server::RegionServer;
use gitferry_engine::region::{Region, blocking};
use gitferry_git::client::{ClientError, Connection, Server, UploadPack};
use gitferry_git::protocol::{Service, Version};
use gitferry_git::refs::{RefName, RefValue};
use gitferry_remote::{HeadSet, PushLimits, RemoteRepository};

/// A repository at one end of a link.
#[derive(Clone, Debug)]
pub enum End {
    /// Repository at a Git server.
    Remote(RemoteRepository),
    /// Repository of a region, served within the process.
    Region(RegionServer),
}

impl Server for End {
    fn url(&self) -> &str {
        match self {
            End::Remote(repository) => repository.url(),
            End::Region(server) => server.url(),
        }
    }

    fn is_within(&self) -> bool {
        match self {
            End::Remote(repository) => repository.is_within(),
            End::Region(server) => server.is_within(),
        }
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        match self {
            End::Remote(repository) => repository.connect(service, version),
            End::Region(server) => server.connect(service, version),
        }
    }
}

impl End {
    /// Limits of the end for one push.
    pub fn limits(&self) -> PushLimits {
        match self {
            End::Remote(repository) => repository.limits().clone(),
            End::Region(_) => PushLimits::none(),
        }
    }
}

/// Sets the `HEAD` of a target, which Git's push protocol cannot.
pub trait HeadSetter: Sync {
    /// Returns true if the target offers a way to set its `HEAD`.
    fn can_set(&self) -> bool;

    /// Returns true if `HEAD` is set in one step with the refs of a push, which are then committed atomically.
    fn comes_with_push(&self) -> bool {
        false
    }

    /// Sets `HEAD` to this branch with the next push, if [`HeadSetter::comes_with_push`] is true.
    fn set_with_next_push(&self, _branch: &RefName) {}

    /// Sets `HEAD` to this branch, which exists at the target.
    fn set_head(&self, branch: &RefName) -> Result<HeadSet, MirrorError>;
}

/// Sets the `HEAD` of an end from a blocking thread.
pub struct EndHeadSetter {
    /// End whose `HEAD` is set.
    pub end: End,
    /// Runtime that drives requests to servers and stores.
    pub runtime: Handle,
}

impl HeadSetter for EndHeadSetter {
    fn can_set(&self) -> bool {
        match &self.end {
            End::Remote(repository) => repository.can_set_head(),
            End::Region(_) => true,
        }
    }

    fn comes_with_push(&self) -> bool {
        matches!(self.end, End::Region(_))
    }

    fn set_with_next_push(&self, branch: &RefName) {
        if let End::Region(server) = &self.end {
            server.set_head_with_next_push(RefValue::Symbolic(branch.clone()));
        }
    }

    fn set_head(&self, branch: &RefName) -> Result<HeadSet, MirrorError> {
        match &self.end {
            End::Remote(repository) => Ok(self.runtime.block_on(repository.set_head(branch))?),
            End::Region(server) => {
                server.set_head(&RefValue::Symbolic(branch.clone()))?;
                Ok(HeadSet::Done)
            }
        }
    }
}

/// Both endpoints of a link, and the link's actor in regions.
#[derive(Clone, Debug)]
pub(super) struct LinkEnds {
    source: Endpoint,
    target: Endpoint,
    actor: String,
}

impl LinkEnds {
    /// Endpoints of the link with this name.
    pub fn new(link: &str, source: Endpoint, target: Endpoint) -> Self {
        LinkEnds { source, target, actor: actor(link) }
    }

    pub fn source(&self) -> &Endpoint {
        &self.source
    }

    pub fn target(&self) -> &Endpoint {
        &self.target
    }

    /// Actor of the link's changes in regions.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Resolves a repository at both ends. Creates it in a target region that lacks it, unless `dry_run` is set.
    pub async fn open(&self, name: &str, dry_run: bool) -> Result<(End, End), MirrorError> {
        let source = match &self.source {
            Endpoint::Remote(remote) => End::Remote(remote.repository(name)?),
            Endpoint::Region(region) => {
                let item = region.repositories().get(name).await?;
                End::Region(RegionServer::new(region, item.id, &item.head.name, &Handle::current(), &self.actor))
            }
        };
        let target = match &self.target {
            Endpoint::Remote(remote) => End::Remote(remote.repository(name)?),
            Endpoint::Region(region) => End::Region(self.target_in(region, name, &source, dry_run).await?),
        };
        Ok((source, target))
    }

    /// Returns true if the error is the source's answer that it has no such repository. The same answer of the target
    /// does not count.
    pub fn source_lacks(&self, name: &str, error: &MirrorError) -> bool {
        match (error, &self.source) {
            (MirrorError::Client(ClientError::NotFound { server }), Endpoint::Remote(source)) => {
                source.repository(name).is_ok_and(|repository| repository.url() == server)
            }
            _ => false,
        }
    }

    async fn target_in(
        &self,
        region: &Region,
        name: &str,
        source: &End,
        dry_run: bool,
    ) -> Result<RegionServer, MirrorError> {
        let runtime = Handle::current();
        let actor = &self.actor;
        if let Some(item) = region.repositories().find(name).await? {
            region.committer().check_writable(&item)?;
            return Ok(RegionServer::new(region, item.id, name, &runtime, actor));
        }
        // Created only after the source has answered, with the source's object format.
        let source = source.clone();
        let format = move || Ok::<_, MirrorError>(UploadPack::open(&source)?.format());
        let format = blocking(format).await?;
        if dry_run {
            return Ok(RegionServer::absent(region, format, name, &runtime, actor));
        }
        let item = region.repositories().create(name, format, actor).await?;
        Ok(RegionServer::new(region, item.id, name, &runtime, actor))
    }
}

/// Actor of a link's changes in regions.
pub(super) fn actor(link: &str) -> String {
    format!("link {link}")
}
