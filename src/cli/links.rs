//! Opening of links for the commands.

use std::sync::Arc;

use gitferry_config::{Config, LinkConfig, LinkMode};
use gitferry_engine::region::Region;
use gitferry_replication::link::Link;
use gitferry_replication::mirror::RemoteLink;
use gitferry_replication::progress::Progress;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_service::delivery;
use gitferry_service::open;
use tokio::sync::Semaphore;

use super::failure::Failure;

/// A link of either kind, for commands that treat them differently.
#[derive(Debug)]
pub enum AnyLink {
    /// From a region to a region.
    Regions(Box<Link>),
    /// With a remote at one end.
    Mirror(Box<RemoteLink>),
}

impl AnyLink {
    /// Converts the link for delivery.
    pub fn into_delivery(self) -> Arc<dyn delivery::Link> {
        match self {
            AnyLink::Regions(link) => Arc::new(*link),
            AnyLink::Mirror(link) => Arc::new(*link),
        }
    }
}

/// Opens a link of either kind; `writable` for a pass, else only for reading.
pub async fn open_any(config: &Config, name: &str, writable: bool) -> Result<AnyLink, Failure> {
    Ok(match (config.has_remote(config.link(name)?), writable) {
        (true, _) => AnyLink::Mirror(Box::new(open::remote_link(config, name).await?)),
        (false, true) => AnyLink::Regions(Box::new(open_writable(config, name).await?)),
        (false, false) => AnyLink::Regions(Box::new(open_readable(config, name).await?)),
    })
}

/// Opens a link for deliveries.
pub async fn open_for_delivery(config: &Config, name: &str) -> Result<Arc<dyn delivery::Link>, Failure> {
    Ok(open_any(config, name, true).await?.into_delivery())
}

/// Opens a link between two regions for reading.
pub async fn open_readable(config: &Config, name: &str) -> Result<Link, Failure> {
    let target = open::region(config, &between_regions(config, name)?.target).await?;
    with_target(config, name, target).await
}

/// Opens a link between two regions with a writable target.
pub async fn open_writable(config: &Config, name: &str) -> Result<Link, Failure> {
    let target = open::writable_region(config, &between_regions(config, name)?.target).await?;
    with_target(config, name, target).await
}

/// Returns the configuration of a link, which must be between two regions.
fn between_regions<'c>(config: &'c Config, name: &str) -> Result<&'c LinkConfig, Failure> {
    let link = config.link(name)?;
    if config.has_remote(link) {
        let hint = format!("use `gitferry replicate {name}`, `status {name}` or `explain {name} NAME` for such links");
        let reason = format!("link {name} has a remote at one end: this command is for links between regions");
        return Err(Failure::usage(reason).hint(hint));
    }
    Ok(link)
}

async fn with_target(config: &Config, name: &str, target: Region) -> Result<Link, Failure> {
    let link = between_regions(config, name)?;
    let active = config.links.iter().filter(|(_, link)| link.mode == LinkMode::Active);
    let active_links: Vec<String> = active.map(|(name, _)| name.clone()).collect();
    let with_account = config.links.iter().filter(|(_, link)| config.carries_account(link));
    let account_links: Vec<String> = with_account.map(|(name, _)| name.clone()).collect();
    Ok(Link {
        name: name.into(),
        source: open::region(config, &link.source).await?,
        target,
        repositories: link.carried_names().map_err(Failure::usage)?,
        mode: link.mode,
        active_links: active_links.into(),
        account_links: account_links.into(),
        memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
        progress: Arc::new(Progress::default()),
    })
}
