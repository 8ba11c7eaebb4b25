//! Identities of AWS: the account of AWS IAM in memory, and the callers that STS names.
//!
//! - [`AwsDirectory`] reads users, groups, roles and policies on a schedule.
//! - [`Callers`] asks STS who has presigned a request.

mod api;
mod callers;
mod directory;
mod presign;
mod xml;

pub use api::{ApiError, MAX_PAGE_BYTES, MAX_PAGES};
pub use callers::{CALLER_LIFETIME, CallerError, Callers, MAX_CALLERS, MAX_STS_CALLS, STS_TIMEOUT};
pub use directory::{AwsDirectory, AwsOptions, MAX_AWS_STALENESS};
pub use presign::{Presigning, presign};

/// HTTP client for endpoints of AWS: no redirect is followed, no proxy of the environment is used.
fn http_client(timeout: std::time::Duration) -> Result<reqwest::Client, reqwest::Error> {
    // Fails if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(timeout)
        .timeout(timeout)
        .build()
}

/// Reads the body of an answer; `None` if it has more bytes than the limit.
async fn bounded(mut answer: reqwest::Response, limit: usize) -> Result<Option<String>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(String::from_utf8_lossy(&body).into_owned()))
}
