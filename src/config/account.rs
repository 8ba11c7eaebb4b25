//! `[account]`: secrets of the account that the regions share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Settings of the account, for hosts with `auth = "iam"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// File with the key that seals the secrets of the account, relative to the configuration. `gitferry iam init` makes
    /// it; every host of the account needs the same one.
    #[serde(default = "default_key")]
    pub key: PathBuf,
    /// Identity providers whose keys are fetched in another way than from the internet, by the issuer without
    /// `https://`.
    #[serde(default)]
    pub issuers: BTreeMap<String, IssuerConfig>,
}

/// `[account.issuers."ISSUER"]`: an identity provider in a private network, or with certificates of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Address and port to connect to, in place of those that the name of the issuer resolves to.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    /// PEM file of the certificates by which the issuer is verified, relative to the configuration. Defaults to the
    /// system's trusted certificates.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl Default for AccountConfig {
    fn default() -> Self {
        AccountConfig { key: default_key(), issuers: BTreeMap::new() }
    }
}

fn default_key() -> PathBuf {
    "account.key".into()
}
