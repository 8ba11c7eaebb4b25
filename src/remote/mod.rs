//! Git servers that gitferry did not build: the way to their repositories over HTTP and SSH, with whose credentials,
//! and the provider's API for what Git's protocol cannot say.
//!
//! ```text
//! Remote ──repository(name)──► RemoteRepository: git::client::Server ──► http/ or ssh/
//!                                                └─ set_head ──────────► head.rs
//! ```

mod error;
mod limits;
mod secret;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use error::RemoteError;
pub use limits::{Patience, PushLimits};
pub use secret::Secret;

use crate::clock::Clock;
use crate::config::{Config, RepositoryUrl, UrlTemplate};
use crate::git::client::{ClientError, Connection, Server};
use crate::git::protocol::{Service, Version};
use crate::git::refname::check_repository_name;
use crate::git::refs::RefName;

/// A configured Git server. Cheap to clone; what is cloned shares its connections.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    name: String,
    url: UrlTemplate,
    limits: PushLimits,
}

/// One repository at a [`Remote`].
#[derive(Clone)]
pub struct RemoteRepository {
    remote: Remote,
    name: String,
    url: RepositoryUrl,
    shown: String,
}

/// What became of a wish to set HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSet {
    /// HEAD names the branch now.
    Done,
    /// There is no API that gitferry knows of, or nobody to ask it as.
    NoApi,
}

impl Remote {
    /// The remote of a configuration with this name. Reads the files that it names, but reaches no server yet. What
    /// it does later runs on `runtime`.
    pub fn new(name: &str, config: &Config, _clock: Arc<dyn Clock>, _runtime: &Handle) -> Result<Remote, RemoteError> {
        let remote = config.remote(name)?;
        let unusable = |reason| RemoteError::Unusable { remote: name.into(), reason };
        let url = UrlTemplate::parse(&remote.url).map_err(unusable)?;
        let limits = PushLimits::new(remote.provider(), &remote.limits);
        Ok(Remote(Arc::new(Inner { name: name.into(), url, limits })))
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What one push may hold.
    pub fn limits(&self) -> &PushLimits {
        &self.0.limits
    }

    /// One of its repositories, which need not be there.
    pub fn repository(&self, name: &str) -> Result<RemoteRepository, RemoteError> {
        check_repository_name(name)?;
        let unusable = |reason| RemoteError::Unusable { remote: self.0.name.clone(), reason };
        let url = self.0.url.repository(name).map_err(unusable)?;
        Ok(RemoteRepository { remote: self.clone(), name: name.into(), shown: url.to_string(), url })
    }
}

impl RemoteRepository {
    /// Whose it is.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What one push may hold.
    pub fn limits(&self) -> &PushLimits {
        self.remote.limits()
    }

    /// Whether there is an API that sets HEAD.
    pub fn can_set_head(&self) -> bool {
        false
    }

    /// Makes HEAD name a branch, which must be there, through the provider's API.
    pub async fn set_head(&self, _branch: &RefName) -> Result<HeadSet, RemoteError> {
        Ok(HeadSet::NoApi)
    }
}

impl Server for RemoteRepository {
    fn url(&self) -> &str {
        &self.shown
    }

    fn connect(&self, _: Service, _: Version) -> Result<Box<dyn Connection>, ClientError> {
        let what = format!("be reached yet: {}", self.url);
        Err(ClientError::Unsupported { server: self.shown.clone(), what })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Remote").field(&self.0.name).finish()
    }
}

impl fmt::Debug for RemoteRepository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("RemoteRepository").field(&self.shown).finish()
    }
}
