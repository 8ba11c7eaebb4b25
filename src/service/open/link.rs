//! Opening a link that a configuration names.

use tokio::runtime::Handle;

use super::{OpenError, open_link_table, writable_region};
use gitferry_base::clock::SystemClock;
use gitferry_config::{Config, ConfigError};
use gitferry_remote::{Remote, RemoteError};
use gitferry_replication::mirror::endpoint::Endpoint;
use gitferry_replication::mirror::policy::RefPolicy;
use gitferry_replication::mirror::{RemoteLink, RemoteLinkParts};

/// Reason why a link with a remote could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLinkError {
    /// The configuration is not valid, or a region or table does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The remote cannot be used.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl From<ConfigError> for OpenLinkError {
    fn from(error: ConfigError) -> Self {
        OpenLinkError::Open(error.into())
    }
}

impl OpenLinkError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            OpenLinkError::Open(error) => error.kind(),
            OpenLinkError::Remote(error) => error.kind(),
        }
    }
}

/// Opens a link of a configuration that has a remote at one end.
pub async fn remote_link(config: &Config, name: &str) -> Result<RemoteLink, OpenLinkError> {
    let link = config.link(name)?;
    let invalid =
        |reason| ConfigError::Invalid { file: config.file.clone(), reason: format!("links.{name}: {reason}") };
    let policy = RefPolicy::of(link).map_err(invalid)?;
    let repositories = link.matcher().map_err(invalid)?;
    let (source, target) = (endpoint(config, &link.source).await?, endpoint(config, &link.target).await?);
    let table = match (&source, &target) {
        (_, Endpoint::Region(region)) | (Endpoint::Region(region), _) => Some(region.shared_table().clone()),
        _ => match config.link_table(link).map_err(invalid)? {
            Some(location) => Some(open_link_table(config, &location, &link.aws, name).await.map_err(OpenError::from)?),
            None => None,
        },
    };
    let via = match &link.via {
        Some(via) => Some(writable_region(config, via).await?),
        None => None,
    };
    Ok(RemoteLink::new(RemoteLinkParts {
        name: name.into(),
        source,
        target,
        repositories,
        names: link.literal_names().cloned().collect(),
        policy,
        lfs: link.lfs.unwrap_or_default(),
        lfs_missing: link.lfs_missing.unwrap_or_default(),
        via,
        table,
        clock: SystemClock::shared(),
    }))
}

async fn endpoint(config: &Config, name: &str) -> Result<Endpoint, OpenLinkError> {
    if config.remotes.contains_key(name) {
        return Ok(Endpoint::Remote(Remote::new(name, config, SystemClock::shared(), &Handle::current())?));
    }
    Ok(Endpoint::Region(writable_region(config, name).await?))
}
