//! Configuration and regions for the commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gitferry_config::{Config, DEFAULT_FILE};
use gitferry_engine::ledger::change::Actor;
use gitferry_engine::region::Region;
use gitferry_git::memory::{self, DEFAULT_BUDGET_BYTES, DEFAULT_READ_BUDGET_BYTES};
use gitferry_service::open;

use super::failure::Failure;
use super::places::CONFIG_TEXT_VARIABLE;
use super::replicas::fence_if_rolled_back;

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
        fence_if_rolled_back(&config, &mut region, Some(repository)).await;
        Ok(region)
    }
}

/// Returns the default actor of a change: the login name, and the machine on which the command runs.
pub fn actor() -> String {
    Actor::new(&login_name(), machine().as_deref()).to_string()
}

/// Returns the login name; `unknown` without one.
pub fn login_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    user.ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".into())
}

/// Returns the name of this machine: `HOSTNAME`, or what the system says; `None` if that is empty.
pub fn machine() -> Option<String> {
    let name = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"));
    name.ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}
