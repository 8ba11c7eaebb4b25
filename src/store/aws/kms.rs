//! AWS KMS: small secrets sealed under a key that never leaves the service.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use gitferry_base::Kind;

use super::CONNECT_TIMEOUT;
use super::attempts::CountAttempts;
use super::failure::{Attempts, Cause, failure};
use super::key_fault::KeyFault;

/// Limit for one attempt at a request of KMS, which answers within milliseconds.
pub const KMS_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Limit for a request of KMS with all its attempts.
pub const KMS_TIMEOUT: Duration = Duration::from_secs(8);

/// ARN of a KMS key: `arn:aws:kms:REGION:ACCOUNT:key/ID`. Not of an alias, which may name another key later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KmsKeyArn {
    text: String,
    region: String,
}

impl KmsKeyArn {
    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// AWS region of the key.
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl fmt::Display for KmsKeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KmsKeyArn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "is not of the form arn:aws:kms:REGION:ACCOUNT:key/ID";
        let wrong = || format!("`{text}` {EXPECTED}");
        let [arn, partition, service, region, account, resource] =
            <[&str; 6]>::try_from(text.splitn(6, ':').collect::<Vec<_>>()).map_err(|_| wrong())?;
        if resource.starts_with("alias/") {
            return Err(format!(
                "`{text}` {EXPECTED}: an alias may name another key later (`aws kms describe-key` prints the ARN of its key)"
            ));
        }
        let id = resource.strip_prefix("key/").ok_or_else(wrong)?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if arn == "arn"
            && partition.starts_with("aws")
            && service == "kms"
            && is_account
            && is_word(region)
            && is_word(id)
        {
            return Ok(KmsKeyArn { text: text.to_owned(), region: region.to_owned() });
        }
        Err(wrong())
    }
}

/// A request of KMS failed. Nothing changes by one, so running again is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} ({reason}): {}", .fault.remedy())]
pub struct KmsError {
    /// Reason for which the key cannot be used.
    pub fault: KeyFault,
    /// Code and message of KMS, or the network error.
    pub reason: String,
}

impl KmsError {
    /// Kind by the caller's next step.
    pub fn kind(&self) -> Kind {
        self.fault.kind()
    }
}

/// A symmetric key of KMS.
#[derive(Clone, Debug)]
pub struct KmsKey {
    client: Client,
    arn: KmsKeyArn,
}

impl KmsKey {
    /// Key of an ARN, with an SDK configuration for its AWS region. Sends no request.
    pub fn new(sdk: &SdkConfig, arn: KmsKeyArn) -> Self {
        KmsKey::from_config(aws_sdk_kms::config::Builder::from(sdk), arn)
    }

    /// Like [`KmsKey::new`], with a configuration of the client, which may contain interceptors.
    pub fn from_config(config: aws_sdk_kms::config::Builder, arn: KmsKeyArn) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(KMS_ATTEMPT_TIMEOUT))
            .read_timeout(KMS_ATTEMPT_TIMEOUT)
            .operation_attempt_timeout(KMS_ATTEMPT_TIMEOUT)
            .operation_timeout(KMS_TIMEOUT)
            .build();
        let config = config.interceptor(CountAttempts).timeout_config(timeouts);
        KmsKey { client: Client::from_conf(config.build()), arn }
    }

    /// ARN of the key.
    pub fn arn(&self) -> &KmsKeyArn {
        &self.arn
    }

    /// Seals at most 4,096 bytes for an owner, the encryption context. CloudTrail and key policies see the context.
    ///
    /// # Errors
    /// KMS cannot be reached, or refuses the key.
    pub async fn encrypt(&self, secret: &[u8], context: &[(&str, &str)]) -> Result<Vec<u8>, KmsError> {
        let mut request = self.client.encrypt().key_id(self.arn.as_str()).plaintext(Blob::new(secret));
        for (name, value) in context {
            request = request.encryption_context(*name, *value);
        }
        let sends = Attempts::default();
        let answer = request.customize().interceptor(sends.clone()).send().await;
        let answer = answer.map_err(|error| of_sdk(&error, &sends))?;
        Ok(answer.ciphertext_blob.ok_or_else(empty)?.into_inner())
    }

    /// Opens what [`KmsKey::encrypt`] sealed for the same owner.
    ///
    /// # Errors
    /// KMS cannot be reached or refuses the key, or the key did not seal this for this owner ([`KeyFault::NotSealed`]).
    pub async fn decrypt(&self, sealed: &[u8], context: &[(&str, &str)]) -> Result<Vec<u8>, KmsError> {
        let mut request = self.client.decrypt().key_id(self.arn.as_str()).ciphertext_blob(Blob::new(sealed));
        for (name, value) in context {
            request = request.encryption_context(*name, *value);
        }
        let sends = Attempts::default();
        let answer = request.customize().interceptor(sends.clone()).send().await;
        let answer = answer.map_err(|error| of_sdk(&error, &sends))?;
        Ok(answer.plaintext.ok_or_else(empty)?.into_inner())
    }
}

fn empty() -> KmsError {
    KmsError { fault: KeyFault::Unreachable, reason: "KMS answered without a result".to_owned() }
}

fn of_sdk<E>(error: &SdkError<E, HttpResponse>, sends: &Attempts) -> KmsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let failure = failure(error, sends);
    let of_cause = match failure.cause {
        Cause::Denied | Cause::Setup => KeyFault::Denied,
        Cause::NotFound => KeyFault::NotFound,
        Cause::Invalid => KeyFault::WrongUsage,
        Cause::Unavailable | Cause::Other => KeyFault::Unreachable,
    };
    KmsError { fault: code.and_then(KeyFault::of_code).unwrap_or(of_cause), reason: failure.reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_their_arns_alone() {
        let arn: KmsKeyArn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab".parse().unwrap();
        assert_eq!((arn.region(), arn.as_str()), ("eu-west-1", "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab"));
        for good in ["arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-12", "arn:aws-us-gov:kms:r:111122223333:key/a"] {
            good.parse::<KmsKeyArn>().unwrap();
        }
        let alias = "arn:aws:kms:eu-west-1:111122223333:alias/git".parse::<KmsKeyArn>().unwrap_err();
        assert!(alias.contains("describe-key"), "{alias}");
        for bad in [
            "",
            "1234abcd",
            "alias/git",
            "arn:aws:kms:eu-west-1:111122223333:key/",
            "arn:aws:kms::111122223333:key/a",
            "arn:aws:kms:eu-west-1:1111:key/a",
            "arn:aws:s3:eu-west-1:111122223333:key/a",
            "arn:aws:kms:eu-west-1:111122223333:key/a b",
        ] {
            assert!(bad.parse::<KmsKeyArn>().is_err(), "{bad}");
        }
    }
}
