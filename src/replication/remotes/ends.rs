//! The two ends of a repository on a link: a Git server, or a region that stands in for one.

use tokio::runtime::Handle;

use super::endpoint::Endpoint;
use super::error::RemotesError;
use super::pass::RemoteLink;
use super::relay::Heads;
use gitferry_engine::region::server::RegionServer;
use gitferry_engine::region::{Region, blocking};
use gitferry_git::client::{ClientError, Connection, Server, UploadPack};
use gitferry_git::protocol::{Service, Version};
use gitferry_git::refs::{RefName, RefValue};
use gitferry_remote::{HeadSet, PushLimits, RemoteRepository};

/// A repository at one end of a link.
#[derive(Clone, Debug)]
pub enum End {
    /// At a Git server.
    Remote(RemoteRepository),
    /// In a region.
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
    /// What one push may hold.
    pub fn limits(&self) -> PushLimits {
        match self {
            End::Remote(repository) => repository.limits().clone(),
            End::Region(_) => PushLimits::none(),
        }
    }
}

/// How the `HEAD` of an end is set, for a thread that waits.
pub struct EndHeads {
    /// The end.
    pub end: End,
    /// What waits for servers and stores.
    pub runtime: Handle,
}

impl Heads for EndHeads {
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

    fn set_head(&self, branch: &RefName) -> Result<HeadSet, RemotesError> {
        match &self.end {
            End::Remote(repository) => Ok(self.runtime.block_on(repository.set_head(branch))?),
            End::Region(server) => {
                server.set_head(&RefValue::Symbolic(branch.clone()))?;
                Ok(HeadSet::Done)
            }
        }
    }
}

impl RemoteLink {
    /// The repository at both ends. A region that is the target and lacks it makes it, unless this is only a look.
    pub(super) async fn ends(&self, name: &str, look_only: bool) -> Result<(End, End), RemotesError> {
        let source = match &self.source {
            Endpoint::Remote(remote) => End::Remote(remote.repository(name)?),
            Endpoint::Region(region) => {
                let item = region.get(name).await?;
                End::Region(RegionServer::new(region, item.id, &item.head.name, &Handle::current(), &self.actor()))
            }
        };
        let target = match &self.target {
            Endpoint::Remote(remote) => End::Remote(remote.repository(name)?),
            Endpoint::Region(region) => End::Region(self.target_in(region, name, &source, look_only).await?),
        };
        Ok((source, target))
    }

    async fn target_in(
        &self,
        region: &Region,
        name: &str,
        source: &End,
        look_only: bool,
    ) -> Result<RegionServer, RemotesError> {
        let (runtime, actor) = (Handle::current(), self.actor());
        if let Some(item) = region.find(name).await? {
            region.check_writable(&item)?;
            return Ok(RegionServer::new(region, item.id, name, &runtime, &actor));
        }
        // A repository is made only for a source that answers, and names objects as that does.
        let source = source.clone();
        let format = move || Ok::<_, RemotesError>(UploadPack::open(&source)?.format());
        let format = blocking(format).await?;
        if look_only {
            return Ok(RegionServer::absent(region, format, name, &runtime, &actor));
        }
        let item = region.create(name, format, &actor).await?;
        Ok(RegionServer::new(region, item.id, name, &runtime, &actor))
    }

    /// In whose name changes of regions are made.
    pub(super) fn actor(&self) -> String {
        actor(&self.name)
    }
}

/// In whose name a link changes regions.
pub(super) fn actor(link: &str) -> String {
    format!("link {link}")
}
