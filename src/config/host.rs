//! `[hosts.REGION]`: the Git host in front of a region.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::audit::AuditConfig;
use super::codecommit::CodeCommitConfig;
use super::limits::{HostLimits, address, some_address};
use super::network::Network;
use super::quotas::QuotaConfig;

/// The Git host in front of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Address and port to listen on.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Address and port of the SSH server. Without one, the host serves HTTP alone.
    #[serde(default, deserialize_with = "some_address")]
    pub ssh: Option<SocketAddr>,
    /// Folder of the SSH host keys, relative to the configuration. Keys that are missing are made at the start. Defaults
    /// to `ssh/REGION`.
    #[serde(default)]
    pub ssh_host_keys: Option<PathBuf>,
    /// File of the public keys that log in over SSH, relative to the configuration; see `AuthorizedKeys` of the host.
    /// With `auth = "iam"` and `auth = "aws"` the account has the keys instead; with `auth = "none"` and a loopback address
    /// every key logs in without the file.
    #[serde(default)]
    pub ssh_authorized_keys: Option<PathBuf>,
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
    /// Quotas of the region, where the account sets no others.
    #[serde(default)]
    pub quotas: QuotaConfig,
    /// The API of CodeCommit, for a host with an account.
    #[serde(default)]
    pub codecommit: CodeCommitConfig,
    /// Places that the audit trail goes to. Without it, none is kept.
    #[serde(default)]
    pub audit: Option<AuditConfig>,
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
    /// An account of users, roles and policies of IAM.
    Iam(IamAuth),
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

/// The literal `iam` or `aws`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IamAuth {
    /// The account in the region's repository `gitferry/account` authenticates and authorizes.
    Iam,
    /// The account of AWS IAM in `[account.aws]` does.
    Aws,
}

impl HostConfig {
    /// Checks the settings of the SSH server.
    pub(super) fn check_ssh(&self) -> Result<(), String> {
        let keys = self.ssh_authorized_keys.is_some();
        let Some(ssh) = &self.ssh else {
            if keys || self.ssh_host_keys.is_some() {
                return Err("ssh_host_keys and ssh_authorized_keys need ssh, the address of the SSH server".into());
            }
            return Ok(());
        };
        match &self.auth {
            AuthConfig::Iam(_) if keys => Err("with an account its SSH keys log in: remove ssh_authorized_keys".into()),
            AuthConfig::Iam(_) => Ok(()),
            AuthConfig::None(_) if ssh.ip().is_loopback() => Ok(()),
            AuthConfig::None(_) | AuthConfig::Tokens { .. } if keys => Ok(()),
            AuthConfig::None(_) | AuthConfig::Tokens { .. } => {
                Err("ssh needs ssh_authorized_keys, the file of the keys that may log in".into())
            }
        }
    }

    /// URL for clients: `url`, or else the address of `listen`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }
}
