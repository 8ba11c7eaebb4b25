//! Opening a link that a configuration names.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::endpoint::Endpoint;
use super::pass::RemoteLink;
use super::policy::RefPolicy;
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError};
use crate::region::Region;
use crate::region::open::{OpenError, open_link_table};
use crate::remote::{Remote, RemoteError};
use crate::replication::progress::Progress;

/// Why a link with a remote could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLinkError {
    /// The configuration does not allow it, or a region or table does not open.
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
    /// What the caller should do.
    pub fn kind(&self) -> crate::Kind {
        match self {
            OpenLinkError::Open(error) => error.kind(),
            OpenLinkError::Remote(error) => error.kind(),
        }
    }
}

impl RemoteLink {
    /// Opens a link of a configuration that has a remote at one end.
    pub async fn open(config: &Config, name: &str) -> Result<RemoteLink, OpenLinkError> {
        let link = config.link(name)?;
        let invalid =
            |reason| ConfigError::Invalid { file: config.file.clone(), reason: format!("links.{name}: {reason}") };
        let policy = RefPolicy::of(link).map_err(invalid)?;
        let repositories = link.matcher().map_err(invalid)?;
        let (source, target) = (endpoint(config, &link.source).await?, endpoint(config, &link.target).await?);
        let table = match (&source, &target) {
            (_, Endpoint::Region(region)) | (Endpoint::Region(region), _) => Some(region.table.clone()),
            _ => match config.link_table(link).map_err(invalid)? {
                Some(location) => {
                    Some(open_link_table(config, &location, &link.aws, name).await.map_err(OpenError::from)?)
                }
                None => None,
            },
        };
        let via = match &link.via {
            Some(via) => Some(Region::open_writable(config, via).await?),
            None => None,
        };
        Ok(RemoteLink {
            name: name.into(),
            source,
            target,
            repositories,
            names: link.literal_names().cloned().collect(),
            policy: Arc::new(policy),
            lfs: link.lfs.unwrap_or_default(),
            lfs_missing: link.lfs_missing.unwrap_or_default(),
            via,
            table,
            clock: SystemClock::shared(),
            allow_empty: false,
            progress: Arc::new(Progress::default()),
        })
    }
}

async fn endpoint(config: &Config, name: &str) -> Result<Endpoint, OpenLinkError> {
    Ok(match config.remotes.contains_key(name) {
        true => Endpoint::Remote(Remote::new(name, config, SystemClock::shared(), &Handle::current())?),
        false => Endpoint::Region(Region::open_writable(config, name).await?),
    })
}
