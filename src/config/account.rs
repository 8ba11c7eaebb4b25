//! `[account]`: secrets of the account that the regions share.

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
}

impl Default for AccountConfig {
    fn default() -> Self {
        AccountConfig { key: default_key() }
    }
}

fn default_key() -> PathBuf {
    "account.key".into()
}
