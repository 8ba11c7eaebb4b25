//! The hosts of other regions, as forwarded requests reach them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures::StreamExt as _;

use super::headers::{ForwardedRequest, forwarded_by};
use crate::frontier::RepositoryFrontier;
use crate::request::git_http::git_response;
use crate::request::refusal::Refusal;
use gitferry_base::certificates::{CertificateError, read_certificates};
use gitferry_base::error::chain;
use gitferry_engine::ledger::head::{Head, Role};
use gitferry_engine::region::Region;

/// Time limit for connecting to another host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle timeout of a response from another host. The check of a huge pack may take minutes.
const RESPONSE_IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Keep-alive: interval between probes of an idle connection to another host.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Keep-alive: unanswered probes that end a connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Largest response with a frontier, in bytes.
const MAX_FRONTIER_BYTES: usize = 4096;
/// Service of a repository that answers with its frontier.
const FRONTIER: &str = "/info/frontier";
/// Service of a repository that answers with its refs.
const REFS: &str = "/info/refs";
/// Content type of the refs that a push begins with.
const ADVERTISEMENT: &str = "application/x-git-receive-pack-advertisement";

/// HTTP clients for the hosts of other regions, by default none.
#[derive(Debug, Default)]
pub struct Forwarder {
    hosts: BTreeMap<String, Arc<OtherHost>>,
}

/// Failure to set up the clients of other hosts. All of them are faults of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// The CA certificates of a host cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The HTTP client of a host cannot be built.
    #[error("the HTTP client for the host of region {region} cannot be set up: {error}")]
    Client {
        /// Region of the host.
        region: String,
        /// Error of the HTTP library.
        error: reqwest::Error,
    },
}

impl ForwarderError {
    /// Kind of the error, from which the exit code follows.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            ForwarderError::Certificate(error) => error.kind(),
            ForwarderError::Client { .. } => gitferry_base::Kind::Usage,
        }
    }
}

impl Forwarder {
    /// The host of `region` for a request with these headers; `None` if its URL is not configured, or if another host
    /// has forwarded the request already.
    pub(crate) fn host(&self, region: &str, headers: &HeaderMap) -> Option<Arc<OtherHost>> {
        if forwarded_by(headers).is_some() {
            return None;
        }
        self.hosts.get(region).cloned()
    }

    /// The host to which pushes to a repository are forwarded; `None` if they are not.
    pub(crate) fn primary(&self, head: &Head, headers: &HeaderMap) -> Option<Arc<OtherHost>> {
        if head.role != Role::Replica {
            return None;
        }
        self.host(&head.epoch.region, headers)
    }

    /// Sets up clients for hosts, each given by its region, its URL and a PEM file of CA certificates; without a file
    /// the CAs of the system are trusted.
    ///
    /// # Errors
    /// A file cannot be read, or a client cannot be built.
    pub fn new<'a>(
        hosts: impl IntoIterator<Item = (&'a str, String, Option<&'a Path>)>,
    ) -> Result<Self, ForwarderError> {
        // Fails if a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut all = BTreeMap::new();
        for (region, url, ca) in hosts {
            let fail = |error| ForwarderError::Client { region: region.into(), error };
            let mut client = reqwest::Client::builder()
                // Follows no redirects: credentials go to the configured host only.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(RESPONSE_IDLE_TIMEOUT)
                .tcp_nodelay(true)
                .tcp_keepalive(KEEPALIVE_INTERVAL)
                .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
                .tcp_keepalive_retries(KEEPALIVE_PROBES)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL);
            if let Some(ca) = ca {
                let certificates = read_certificates("the certificates of other hosts", ca)?;
                let certificates: Result<Vec<_>, _> =
                    certificates.iter().map(|one| reqwest::Certificate::from_der(one)).collect();
                client = client.tls_certs_only(certificates.map_err(fail)?);
            }
            let url = url.trim_end_matches('/').to_owned();
            let host = OtherHost { region: region.into(), url, client: client.build().map_err(fail)? };
            all.insert(region.to_owned(), Arc::new(host));
        }
        Ok(Forwarder { hosts: all })
    }
}

/// The host of another region.
#[derive(Debug)]
pub struct OtherHost {
    region: String,
    url: String,
    client: reqwest::Client,
}

impl OtherHost {
    /// Relays this host's advertisement of receive-pack to a client of region `from`.
    pub async fn advertisement(&self, request: &ForwardedRequest, from: &Region) -> Result<Response, Refusal> {
        let headers = request.headers(from, &self.region, REFS)?;
        let path = format!("{}?service=git-receive-pack", request.path(REFS));
        let response = self.client.get(self.path(&path)).headers(headers).send().await;
        let response = self.check(response, ADVERTISEMENT)?;
        let chunks = response.bytes_stream().map(|chunk| chunk.map_err(reqwest::Error::without_url));
        Ok(git_response(ADVERTISEMENT, Body::from_stream(chunks)))
    }

    /// Begins a request for a path below the URL of this host.
    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(self.path(path))
    }

    /// Region of this host.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// URL of this host, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// Returns a successful response of the expected content type; otherwise the refusal for the client.
    pub fn check(
        &self,
        response: Result<reqwest::Response, reqwest::Error>,
        content_type: &str,
    ) -> Result<reqwest::Response, Refusal> {
        let OtherHost { region, url, .. } = self;
        let refuse = |status, what: String| {
            Err(Refusal::Primary(status, format!("the primary {url} in {region} {what}; nothing was pushed")))
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let error = error.without_url();
                let what = if error.is_connect() { "cannot be reached" } else { "did not answer" };
                tracing::warn!(region, url, error = chain(&error), "a push could not be forwarded");
                return refuse(StatusCode::SERVICE_UNAVAILABLE, what.into());
            }
        };
        match response.status() {
            StatusCode::OK if response.headers().get(header::CONTENT_TYPE).is_some_and(|sent| sent == content_type) => {
                Ok(response)
            }
            StatusCode::UNAUTHORIZED => refuse(StatusCode::UNAUTHORIZED, "does not know these credentials".into()),
            StatusCode::FORBIDDEN => refuse(StatusCode::FORBIDDEN, "does not allow this client to push".into()),
            StatusCode::CONFLICT => {
                let what =
                    "has another repository of that name by now, or none; fetch again once it is replicated here";
                refuse(StatusCode::CONFLICT, what.into())
            }
            status => {
                tracing::warn!(region, url, %status, "a push could not be forwarded");
                refuse(StatusCode::SERVICE_UNAVAILABLE, format!("answered {}", status.as_u16()))
            }
        }
    }

    /// The frontier of a client's repository in the region of this host. `from` is the region of the client's host.
    pub async fn frontier(&self, request: &ForwardedRequest, from: &Region) -> Result<RepositoryFrontier, String> {
        let client = request.identifying(from, &self.region, FRONTIER);
        let client = client.map_err(|_| "no credentials for the primary can be made".to_owned())?;
        let text = |error: reqwest::Error| chain(&error.without_url());
        let sent = self.client.get(self.path(&request.path(FRONTIER))).headers(client).send();
        let response = sent.await.map_err(text)?;
        let mut response = response.error_for_status().map_err(text)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(text)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_FRONTIER_BYTES {
                return Err(format!("the frontier of the primary has more than {MAX_FRONTIER_BYTES} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}
