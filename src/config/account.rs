//! `[account]`: the keys that seal the secrets of the account that the regions share.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

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
    pub aws: AwsConfig,
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
    pub fn aws_of(&self, key: &KmsKeyArn) -> AwsConfig {
        AwsConfig { region: Some(key.region().to_owned()), ..self.aws.clone() }
    }

    /// Returns the first invalid setting and the violation.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kms_key.len() > MAX_KMS_KEYS {
            return Err(format!("kms_key: {} keys, and the limit is {MAX_KMS_KEYS}", self.kms_key.len()));
        }
        if self.aws.region.is_some() {
            return Err("aws: region: the ARN of each KMS key names its region".into());
        }
        if self.kms_key.is_empty() && self.aws != AwsConfig::default() {
            return Err("aws: only for a kms_key".into());
        }
        self.aws.check().map_err(|reason| format!("aws: {reason}"))
    }
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
