//! Configuration of the AWS SDK for all services: credentials, endpoints, retries and timeouts.
//!
//! The SDK retries single requests; [`gitferry_base::retry`] retries larger units of work.

pub mod attempts;
mod config;
pub mod failure;
pub mod identity;
pub mod key_fault;
pub mod kms;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

pub use config::AwsConfig;
pub use key_fault::KeyFault;
pub use kms::{KmsError, KmsKey, KmsKeyArn};

/// Most attempts at a request, the first included.
pub const MAX_REQUEST_ATTEMPTS: u32 = 4;
/// Upper bound of the first wait between attempts at a request; it doubles, with jitter.
pub const FIRST_REQUEST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait between attempts at a request.
pub const MAX_REQUEST_BACKOFF: Duration = Duration::from_secs(5);
/// Limit for opening a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the first byte of an answer, once the request has been sent.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Limit for one attempt: enough for a body of 64 MiB at 0.5 MiB/s.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// Limit for a request with all its attempts.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(300);
/// Most idle connections kept per host.
pub const MAX_IDLE_CONNECTIONS: usize = 64;
/// Application name of requests and session name of assumed roles, as in CloudTrail.
const APP_NAME: &str = "gitferry";

/// SDK configurations of one configuration file. Regions with equal [`AwsConfig`] share connections and credentials.
#[derive(Clone, Debug, Default)]
pub struct SdkConfigs(Arc<tokio::sync::Mutex<HashMap<AwsConfig, SdkConfig>>>);

impl SdkConfigs {
    /// Returns the SDK configuration for these settings, and builds it on first use.
    pub async fn get(&self, config: &AwsConfig) -> SdkConfig {
        let mut known = self.0.lock().await;
        if let Some(sdk) = known.get(config) {
            return sdk.clone();
        }
        let sdk = sdk_config(config).await;
        known.insert(config.clone(), sdk.clone());
        sdk
    }
}

/// Builds an SDK configuration. Credentials are resolved with the first request.
pub async fn sdk_config(config: &AwsConfig) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .identity_cache(identity::InvalidatingCache::new())
        .retry_config(retries())
        .timeout_config(timeouts());
    if let Ok(name) = AppName::new(APP_NAME) {
        loader = loader.app_name(name);
    }
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(url) = &config.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    let base = loader.load().await;
    match &config.role_arn {
        None => base,
        Some(role) => assume(base, role, config.external_id.as_deref()).await,
    }
}

/// Replaces the credentials of `base` by those of a role that `base` assumes.
async fn assume(base: SdkConfig, role: &str, external_id: Option<&str>) -> SdkConfig {
    let mut provider = AssumeRoleProvider::builder(role).session_name(APP_NAME).configure(&base);
    if let Some(external_id) = external_id {
        provider = provider.external_id(external_id);
    }
    let provider = SharedCredentialsProvider::new(provider.build().await);
    base.into_builder().credentials_provider(provider).build()
}

/// Creates a connection pool for all services, with TLS by rustls on ring and the system's root certificates. A pool
/// belongs to one Tokio runtime, so it cannot be shared by the process.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(MAX_REQUEST_ATTEMPTS)
        .with_initial_backoff(FIRST_REQUEST_BACKOFF)
        .with_max_backoff(MAX_REQUEST_BACKOFF)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}
