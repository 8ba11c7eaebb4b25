//! `[account]`: secrets of the account that the regions share.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::limits::duration;
use super::name_matcher;
use gitferry_store::aws::AwsConfig;

/// Settings of the account, for hosts with `auth = "iam"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// File with the key that seals the secrets of the account, relative to the configuration. `gitferry iam init` makes
    /// it; every host of the account needs the same one.
    #[serde(default = "default_key")]
    pub key: PathBuf,
    /// Account of AWS IAM, for hosts with `auth = "aws"`.
    #[serde(default)]
    pub aws: Option<AwsAccountConfig>,
}

/// `[account.aws]`: an account of AWS IAM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsAccountConfig {
    /// Id of the account: twelve digits. Callers of other accounts are refused.
    pub id: String,
    /// Globs of the names of roles whose sessions are taken. STS does not say which session policies and tags limit a
    /// session: list only roles whose sessions are given out whole.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Interval between two readings of AWS IAM.
    #[serde(default = "default_refresh", deserialize_with = "duration")]
    pub refresh: Duration,
    /// True if SSH public keys are read, which takes a call for each user.
    #[serde(default)]
    pub ssh_keys: bool,
    /// Regions whose endpoints of STS clients may sign for, beside `us-east-1`, the global endpoint and the host's own
    /// region.
    #[serde(default)]
    pub sts_regions: Vec<String>,
    /// Credentials of the hosts, by default those of the SDK's chain. With `endpoint_url`, a stand-in for IAM and STS.
    #[serde(default)]
    pub sdk: AwsConfig,
}

impl AwsAccountConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The value that is not valid, and the reason.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.id.len() != 12 || !self.id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("account.aws.id has twelve digits".into());
        }
        self.sdk.check().map_err(|reason| format!("account.aws.sdk.{reason}"))?;
        name_matcher(&self.roles).map_err(|reason| format!("account.aws.roles: {reason}"))?;
        if !REFRESH.contains(&self.refresh) {
            return Err("account.aws.refresh is from 10s to 5m".into());
        }
        let is_region = |text: &String| {
            text.contains('-')
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if let Some(region) = self.sts_regions.iter().find(|region| !is_region(region)) {
            return Err(format!("account.aws.sts_regions: `{region}` is not the name of a region"));
        }
        Ok(())
    }
}

/// Allowed intervals between two readings: fewer than AWS throttles, and well below the time for which the last state
/// counts.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(300);

fn default_refresh() -> Duration {
    Duration::from_secs(60)
}

impl Default for AccountConfig {
    fn default() -> Self {
        AccountConfig { key: default_key(), aws: None }
    }
}

fn default_key() -> PathBuf {
    "account.key".into()
}
