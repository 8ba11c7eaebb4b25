//! The configuration file, `gitferry.toml`: regions and links.
//!
//! ```toml
//! [regions.us-east-1]
//! objects = "file:us-east-1/objects"        # relative to this file
//! table   = "sqlite:us-east-1/table.db"
//!
//! [links.dr]
//! source = "us-east-1"
//! target = "eu-west-1"
//! repositories = ["*"]
//! ```

mod aws;
mod events;
mod limits;
pub mod push_policy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use crate::Kind;
pub use aws::AwsConfig;
pub use events::{EventsConfig, region_of_queue};
pub use limits::HostLimits;
use push_policy::PushPolicyConfig;

/// The file that is read when neither `--config` nor `GITFERRY_CONFIG` names one.
pub const DEFAULT_FILE: &str = "gitferry.toml";
/// A configuration file is never larger than this many bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Longest name of a region or link, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// All of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Regions by name.
    #[serde(default)]
    pub regions: BTreeMap<String, RegionConfig>,
    /// Links by name.
    #[serde(default)]
    pub links: BTreeMap<String, LinkConfig>,
    /// Hosts by the region that they serve.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostConfig>,
    /// What repositories accept, in every region that takes pushes to them.
    #[serde(default)]
    pub push_policies: Vec<PushPolicyConfig>,
    /// The file it came from.
    #[serde(skip)]
    pub file: PathBuf,
}

/// Where a region keeps its state.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// The object store: `file:PATH`.
    pub objects: String,
    /// The table: `sqlite:PATH`.
    pub table: String,
    /// How it reaches AWS.
    #[serde(default)]
    pub aws: AwsConfig,
    /// Where its committed changes are announced; only within the process when left out.
    #[serde(default)]
    pub events: Option<EventsConfig>,
}

/// Git over HTTP for one region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// Where it is reached from outside, by clients and by other hosts; the address it listens on when left out.
    #[serde(default)]
    pub url: Option<String>,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Whether a push to a name that there is no repository of makes one.
    #[serde(default)]
    pub create_on_push: bool,
    /// Patterns of refs that nobody is shown, as in `--refs` of import.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// With what certificate it is served; without, in clear.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Certificates (PEM) by which other hosts recognise this one, relative to the configuration; those that the
    /// system trusts when left out.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What becomes of a push to a replica.
    #[serde(default)]
    pub on_push: OnPush,
    /// How much it takes on at a time, and how long it waits for whom.
    #[serde(default)]
    pub limits: HostLimits,
}

/// A certificate, as PEM files relative to the configuration. They are read again on SIGHUP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, and those that lead to its issuer.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What becomes of a push to a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPush {
    /// It is refused, with a message that names the primary's URL.
    #[default]
    Refuse,
    /// The primary's host is asked, and the answer ends when this region has the change, too.
    Forward,
}

/// How a host recognises people.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum AuthConfig {
    /// Not at all: only for a host that nobody else can reach.
    None(NoAuth),
    /// By tokens in a file.
    Tokens {
        /// The file, relative to the configuration: lines `name:token` or `name:token:read`.
        tokens: PathBuf,
    },
}

/// The word `none`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoAuth {
    /// Nobody is asked who they are.
    None,
}

impl HostConfig {
    /// Where clients reach it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }
}

/// One replication from a region to another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// The region that is read.
    pub source: String,
    /// The region that is written.
    pub target: String,
    /// Globs of repository names; `*` also matches `/`.
    #[serde(default = "all_repositories")]
    pub repositories: Vec<String>,
    /// Whether it shares its target's repositories with another link.
    #[serde(default)]
    pub mode: LinkMode,
    /// The URL of the SQS queue that tells what changed in the source.
    #[serde(default)]
    pub queue: Option<String>,
    /// The URL of the SQS queue for events that cannot be acted on.
    #[serde(default)]
    pub dead_letters: Option<String>,
    /// How the queues are reached; their region is the one in the URL when left out.
    #[serde(default)]
    pub aws: AwsConfig,
}

fn all_repositories() -> Vec<String> {
    vec!["*".into()]
}

/// Whether a link is the one that delivers a repository, or stands by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// The only active link that may deliver a repository to its target.
    #[default]
    Active,
    /// May deliver repositories that an active link delivers, too; both carry the same ledger.
    Standby,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("there is no configuration file {file}")]
    Missing {
        /// Its path.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("the configuration file {file} cannot be read: {error}")]
    Unreadable {
        /// Its path.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file says something that does not make sense.
    #[error("in {file}: {reason}")]
    Invalid {
        /// Its path.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No such region.
    #[error("there is no region {name} in {file}; it has {known}")]
    UnknownRegion {
        /// The name asked for.
        name: String,
        /// The configuration file.
        file: PathBuf,
        /// The regions that there are.
        known: String,
    },
    /// No such link.
    #[error("there is no link {name} in {file}; it has {known}")]
    UnknownLink {
        /// The name asked for.
        name: String,
        /// The configuration file.
        file: PathBuf,
        /// The links that there are.
        known: String,
    },
}

impl ConfigError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            ConfigError::Unreadable { .. } => Kind::Environment,
            _ => Kind::Usage,
        }
    }
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        use std::io::Read as _;
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing { file: file.into() },
            _ => ConfigError::Unreadable { file: file.into(), error },
        };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
        Config::parse(&text, file)
    }

    /// Checks the text of a configuration file.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        let invalid = |reason: String| ConfigError::Invalid { file: file.into(), reason };
        let mut config: Config = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        config.file = file.into();
        for (kind, name) in
            config.regions.keys().map(|name| ("region", name)).chain(config.links.keys().map(|name| ("link", name)))
        {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
                return Err(invalid(format!(
                    "`{name}` is not a name for a {kind}: use letters, digits, `-`, `_`, `.`"
                )));
            }
        }
        for (name, region) in &config.regions {
            config.location(&region.objects, "file").map_err(|e| invalid(format!("regions.{name}.objects: {e}")))?;
            config.location(&region.table, "sqlite").map_err(|e| invalid(format!("regions.{name}.table: {e}")))?;
        }
        config.check_distinct_stores().map_err(invalid)?;
        for (region, host) in &config.hosts {
            config.check_host(region, host).map_err(|reason| invalid(format!("hosts.{region}: {reason}")))?;
        }
        for (number, policy) in config.push_policies.iter().enumerate() {
            policy.check().map_err(|reason| invalid(format!("push_policies, number {}: {reason}", number + 1)))?;
        }
        for (name, link) in &config.links {
            config.check_link(link).map_err(|reason| invalid(format!("links.{name}: {reason}")))?;
        }
        Ok(config)
    }

    /// Regions share nothing.
    fn check_distinct_stores(&self) -> Result<(), String> {
        let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
        for (name, region) in &self.regions {
            let paths = [self.location(&region.objects, "file")?, self.location(&region.table, "sqlite")?];
            for path in paths {
                if let Some(other) = seen.insert(real_path(&path), name)
                    && other != name
                {
                    return Err(format!("the regions {other} and {name} use the same store; each needs its own"));
                }
            }
        }
        Ok(())
    }

    fn check_host(&self, region: &str, host: &HostConfig) -> Result<(), String> {
        if !self.regions.contains_key(region) {
            return Err(format!("there is no region {region}"));
        }
        if matches!(host.auth, AuthConfig::None(_)) && !host.listen.ip().is_loopback() {
            return Err(format!("{} can be reached by others; auth = \"none\" is for loopback only", host.listen));
        }
        if let Some(url) = &host.url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#'])) {
                return Err("url is not of the form https://HOST[:PORT][/PATH]".into());
            }
        }
        Ok(())
    }

    /// A path that a configuration names, relative to its folder.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn check_link(&self, link: &LinkConfig) -> Result<(), String> {
        for region in [&link.source, &link.target] {
            if !self.regions.contains_key(region) {
                return Err(format!("there is no region {region}"));
            }
        }
        if link.source == link.target {
            return Err("source and target are the same region".into());
        }
        events::check_queues(link.queue.as_deref(), link.dead_letters.as_deref())?;
        link.aws.check().map_err(|reason| format!("aws: {reason}"))?;
        link.matcher().map(drop)
    }

    /// The path in a location such as `file:///a/b` or `file:relative`, made absolute by the file's folder.
    fn location(&self, location: &str, scheme: &str) -> Result<PathBuf, String> {
        let Some(path) = location.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':')) else {
            return Err(format!("`{location}` is not of the form {scheme}:PATH"));
        };
        let path = match path.strip_prefix("//") {
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(_) => {
                return Err(format!("`{location}` names a host; write {scheme}:///absolute or {scheme}:relative"));
            }
            None => path,
        };
        if path.is_empty() {
            return Err(format!("`{location}` has no path"));
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(folder.join(".")).map_err(|error| error.to_string())?;
        Ok(folder.join(path))
    }

    /// A region's object store and table as paths.
    pub fn region_paths(&self, name: &str) -> Result<(PathBuf, PathBuf), ConfigError> {
        let region = self.regions.get(name).ok_or_else(|| ConfigError::UnknownRegion {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.regions.keys()),
        })?;
        let invalid = |reason| ConfigError::Invalid { file: self.file.clone(), reason };
        let objects = self.location(&region.objects, "file").map_err(invalid)?;
        let table = self.location(&region.table, "sqlite").map_err(invalid)?;
        Ok((objects, table))
    }

    /// A link by name.
    pub fn link(&self, name: &str) -> Result<&LinkConfig, ConfigError> {
        self.links.get(name).ok_or_else(|| ConfigError::UnknownLink {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.links.keys()),
        })
    }
}

impl LinkConfig {
    /// Matches the names of the repositories that the link carries.
    pub fn matcher(&self) -> Result<GlobSet, String> {
        name_matcher(&self.repositories)
    }
}

fn name_matcher(globs: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).build().map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}

/// The path without links, `.` and `..`, so that one place has one spelling. Parts that do not exist yet
/// are taken by their letters.
fn real_path(path: &Path) -> PathBuf {
    use std::path::Component;
    let found = path.ancestors().find_map(|there| Some((there.canonicalize().ok()?, path.strip_prefix(there).ok()?)));
    let Some((mut real, rest)) = found else { return path.into() };
    for component in rest.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => _ = real.pop(),
            other => real.push(other),
        }
    }
    real
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
