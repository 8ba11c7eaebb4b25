//! Client side of Git's smart HTTP protocol (gitprotocol-http(5)).
//!
//! The transport follows `git`: redirects apply to the first request only and never carry credentials to another host.
//! Requests of up to [`BUFFERED_BYTES`] are sent with their length and repeated after a 401. Larger requests are
//! streamed after an empty probe request has shown that the server accepts them.

mod clients;
mod connection;
mod discovery;
mod failure;
mod request;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{RequestBuilder, Response, StatusCode, Url, header};
use tokio::runtime::Handle;

pub use self::clients::Clients;
pub use self::discovery::may_share_credentials;
use self::discovery::{DISCOVERING, Discovery, redirected};
use super::credentials::Credentials;
use super::limits::{PushLimits, Timeouts};
use gitferry_git::client::ClientError;
use gitferry_git::protocol::{Service, Version};

/// Largest request, in bytes, that is buffered in memory.
pub const BUFFERED_BYTES: usize = 1 << 20;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 20;

/// HTTP transport of one remote.
#[derive(Debug)]
pub struct Http {
    clients: Clients,
    credentials: Arc<Credentials>,
    limits: PushLimits,
    timeouts: Timeouts,
    runtime: Handle,
    /// True once the server has refused a request of unknown length.
    refuses_chunked: AtomicBool,
}

impl Http {
    /// Creates the transport.
    pub fn new(
        credentials: Arc<Credentials>,
        limits: PushLimits,
        timeouts: Timeouts,
        clients: Clients,
        runtime: Handle,
    ) -> Self {
        Http { clients, credentials, limits, timeouts, runtime, refuses_chunked: AtomicBool::new(false) }
    }

    /// Returns true if requests of unknown length may be tried.
    fn may_stream(&self) -> bool {
        self.limits.chunked && !self.refuses_chunked.load(Ordering::Relaxed)
    }

    async fn discover(&self, url: &Url, service: Service, version: Version) -> Result<Discovery, ClientError> {
        let login = Some(self.credentials.login(url));
        let client = self.client(url)?;
        let mut discovery = Discovery { base: url.clone(), client, service, version, login, answer: None };
        let mut retried = false;
        for _ in 0..=MAX_REDIRECTS {
            let info = format!("{}/info/refs?service={}", discovery.base, service.name());
            let request = discovery.client.get(info).header(header::PRAGMA, "no-cache");
            let answer = self.send(&mut discovery, request, DISCOVERING).await?;
            let status = answer.status();
            if status.is_redirection() && answer.headers().contains_key(header::LOCATION) {
                let to = redirected(&discovery.base, &answer, service);
                let to = to.map_err(|reason| discovery.context(DISCOVERING).status(status, reason))?;
                if !may_share_credentials(&discovery.base, &to) {
                    discovery.login = None;
                }
                tracing::debug!(from = %discovery.base, %to, "following a redirect");
                discovery.client = self.client(&to)?;
                discovery.base = to;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && !retried && discovery.reject().await {
                retried = true;
                continue;
            }
            if status != StatusCode::OK {
                return Err(discovery.refusal(answer, DISCOVERING, self.timeouts.idle).await);
            }
            if let Some(login) = &mut discovery.login {
                login.approve().await;
            }
            discovery.answer = Some(answer);
            return Ok(discovery);
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(discovery.context(DISCOVERING).connection(std::io::Error::other(reason)))
    }

    fn client(&self, url: &Url) -> Result<reqwest::Client, ClientError> {
        let untrusted = |reason| ClientError::Untrusted { server: url.to_string(), reason };
        self.clients.of(url).cloned().map_err(untrusted)
    }

    /// Sends a request and waits for the headers of the answer.
    async fn send(
        &self,
        discovery: &mut Discovery,
        request: RequestBuilder,
        doing: &'static str,
    ) -> Result<Response, ClientError> {
        let request = request.headers(discovery.headers().await?);
        match tokio::time::timeout(self.timeouts.idle, request.send()).await {
            Ok(answer) => answer.map_err(|error| discovery.context(doing).request(error)),
            Err(_) => Err(discovery.context(doing).timed_out(self.timeouts.idle)),
        }
    }
}
