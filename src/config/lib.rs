//! The configuration file, `gitferry.toml`: regions, remotes and links.
//!
//! ```toml
//! [regions.us-east-1]
//! objects = "file:us-east-1/objects"        # relative to this file
//! table   = "sqlite:us-east-1/table.db"
//!
//! [regions.eu-west-1]
//! objects = "s3://bucket/prefix"
//! table   = "dynamodb://table-name"
//! aws     = { region = "eu-west-1" }        # more settings: see AwsConfig
//!
//! [remotes.backup]                            # any Git server: see RemoteConfig
//! url = "https://git.example.com/{name}.git"
//!
//! [links.dr]
//! source = "us-east-1"
//! target = "eu-west-1"
//! repositories = ["*"]
//! ```

mod cache;
mod events;
mod limits;
mod link;
mod location;
mod network;
mod overlap;
pub mod push_policy;
mod recovery;
mod remote;
mod remote_url;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::SignedDuration;
use serde::Deserialize;

pub use cache::CacheConfig;
pub use events::{EventsConfig, region_of_queue};
use gitferry_base::Kind;
pub use gitferry_engine::region::RECOVERY_WINDOW;
pub use gitferry_store::aws::AwsConfig;
use gitferry_store::aws::SdkConfigs;
pub use limits::{HostLimits, parse_duration};
pub use link::{CarriedNames, Deletions, Divergence, LfsMode, LinkConfig, LinkMode};
pub use location::{ObjectsLocation, Place, RegionStores, TableLocation};
pub use network::Network;
use push_policy::PushPolicyConfig;
pub use remote::{Provider, RemoteAuth, RemoteConfig, RemoteLimits};
pub use remote_url::{RepositoryUrl, SshUrl, UrlTemplate, host_of, in_url};

/// Configuration file if neither `--config` nor `GITFERRY_CONFIG` names one.
pub const DEFAULT_FILE: &str = "gitferry.toml";
/// Largest configuration file in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Longest name of a region, remote or link, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A validated configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Regions by name.
    #[serde(default)]
    pub regions: BTreeMap<String, RegionConfig>,
    /// Git servers by name. A remote and a region must not share a name.
    #[serde(default)]
    pub remotes: BTreeMap<String, RemoteConfig>,
    /// Links by name.
    #[serde(default)]
    pub links: BTreeMap<String, LinkConfig>,
    /// Hosts by the region that they serve.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostConfig>,
    /// Rules for pushes, applied in every region that accepts pushes. The first policy that matches a repository
    /// applies.
    #[serde(default)]
    pub push_policies: Vec<PushPolicyConfig>,
    /// Memory budget of all pushes of this process for large objects, object tables and command lists. Defaults to
    /// [`DEFAULT_BUDGET_BYTES`], at least [`MIN_BUDGET_BYTES`].
    ///
    /// [`DEFAULT_BUDGET_BYTES`]: gitferry_git::memory::DEFAULT_BUDGET_BYTES
    /// [`MIN_BUDGET_BYTES`]: gitferry_git::memory::MIN_BUDGET_BYTES
    #[serde(default, deserialize_with = "limits::some_size")]
    pub push_memory: Option<ByteSize>,
    /// Memory budget of all reads of stored objects in this process for large objects and caches. Defaults to
    /// [`DEFAULT_READ_BUDGET_BYTES`], at least [`MIN_BUDGET_BYTES`]. Objects beyond the budget are spooled to files.
    ///
    /// [`DEFAULT_READ_BUDGET_BYTES`]: gitferry_git::memory::DEFAULT_READ_BUDGET_BYTES
    /// [`MIN_BUDGET_BYTES`]: gitferry_git::memory::MIN_BUDGET_BYTES
    #[serde(default, deserialize_with = "limits::some_size")]
    pub read_memory: Option<ByteSize>,
    /// Path of the file.
    #[serde(skip)]
    pub file: PathBuf,
    /// SDK configurations that the regions share, built on first use.
    #[serde(skip)]
    pub sdk: SdkConfigs,
}

/// `[regions.NAME]`: stores of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Object store: `file:PATH` or `s3://BUCKET[/PREFIX]`.
    pub objects: String,
    /// Table: `sqlite:PATH` or `dynamodb://TABLE`.
    pub table: String,
    /// Settings of the region's AWS services.
    #[serde(default)]
    pub aws: AwsConfig,
    /// KMS key (id, ARN or alias) that encrypts objects in S3. Defaults to the bucket's encryption.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Storage class of objects in S3, such as `STANDARD_IA`. Defaults to `STANDARD`.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// Local cache of packs that are in S3.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Event bus for committed changes: `eventbridge:BUS`. Without a bus, changes wake only workers of this process.
    #[serde(default)]
    pub events: Option<EventsConfig>,
    /// Time for which unreferenced data is kept, so that a table restored to a moment within the window finds its
    /// packs.
    #[serde(default = "recovery::default_window", deserialize_with = "recovery::window")]
    pub recovery_window: SignedDuration,
}

/// `[hosts.REGION]`: the Git host in front of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Address and port to listen on.
    #[serde(deserialize_with = "limits::address")]
    pub listen: SocketAddr,
    /// URL for clients and other hosts. Defaults to the address of `listen`.
    #[serde(default)]
    pub url: Option<String>,
    /// Authentication of clients.
    pub auth: AuthConfig,
    /// Networks of trusted reverse proxies. Their `X-Forwarded-For`, `-Proto`, `-Host` or `Forwarded` headers determine
    /// the client's address and the scheme and host of the requested URL.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// True if a push to a repository that does not exist creates it.
    #[serde(default)]
    pub create_on_push: bool,
    /// Patterns of refs that are never advertised, in the syntax of `import --refs`.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// True if fetches may request refs by name, as with Git's `uploadpack.allowRefInWant`, which is also off by
    /// default: a clone of a branch that is pushed to meanwhile may then fail.
    #[serde(default)]
    pub ref_in_want: bool,
    /// Server certificate. Without one, the host serves plain HTTP.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// PEM file of the certificates by which other hosts verify this one, relative to the configuration. Defaults to
    /// the system's trusted certificates.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Reaction to a push to a replica.
    #[serde(default)]
    pub on_push: OnPush,
    /// Limits on concurrency and waiting times.
    #[serde(default)]
    pub limits: HostLimits,
}

/// Paths of PEM files, relative to the configuration. The files are read again on SIGHUP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
}

/// Reaction to a push to a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPush {
    /// Refuse the push with a message that contains the primary's URL.
    #[default]
    Refuse,
    /// Forward the push to the primary's host, and complete the answer once this region has the change.
    Forward,
}

/// Authentication of a host's clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum AuthConfig {
    /// No authentication. Allowed on loopback addresses only.
    None(NoAuth),
    /// Tokens from a file.
    Tokens {
        /// Path of the file, relative to the configuration; see `TokenFile` of the host.
        tokens: PathBuf,
    },
}

/// The literal `none`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoAuth {
    /// Clients are not authenticated and have full access.
    None,
}

impl HostConfig {
    /// URL for clients: `url`, or else the address of `listen`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }
}

/// A configuration cannot be used, or lacks a requested entry.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist.
    #[error("there is no configuration file {file}")]
    Missing {
        /// Path of the file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {file}: {error}")]
    Unreadable {
        /// Path of the file.
        file: PathBuf,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// The file is not valid TOML, or a setting is invalid.
    #[error("in {file}: {reason}")]
    Invalid {
        /// Path of the file.
        file: PathBuf,
        /// Setting and violation.
        reason: String,
    },
    /// The file has no such region.
    #[error("there is no region {name} in {file}; it has {known}")]
    UnknownRegion {
        /// Requested name.
        name: String,
        /// Path of the configuration file.
        file: PathBuf,
        /// Names of the configured regions.
        known: String,
    },
    /// The file has no such remote.
    #[error("there is no remote {name} in {file}; it has {known}")]
    UnknownRemote {
        /// Requested name.
        name: String,
        /// Path of the configuration file.
        file: PathBuf,
        /// Names of the configured remotes.
        known: String,
    },
    /// The file has no such link.
    #[error("there is no link {name} in {file}; it has {known}")]
    UnknownLink {
        /// Requested name.
        name: String,
        /// Path of the configuration file.
        file: PathBuf,
        /// Names of the configured links.
        known: String,
    },
}

impl ConfigError {
    /// Classifies the error by what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            ConfigError::Unreadable { .. } => Kind::Environment,
            _ => Kind::Usage,
        }
    }
}

impl Config {
    /// Reads and validates a configuration file.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        use std::io::Read as _;
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing { file: file.into() },
            _ => ConfigError::Unreadable { file: file.into(), error },
        };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let invalid = |reason: String| ConfigError::Invalid { file: file.into(), reason };
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(invalid(format!(
                "the file has more than {MAX_FILE_BYTES} bytes and cannot be a configuration"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            invalid(format!("line {line} is not UTF-8: save the file as UTF-8"))
        })?;
        Config::parse(&text, file)
    }

    /// Parses and validates the text of a configuration file. `file` is the base of relative paths.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        let invalid = |reason: String| ConfigError::Invalid { file: file.into(), reason };
        let mut config: Config = toml::from_str(text).map_err(|error| invalid(not_toml(&error, text)))?;
        config.file = file.into();
        let regions = config.regions.keys().map(|name| ("region", name));
        let remotes = config.remotes.keys().map(|name| ("remote", name));
        let links = config.links.keys().map(|name| ("link", name));
        for (kind, name) in regions.chain(remotes).chain(links) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
                return Err(invalid(format!(
                    "`{name}` is not a name for a {kind}: use at most {MAX_NAME_BYTES} letters, digits, `-`, `_`, `.`"
                )));
            }
        }
        for (name, region) in &config.regions {
            region.stores(config.folder()).map_err(|reason| invalid(format!("regions.{name}.{reason}")))?;
        }
        config.check_distinct_stores().map_err(invalid)?;
        for (name, remote) in &config.remotes {
            if config.regions.contains_key(name) {
                return Err(invalid(format!("{name} is the name of a region and of a remote; rename one")));
            }
            remote.check().map_err(|reason| invalid(format!("remotes.{name}: {reason}")))?;
        }
        for (region, host) in &config.hosts {
            config.check_host(region, host).map_err(|reason| invalid(format!("hosts.{region}: {reason}")))?;
        }
        for (number, policy) in config.push_policies.iter().enumerate() {
            policy.check().map_err(|reason| invalid(format!("push_policies, number {}: {reason}", number + 1)))?;
        }
        for (name, link) in &config.links {
            config.check_link(link).map_err(|reason| invalid(format!("links.{name}: {reason}")))?;
        }
        config.check_distinct_links().map_err(invalid)?;
        Ok(config)
    }

    /// Verifies that no two regions use the same store.
    fn check_distinct_stores(&self) -> Result<(), String> {
        let mut seen: Vec<(&str, Place)> = Vec::new();
        for (name, region) in &self.regions {
            let places = region.stores(self.folder())?.places();
            for place in &places {
                if let Some((other, _)) = seen.iter().find(|(_, other)| other.overlaps(place)) {
                    return Err(format!("the regions {other} and {name} use the same store; each needs its own"));
                }
            }
            seen.extend(places.map(|place| (name.as_str(), place)));
        }
        Ok(())
    }

    fn check_host(&self, region: &str, host: &HostConfig) -> Result<(), String> {
        if !self.regions.contains_key(region) {
            return Err(format!("there is no region {region}"));
        }
        if matches!(host.auth, AuthConfig::None(_)) && !host.listen.ip().is_loopback() {
            return Err(format!("auth = \"none\" is for loopback only, and {} is reachable by others", host.listen));
        }
        if let Some(url) = &host.url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#'])) {
                return Err("url is not of the form https://HOST[:PORT][/PATH]".into());
            }
        }
        Ok(())
    }

    /// Resolves a path relative to the folder of the configuration file.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder().join(path)
    }

    /// Folder of the configuration file.
    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Returns the locations of a region's stores.
    pub fn stores(&self, name: &str) -> Result<RegionStores, ConfigError> {
        let region = self.regions.get(name).ok_or_else(|| ConfigError::UnknownRegion {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.regions.keys()),
        })?;
        region.stores(self.folder()).map_err(|reason| ConfigError::Invalid { file: self.file.clone(), reason })
    }

    /// Returns a remote by name.
    pub fn remote(&self, name: &str) -> Result<&RemoteConfig, ConfigError> {
        self.remotes.get(name).ok_or_else(|| ConfigError::UnknownRemote {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.remotes.keys()),
        })
    }

    /// Returns a link by name.
    pub fn link(&self, name: &str) -> Result<&LinkConfig, ConfigError> {
        self.links.get(name).ok_or_else(|| ConfigError::UnknownLink {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.links.keys()),
        })
    }
}

fn all_repositories() -> Vec<String> {
    vec!["*".into()]
}

/// Formats a TOML error. Lines of the file that may contain a misplaced secret are not quoted.
fn not_toml(error: &toml::de::Error, text: &str) -> String {
    let shown = error.to_string();
    if !["token", "password", "passphrase", "secret", "://"].iter().any(|word| shown.contains(word)) {
        return shown;
    }
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("TOML error in line {line}: {}", error.message())
}

/// Builds a matcher of repository names. `*` also matches `/`.
pub fn name_matcher(globs: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).build().map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
