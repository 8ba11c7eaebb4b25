//! CodeCommit's Git passwords: a signature over the repository's path, as `aws codecommit credential-helper` makes it.
//!
//! The scheme differs from AWS Signature Version 4: the method is `GIT`, the payload hash is absent from the canonical
//! request, and the time carries a `Z` in the password but not in the string to sign.

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reqwest::Url;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::identity::Identity;
use crate::secret::Secret;
use gitferry_base::error::chain;
use gitferry_config::{AwsConfig, host_of};
use gitferry_store::aws::SdkConfigs;

/// Service name in the credential scope of signatures.
pub const SERVICE: &str = "codecommit";
/// Seconds after which credentials without an expiry are resolved again.
const REFRESH_AFTER_SECONDS: i64 = 300;
/// Seconds before their expiry at which credentials are resolved again.
const EXPIRY_MARGIN_SECONDS: i64 = 300;

/// AWS credentials from the SDK's default provider chain, cached until shortly before they expire.
#[derive(Debug)]
pub struct CodeCommit {
    sdks: SdkConfigs,
    aws: AwsConfig,
    /// Last credentials, with the time in Unix seconds until which they are used.
    known: Mutex<Option<(aws_credential_types::Credentials, i64)>>,
}

impl CodeCommit {
    /// Uses the default provider chain with the settings of `aws`. Resolves nothing yet.
    pub fn new(sdks: SdkConfigs, aws: AwsConfig) -> Self {
        CodeCommit { sdks, aws, known: Mutex::new(None) }
    }

    /// AWS settings of the remote.
    pub fn config(&self) -> &AwsConfig {
        &self.aws
    }

    /// Returns a user and password for the repository at `url`, which CodeCommit accepts for about 15 minutes.
    pub async fn sign(&self, url: &Url, now: Timestamp) -> Result<Identity, String> {
        let host = host_of(url);
        let region = self.region(host).await?;
        Ok(sign(&self.credentials(now).await?, &region, host, url.path(), now))
    }

    /// Returns cached credentials, or resolves the provider chain.
    pub async fn credentials(&self, now: Timestamp) -> Result<aws_credential_types::Credentials, String> {
        let now = now.as_second();
        let mut known = self.known.lock().await;
        if let Some((credentials, _)) = known.as_ref().filter(|(_, until)| now < *until) {
            return Ok(credentials.clone());
        }
        let sdk = self.sdks.get(&self.aws).await;
        let provider = sdk.credentials_provider().ok_or("the AWS configuration has no credentials provider")?;
        let found = provider.provide_credentials().await.map_err(|error| chain(&error))?;
        let end = found.expiry().and_then(|end| Timestamp::try_from(end).ok()).map(Timestamp::as_second);
        let until = end.map_or(now + REFRESH_AFTER_SECONDS, |end| end - EXPIRY_MARGIN_SECONDS);
        *known = Some((found.clone(), until));
        Ok(found)
    }

    /// Drops the cached credentials after a refusal, so that the next request resolves the chain again.
    pub async fn forget(&self) {
        *self.known.lock().await = None;
    }

    /// Returns the AWS region that the host name contains, or else the configured one.
    pub async fn region(&self, host: &str) -> Result<String, String> {
        if let Some(region) = region_of_host(host).or(self.aws.region.as_deref()) {
            return Ok(region.into());
        }
        let sdk: SdkConfig = self.sdks.get(&self.aws).await;
        let region = sdk.region().map(|region| region.as_ref().to_owned());
        region.ok_or_else(|| format!("host name {host} contains no AWS region and none is configured; set aws.region"))
    }
}

/// Parses the region from names such as `git-codecommit.eu-west-1.amazonaws.com`, FIPS and VPC endpoints included.
pub fn region_of_host(host: &str) -> Option<&str> {
    let rest = match host.strip_prefix("vpce-") {
        Some(rest) => &rest[rest.find(".git-codecommit")? + 1..],
        None => host,
    };
    let rest = rest.strip_prefix("git-codecommit")?;
    let (region, domain) = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?.split_once('.')?;
    domain.strip_prefix("vpce.").unwrap_or(domain).starts_with("amazonaws.com").then_some(region)
}

fn sign(
    credentials: &aws_credential_types::Credentials,
    region: &str,
    host: &str,
    path: &str,
    now: Timestamp,
) -> Identity {
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%S").to_string();
    let date = &time[..8];
    let request = format!("GIT\n{path}\n\nhost:{host}\n\nhost\n");
    let digest = hex::encode(Sha256::digest(request));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{date}/{region}/{SERVICE}/aws4_request\n{digest}");
    let key = generate_signing_key(credentials.secret_access_key(), now.into(), region, SERVICE);
    let signature = calculate_signature(key, to_sign.as_bytes());
    let mut user = credentials.access_key_id().to_owned();
    if let Some(token) = credentials.session_token() {
        user = format!("{user}%{token}");
    }
    Identity::Basic { user: Secret::new(user), password: Secret::new(format!("{time}Z{signature}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by awscli 1.46.3, `awscli.customizations.codecommit`, with a fixed time.
    #[test]
    fn signatures_are_those_of_the_credential_helper() {
        let vectors = [
            (
                ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None),
                "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/my-repo",
                "2015-08-30T12:36:00Z",
                "AKIDEXAMPLE",
                "20150830T123600Zf0364cf25b069cdd56692c5905109eb95893436b63cec1c1446aeaca85c3c4ca",
            ),
            (
                ("ASIAEXAMPLE", "secret/with+signs", Some("FwoGZXIvYXdzEXAMPLE//token==")),
                "https://git-codecommit-fips.eu-west-1.amazonaws.com/v1/repos/team/app.git",
                "2026-01-02T03:04:05Z",
                "ASIAEXAMPLE%FwoGZXIvYXdzEXAMPLE//token==",
                "20260102T030405Zbc96811dd3088183c096bdb528347eae72c826616546b23f36ded0ce5a0beff8",
            ),
            (
                ("AKIDEXAMPLE", "k", None),
                "https://git-codecommit.cn-north-1.amazonaws.com.cn:443/v1/repos/x",
                "2031-12-31T23:59:59Z",
                "AKIDEXAMPLE",
                "20311231T235959Z5e7a1c87c16c094d06e8dc2c25bfe8b5dc01982f88de976f205f5d9be82bd51c",
            ),
            (
                ("AKIDEXAMPLE", "k", None),
                "https://vpce-0a1b-2c.git-codecommit.us-west-2.vpce.amazonaws.com/v1/repos/x",
                "2031-12-31T23:59:59Z",
                "AKIDEXAMPLE",
                "20311231T235959Z8aee465da8e2177239c4226c1ef423d727591aa4737e0f18743295da19ad49d5",
            ),
        ];
        for ((key, secret, token), url, time, user, password) in vectors {
            let url = Url::parse(url).unwrap();
            let token = token.map(str::to_owned);
            let credentials = aws_credential_types::Credentials::new(key, secret, token, None, "test");
            let host = url.host_str().unwrap();
            let region = region_of_host(host).unwrap();
            let identity = sign(&credentials, region, host, url.path(), time.parse().unwrap());
            assert_eq!(identity, Identity::Basic { user: Secret::new(user), password: Secret::new(password) });
        }
    }

    #[test]
    fn regions_of_hosts() {
        for (host, region) in [
            ("git-codecommit.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("git-codecommit-fips.us-east-1.amazonaws.com", Some("us-east-1")),
            ("vpce-0a1b-2c.git-codecommit.us-west-2.vpce.amazonaws.com", Some("us-west-2")),
            ("git-codecommit.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("git.example", None),
            ("git-codecommit.example.com", None),
            ("git-codecommit", None),
            ("vpce-", None),
        ] {
            assert_eq!(region_of_host(host), region, "{host}");
        }
    }
}
