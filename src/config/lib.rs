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

mod account;
mod audit;
mod aws_region;
mod cache;
mod codecommit;
mod error;
mod events;
mod globs;
mod host;
mod limits;
mod link;
mod link_rules;
mod location;
mod network;
mod overlap;
pub mod push_policy;
mod quotas;
mod recovery;
mod region;
mod remote;
mod remote_url;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde::Deserialize;

pub use account::{AccountConfig, AwsAccountConfig, IssuerConfig};
pub use audit::AuditConfig;
use aws_region::check_region;
pub use cache::CacheConfig;
pub use codecommit::CodeCommitConfig;
pub use error::ConfigError;
pub use events::{EventsConfig, region_of_queue};
pub use gitferry_engine::region::RECOVERY_WINDOW;
pub use gitferry_store::aws::AwsConfig;
use gitferry_store::aws::SdkConfigs;
pub use globs::name_matcher;
pub use host::{AuthConfig, HostConfig, IamAuth, NoAuth, OnPush, TlsConfig};
pub use limits::{HostLimits, parse_duration};
pub use link::{CarriedNames, Deletions, Divergence, LfsMode, LinkConfig, LinkMode};
pub use location::{ObjectsLocation, Place, RegionStores, TableLocation};
pub use network::Network;
use push_policy::PushPolicyConfig;
pub use quotas::QuotaConfig;
pub use region::RegionConfig;
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
    /// Keys that seal the secrets of the account that the regions share.
    #[serde(default)]
    pub account: AccountConfig,
    /// Path of the file.
    #[serde(skip)]
    pub file: PathBuf,
    /// SDK configurations that the regions share, built on first use.
    #[serde(skip)]
    pub sdk: SdkConfigs,
}

/// Folder of the folders of SSH host keys, relative to the configuration.
const SSH_HOST_KEYS: &str = "ssh";

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
        config.account.check().map_err(|reason| invalid(format!("account.{reason}")))?;
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
        let Some(settings) = self.regions.get(region) else {
            return Err(format!("there is no region {region}"));
        };
        if matches!(host.auth, AuthConfig::None(_)) && !host.listen.ip().is_loopback() {
            return Err(format!("auth = \"none\" is for loopback only, and {} is reachable by others", host.listen));
        }
        host.check_ssh()?;
        if matches!(host.auth, AuthConfig::Iam(IamAuth::Aws)) {
            let aws = self.account.aws.as_ref();
            let aws = aws.ok_or("auth = \"aws\" needs [account.aws] with the id of the account")?;
            if host.ssh.is_some() && !aws.ssh_keys {
                return Err(
                    "ssh with auth = \"aws\" needs [account.aws] ssh_keys = true: no key logs in otherwise".into()
                );
            }
        }
        if let Some(audit) = &host.audit {
            audit.check()?;
            if audit.events.is_some() {
                let service = format!("audit.events: the bus, which has the settings of regions.{region},");
                check_region(&settings.aws, &service)?;
            }
        }
        host.codecommit.check().map_err(|reason| format!("codecommit: {reason}"))?;
        if let Some(url) = &host.url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['@', '?', '#'])) {
                return Err("url is not of the form https://HOST[:PORT][/PATH]".into());
            }
        }
        Ok(())
    }

    /// Folder of the SSH host keys of a region's host.
    pub fn ssh_host_keys(&self, region: &str, host: &HostConfig) -> PathBuf {
        let usual = || Path::new(SSH_HOST_KEYS).join(region);
        self.path(&host.ssh_host_keys.clone().unwrap_or_else(usual))
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

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
