//! Configuration, regions and links for the commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gitferry_config::{Config, DEFAULT_FILE, LinkConfig, LinkMode};
use gitferry_engine::region::Region;
use gitferry_git::memory::{self, DEFAULT_BUDGET_BYTES, DEFAULT_READ_BUDGET_BYTES};
use gitferry_replication::link::Link;
use gitferry_replication::mirror::RemoteLink;
use gitferry_replication::progress::Progress;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_service::delivery;
use gitferry_service::open;
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::replicas::fence_if_rolled_back;

/// Environment variable with the text of the configuration, for containers and functions without a file.
pub const CONFIG_TEXT_VARIABLE: &str = "GITFERRY_CONFIG_TOML";

/// Source of the configuration, which is read when a command needs it.
#[derive(Debug)]
pub struct Context {
    place: Place,
}

/// Source of the configuration.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// Text of the environment variable [`CONFIG_TEXT_VARIABLE`].
    Text(OsString),
    /// [`DEFAULT_FILE`] in the working directory.
    Default,
}

/// Sets the memory budgets of the process to those of the configuration, which is returned.
pub fn with_memory_budgets(config: Config) -> Config {
    let bytes = config.push_memory.map_or(DEFAULT_BUDGET_BYTES, |size| size.as_u64());
    memory::budget().set_total(bytes);
    let bytes = config.read_memory.map_or(DEFAULT_READ_BUDGET_BYTES, |size| size.as_u64());
    memory::reads().set_total(bytes);
    config
}

impl Context {
    /// Context for a configuration file.
    pub fn new(file: PathBuf) -> Self {
        Context { place: Place::File(file) }
    }

    /// Context for `file` if given, else for the text in [`CONFIG_TEXT_VARIABLE`], else for [`DEFAULT_FILE`].
    pub fn find(file: Option<PathBuf>) -> Self {
        let text = || std::env::var_os(CONFIG_TEXT_VARIABLE).filter(|text| !text.is_empty());
        let place = match file {
            Some(file) => Place::File(file),
            None => text().map_or(Place::Default, Place::Text),
        };
        Context { place }
    }

    /// Returns true if an option or variable named the configuration.
    pub fn is_given(&self) -> bool {
        !matches!(self.place, Place::Default)
    }

    /// Reads the configuration. Paths in a text are relative to the working directory, paths in a file to its folder.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(with_memory_budgets(match &self.place {
            Place::File(file) => Config::load(file)?,
            Place::Text(text) => {
                let not_utf8 = || Failure::usage(format!("the text in {CONFIG_TEXT_VARIABLE} is not UTF-8"));
                Config::parse(text.to_str().ok_or_else(not_utf8)?, Path::new(CONFIG_TEXT_VARIABLE))?
            }
            Place::Default => Config::load(Path::new(DEFAULT_FILE))?,
        }))
    }

    /// Opens a region for reading.
    pub async fn region(&self, name: &str) -> Result<Region, Failure> {
        Ok(open::region(&self.config()?, name).await?)
    }

    /// Opens a region for writing.
    pub async fn writable_region(&self, name: &str) -> Result<Region, Failure> {
        Ok(open::writable_region(&self.config()?, name).await?)
    }

    /// Opens a region to change one of its repositories (name or id). The region refuses changes if a replica has changes
    /// of the repository that the region lacks.
    pub async fn region_to_change(&self, region: &str, repository: &str) -> Result<Region, Failure> {
        let config = self.config()?;
        let mut region = open::writable_region(&config, region).await?;
        fence_if_rolled_back(&config, self, &mut region, Some(repository)).await;
        Ok(region)
    }

    /// Opens a link of either kind; `writable` for a pass, else only for reading.
    pub async fn any_link(&self, config: &Config, name: &str, writable: bool) -> Result<AnyLink, Failure> {
        Ok(match (config.has_remote(config.link(name)?), writable) {
            (true, _) => AnyLink::Mirror(Box::new(open::remote_link(config, name).await?)),
            (false, true) => AnyLink::Regions(Box::new(self.writable_link(config, name).await?)),
            (false, false) => AnyLink::Regions(Box::new(self.link(config, name).await?)),
        })
    }

    /// Opens a link for deliveries.
    pub async fn delivery_link(&self, config: &Config, name: &str) -> Result<Arc<dyn delivery::Link>, Failure> {
        Ok(self.any_link(config, name, true).await?.into_delivery())
    }

    /// Opens a link between two regions for reading.
    pub async fn link(&self, config: &Config, name: &str) -> Result<Link, Failure> {
        let target = open::region(config, &regions_of(config, name)?.target).await?;
        open_link(config, name, target).await
    }

    /// Opens a link between two regions with a writable target.
    pub async fn writable_link(&self, config: &Config, name: &str) -> Result<Link, Failure> {
        let target = open::writable_region(config, &regions_of(config, name)?.target).await?;
        open_link(config, name, target).await
    }
}

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

/// Returns the configuration of a link, which must be between two regions.
fn regions_of<'c>(config: &'c Config, name: &str) -> Result<&'c LinkConfig, Failure> {
    let link = config.link(name)?;
    if config.has_remote(link) {
        let hint = format!("use `gitferry replicate {name}`, `status {name}` or `explain {name} NAME` for such links");
        let reason = format!("link {name} has a remote at one end: this command is for links between regions");
        return Err(Failure::usage(reason).hint(hint));
    }
    Ok(link)
}

async fn open_link(config: &Config, name: &str, target: Region) -> Result<Link, Failure> {
    let link = regions_of(config, name)?;
    let active = config.links.iter().filter(|(_, link)| link.mode == LinkMode::Active);
    let active_links: Vec<String> = active.map(|(name, _)| name.clone()).collect();
    Ok(Link {
        name: name.into(),
        source: open::region(config, &link.source).await?,
        target,
        repositories: link.carried_names().map_err(Failure::usage)?,
        mode: link.mode,
        active_links: active_links.into(),
        memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
        progress: Arc::new(Progress::default()),
    })
}

/// Returns the login name, the default actor of a change; `unknown` without one.
pub fn actor() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    user.ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".into())
}
