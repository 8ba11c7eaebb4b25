//! What every command needs: the configuration, opened regions, links.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gitferry_config::{Config, DEFAULT_FILE, LinkConfig, LinkMode};
use gitferry_engine::region::Region;
use gitferry_git::memory::{self, DEFAULT_BUDGET_BYTES, DEFAULT_READ_BUDGET_BYTES};
use gitferry_replication::AnyLink;
use gitferry_replication::deliver::Link;
use gitferry_replication::progress::Progress;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use gitferry_service::open;
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::replicas::look_at_replicas;

/// The variable that may hold the text of the configuration: for containers and functions, which are given no file.
pub const CONFIG_TEXT_VARIABLE: &str = "GITFERRY_CONFIG_TOML";

/// Knows where the configuration is; reads it when a command needs it.
#[derive(Debug)]
pub struct Context {
    place: Place,
}

/// Where the configuration is.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// In the environment.
    Text(OsString),
    /// Where it is when nobody says anything.
    Usual,
}

/// Makes what a configuration says of the process as a whole hold.
pub fn in_force(config: Config) -> Config {
    let bytes = config.push_memory.map_or(DEFAULT_BUDGET_BYTES, |size| size.as_u64());
    memory::budget().set_total(bytes);
    let bytes = config.read_memory.map_or(DEFAULT_READ_BUDGET_BYTES, |size| size.as_u64());
    memory::reads().set_total(bytes);
    config
}

impl Context {
    /// A context on a configuration file.
    pub fn new(file: PathBuf) -> Self {
        Context { place: Place::File(file) }
    }

    /// A context on the file that was named, else on the text in [`CONFIG_TEXT_VARIABLE`], else on the usual file.
    pub fn find(file: Option<PathBuf>) -> Self {
        let text = || std::env::var_os(CONFIG_TEXT_VARIABLE).filter(|text| !text.is_empty());
        let place = match file {
            Some(file) => Place::File(file),
            None => text().map_or(Place::Usual, Place::Text),
        };
        Context { place }
    }

    /// Whether somebody has said where the configuration is.
    pub fn is_given(&self) -> bool {
        !matches!(self.place, Place::Usual)
    }

    /// Reads the configuration. What a text says of paths is relative to the working directory.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(in_force(match &self.place {
            Place::File(file) => Config::load(file)?,
            Place::Text(text) => {
                let not_utf8 = || Failure::usage(format!("the text in {CONFIG_TEXT_VARIABLE} is not UTF-8"));
                Config::parse(text.to_str().ok_or_else(not_utf8)?, Path::new(CONFIG_TEXT_VARIABLE))?
            }
            Place::Usual => Config::load(Path::new(DEFAULT_FILE))?,
        }))
    }

    /// Opens a region to read it.
    pub async fn region(&self, name: &str) -> Result<Region, Failure> {
        Ok(open::region(&self.config()?, name).await?)
    }

    /// Opens a region to write it.
    pub async fn writable_region(&self, name: &str) -> Result<Region, Failure> {
        Ok(open::writable_region(&self.config()?, name).await?)
    }

    /// Opens a region to change one repository of it, by its name or id: a change is refused where a replica has changes
    /// of it that the region lacks.
    pub async fn region_to_change(&self, region: &str, repository: &str) -> Result<Region, Failure> {
        let config = self.config()?;
        let mut region = open::writable_region(&config, region).await?;
        look_at_replicas(&config, self, &mut region, Some(repository)).await;
        Ok(region)
    }

    /// Opens a link, whatever is at its ends; `writable` says that a pass is to run over it.
    pub async fn any_link(&self, config: &Config, name: &str, writable: bool) -> Result<AnyLink, Failure> {
        Ok(match (config.has_remote(config.link(name)?), writable) {
            (true, _) => open::remote_link(config, name).await?.into(),
            (false, true) => self.writable_link(config, name).await?.into(),
            (false, false) => self.link(config, name).await?.into(),
        })
    }

    /// Opens a link with both its regions, to look at what they hold.
    pub async fn link(&self, config: &Config, name: &str) -> Result<Link, Failure> {
        let target = open::region(config, &regions_of(config, name)?.target).await?;
        open_link(config, name, target).await
    }

    /// Opens a link with both its regions, to write the target.
    pub async fn writable_link(&self, config: &Config, name: &str) -> Result<Link, Failure> {
        let target = open::writable_region(config, &regions_of(config, name)?.target).await?;
        open_link(config, name, target).await
    }
}

/// A link between two regions.
fn regions_of<'c>(config: &'c Config, name: &str) -> Result<&'c LinkConfig, Failure> {
    let link = config.link(name)?;
    match config.has_remote(link) {
        true => Err(Failure::usage(format!("link {name} has a remote at one end: this command is for regions")).hint(
            format!("`gitferry replicate {name}`, `status {name}` and `explain {name} NAME` are for such links"),
        )),
        false => Ok(link),
    }
}

async fn open_link(config: &Config, name: &str, target: Region) -> Result<Link, Failure> {
    let link = regions_of(config, name)?;
    let active = config.links.iter().filter(|(_, link)| link.mode == LinkMode::Active);
    let active_links: Vec<String> = active.map(|(name, _)| name.clone()).collect();
    Ok(Link {
        name: name.into(),
        source: open::region(config, &link.source).await?,
        target,
        repositories: link.matcher().map_err(Failure::usage)?,
        mode: link.mode,
        active_links: active_links.into(),
        memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
        progress: Arc::new(Progress::default()),
    })
}

/// Who a change is attributed to when the command does not say: the login name.
pub fn actor() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    user.ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".into())
}
