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
//! aws     = { region = "eu-west-1" }        # and others: see AwsConfig
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
pub use link::{Deletions, Divergence, LfsMode, LinkConfig, LinkMode};
pub use location::{ObjectsLocation, Place, RegionStores, TableLocation};
pub use network::Network;
use push_policy::PushPolicyConfig;
pub use remote::{Provider, RemoteAuth, RemoteConfig, RemoteLimits};
pub use remote_url::{RepositoryUrl, SshUrl, UrlTemplate, in_url};

/// The file that is read when neither `--config` nor `GITFERRY_CONFIG` names one.
pub const DEFAULT_FILE: &str = "gitferry.toml";
/// A configuration file is never larger than this many bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Longest name of a region, remote or link, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// All of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Regions by name.
    #[serde(default)]
    pub regions: BTreeMap<String, RegionConfig>,
    /// Git servers by name; no region has the name of one.
    #[serde(default)]
    pub remotes: BTreeMap<String, RemoteConfig>,
    /// Links by name.
    #[serde(default)]
    pub links: BTreeMap<String, LinkConfig>,
    /// Hosts by the region that they serve.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostConfig>,
    /// What repositories accept, in every region that takes pushes to them.
    #[serde(default)]
    pub push_policies: Vec<PushPolicyConfig>,
    /// Memory that all pushes in this process may take together for large objects, tables of objects and lists of
    /// commands; [`DEFAULT_BUDGET_BYTES`] when left out, at least [`MIN_BUDGET_BYTES`].
    ///
    /// [`DEFAULT_BUDGET_BYTES`]: gitferry_git::memory::DEFAULT_BUDGET_BYTES
    /// [`MIN_BUDGET_BYTES`]: gitferry_git::memory::MIN_BUDGET_BYTES
    #[serde(default, deserialize_with = "limits::some_size")]
    pub push_memory: Option<ByteSize>,
    /// Memory that all reads of stored objects in this process may take together for large objects and caches;
    /// [`DEFAULT_READ_BUDGET_BYTES`] when left out, at least [`MIN_BUDGET_BYTES`]. Objects beyond it go to files.
    ///
    /// [`DEFAULT_READ_BUDGET_BYTES`]: gitferry_git::memory::DEFAULT_READ_BUDGET_BYTES
    /// [`MIN_BUDGET_BYTES`]: gitferry_git::memory::MIN_BUDGET_BYTES
    #[serde(default)]
    pub read_memory: Option<ByteSize>,
    /// The file it came from.
    #[serde(skip)]
    pub file: PathBuf,
    /// How its regions reach AWS, once they have been asked to.
    #[serde(skip)]
    pub sdk: SdkConfigs,
}

/// Where a region keeps its state.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// The object store: `file:PATH` or `s3://BUCKET[/PREFIX]`.
    pub objects: String,
    /// The table: `sqlite:PATH` or `dynamodb://TABLE`.
    pub table: String,
    /// How its AWS services are reached.
    #[serde(default)]
    pub aws: AwsConfig,
    /// The KMS key (id, ARN or alias) that encrypts what S3 keeps; what the bucket says when left out.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// The storage class of what S3 keeps (`STANDARD_IA`, …); `STANDARD` when left out.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// The cache of packs on this machine, for objects in S3.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Where its committed changes are announced: `eventbridge:BUS`; only within the process when left out.
    #[serde(default)]
    pub events: Option<EventsConfig>,
    /// For how long what it no longer names stays, so that a table restored to a moment within it finds its packs.
    #[serde(default = "recovery::default_window", deserialize_with = "recovery::window")]
    pub recovery_window: SignedDuration,
}

/// Git over HTTP for one region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The address and port to listen on.
    #[serde(deserialize_with = "limits::address")]
    pub listen: SocketAddr,
    /// Where it is reached from outside, by clients and by other hosts; the address it listens on when left out.
    #[serde(default)]
    pub url: Option<String>,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Proxies in front of it, as networks. What they say of a client counts: its address, the scheme and host of the
    /// URL that it asked for (`X-Forwarded-For`, `-Proto`, `-Host`, or `Forwarded`).
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// Whether a push to a name that there is no repository of makes one.
    #[serde(default)]
    pub create_on_push: bool,
    /// Patterns of refs that nobody is shown, as in `--refs` of import.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// Whether fetches may want refs by name (`uploadpack.allowRefInWant` of Git, off there, too): a clone of one
    /// branch that is pushed to meanwhile may then fail.
    #[serde(default)]
    pub ref_in_want: bool,
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
        /// The file, relative to the configuration; see [`TokenFile`](gitferry_host::tokens::TokenFile).
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
    /// No such remote.
    #[error("there is no remote {name} in {file}; it has {known}")]
    UnknownRemote {
        /// The name asked for.
        name: String,
        /// The configuration file.
        file: PathBuf,
        /// The remotes that there are.
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
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let invalid = |reason: String| ConfigError::Invalid { file: file.into(), reason };
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(invalid(format!("it is larger than {MAX_FILE_BYTES} bytes: it is no configuration")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            invalid(format!("line {line} is not UTF-8: save the file as UTF-8"))
        })?;
        Config::parse(&text, file)
    }

    /// Checks the text of a configuration file.
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
                    "`{name}` is not a name for a {kind}: use letters, digits, `-`, `_`, `.`"
                )));
            }
        }
        for (name, region) in &config.regions {
            region.stores(config.folder()).map_err(|reason| invalid(format!("regions.{name}.{reason}")))?;
        }
        config.check_distinct_stores().map_err(invalid)?;
        for (name, remote) in &config.remotes {
            if config.regions.contains_key(name) {
                return Err(invalid(format!("{name} is the name of a region and of a remote")));
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

    /// Regions share nothing.
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
        self.folder().join(path)
    }

    /// The folder of the file.
    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Where a region's stores are.
    pub fn stores(&self, name: &str) -> Result<RegionStores, ConfigError> {
        let region = self.regions.get(name).ok_or_else(|| ConfigError::UnknownRegion {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.regions.keys()),
        })?;
        region.stores(self.folder()).map_err(|reason| ConfigError::Invalid { file: self.file.clone(), reason })
    }

    /// A remote by name.
    pub fn remote(&self, name: &str) -> Result<&RemoteConfig, ConfigError> {
        self.remotes.get(name).ok_or_else(|| ConfigError::UnknownRemote {
            name: name.into(),
            file: self.file.clone(),
            known: known(self.remotes.keys()),
        })
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

fn all_repositories() -> Vec<String> {
    vec!["*".into()]
}

/// What is wrong with the text, without its lines where they may hold a secret that does not belong there.
fn not_toml(error: &toml::de::Error, text: &str) -> String {
    let shown = error.to_string();
    if !["token", "password", "passphrase", "secret", "://"].iter().any(|word| shown.contains(word)) {
        return shown;
    }
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("TOML error in line {line}: {}", error.message())
}

/// Matches names of repositories; `*` also matches `/`.
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
