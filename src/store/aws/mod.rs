//! The AWS SDK, set up once for all services: who asks, where, with which patience.
//!
//! What the SDK repeats by itself are single requests; work is repeated by [`gitferry_base::retry`].

mod config;
pub mod failure;
pub mod identity;

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

/// Most attempts at one request, the first included.
pub const MAX_REQUEST_ATTEMPTS: u32 = 4;
/// Waits between attempts at one request start at most here and double, with jitter.
pub const FIRST_REQUEST_BACKOFF: Duration = Duration::from_millis(100);
/// No wait between attempts at one request is longer.
pub const MAX_REQUEST_BACKOFF: Duration = Duration::from_secs(5);
/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first byte of an answer may take, once a request has been sent.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one attempt may take: 64 MiB in a request's body at 0.5 MiB a second.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a request may take with all its attempts.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(300);
/// Most idle connections kept for each host.
pub const MAX_IDLE_CONNECTIONS: usize = 64;
/// What requests, and the sessions of assumed roles, are known by in AWS's logs.
const APP_NAME: &str = "gitferry";

/// The SDK's configurations of all regions of one configuration file: those that reach AWS the same way share their
/// connections and credentials.
#[derive(Clone, Debug, Default)]
pub struct SdkConfigs(Arc<tokio::sync::Mutex<HashMap<AwsConfig, SdkConfig>>>);

impl SdkConfigs {
    /// The one for these settings.
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

/// The SDK's configuration for one region. Asks nobody yet: credentials are looked up with the first request.
pub async fn sdk_config(config: &AwsConfig) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .identity_cache(identity::Forgetful::new())
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

/// The same configuration with the credentials of a role, which `base` may assume.
async fn assume(base: SdkConfig, role: &str, external_id: Option<&str>) -> SdkConfig {
    let mut provider = AssumeRoleProvider::builder(role).session_name(APP_NAME).configure(&base);
    if let Some(external_id) = external_id {
        provider = provider.external_id(external_id);
    }
    let provider = SharedCredentialsProvider::new(provider.build().await);
    base.into_builder().credentials_provider(provider).build()
}

/// A pool of connections for all services of one region; TLS by rustls on ring, with the system's roots. It belongs
/// to the runtime that uses it, so there is none for the whole process.
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
