//! `[account]`: the keys that seal the secrets of the account that the regions share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::limits::duration;
use super::name_matcher;
use gitferry_store::aws::{AwsConfig, KmsKeyArn};

/// Most KMS keys of an account: each new data key is sealed under all of them.
const MAX_KMS_KEYS: usize = 16;

/// Settings of the account, for hosts with `auth = "iam"` and the commands of `gitferry iam`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// File with a key that seals the data keys of the account, relative to the configuration. `gitferry iam init` makes
    /// it; every host without a KMS key needs the same one. `account.key` if there is no `kms_key`.
    #[serde(default)]
    key: Option<PathBuf>,
    /// ARNs of KMS keys that seal the data keys of the account: one, or one for each AWS region.
    #[serde(default, deserialize_with = "one_or_more")]
    pub kms_key: Vec<KmsKeyArn>,
    /// Settings of AWS for requests to KMS. The region of each is that of its key.
    #[serde(default)]
    kms: AwsConfig,
    /// Account of AWS IAM, for hosts with `auth = "aws"`.
    #[serde(default)]
    pub aws: Option<AwsAccountConfig>,
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

impl AccountConfig {
    /// Path of the key file; `None` if KMS keys alone seal the data keys.
    pub fn key_file(&self) -> Option<&Path> {
        match &self.key {
            Some(file) => Some(file),
            None if self.kms_key.is_empty() => Some(Path::new("account.key")),
            None => None,
        }
    }

    /// Settings of AWS for a KMS key.
    pub fn kms_settings(&self, key: &KmsKeyArn) -> AwsConfig {
        AwsConfig { region: Some(key.region().to_owned()), ..self.kms.clone() }
    }

    /// Returns the first invalid setting and the violation.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kms_key.len() > MAX_KMS_KEYS {
            return Err(format!("kms_key: {} keys, and the limit is {MAX_KMS_KEYS}", self.kms_key.len()));
        }
        if self.kms.region.is_some() {
            return Err("kms: region: the ARN of each KMS key names its region".into());
        }
        if self.kms_key.is_empty() && self.kms != AwsConfig::default() {
            return Err("kms: only for a kms_key".into());
        }
        self.kms.check().map_err(|reason| format!("kms: {reason}"))?;
        self.aws.iter().try_for_each(AwsAccountConfig::check).map_err(|reason| format!("aws.{reason}"))
    }
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
            return Err("id has twelve digits".into());
        }
        self.sdk.check().map_err(|reason| format!("sdk.{reason}"))?;
        name_matcher(&self.roles).map_err(|reason| format!("roles: {reason}"))?;
        if !REFRESH.contains(&self.refresh) {
            return Err("refresh is from 10s to 5m".into());
        }
        let is_region = |text: &String| {
            text.contains('-')
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if let Some(region) = self.sts_regions.iter().find(|region| !is_region(region)) {
            return Err(format!("sts_regions: `{region}` is not the name of a region"));
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

/// A text, or a list of texts.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KmsKeyArn>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(String),
        More(Vec<String>),
    }
    let given = match Given::deserialize(deserializer)? {
        Given::One(arn) => vec![arn],
        Given::More(arns) => arns,
    };
    given.into_iter().map(|arn| arn.parse().map_err(serde::de::Error::custom)).collect()
}
