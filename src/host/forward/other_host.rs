//! The hosts of other regions, as forwarded requests reach them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures::StreamExt as _;

use super::headers::{ForwardedRequest, REFS, forwarded_by};
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
/// Content type of the refs that a push begins with.
const ADVERTISEMENT: &str = "application/x-git-receive-pack-advertisement";
/// Content type of the response to a push.
pub const REPORT: &str = "application/x-git-receive-pack-result";

/// What a request of a push asks of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The refs that the push begins with.
    Refs,
    /// To take the push.
    Push,
}

impl Asked {
    fn content_type(self) -> &'static str {
        match self {
            Asked::Refs => ADVERTISEMENT,
            Asked::Push => REPORT,
        }
    }

    /// The state of the push after a request without a response that says it.
    fn in_doubt(self) -> &'static str {
        match self {
            Asked::Refs => NOTHING,
            Asked::Push => "the push may have happened, so fetch before the next attempt",
        }
    }
}

/// The state of a push that the primary has refused, or has not got.
const NOTHING: &str = "nothing was pushed";

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
        let response = self.refs(request, from).await?;
        let chunks = response.bytes_stream().map(|chunk| chunk.map_err(reqwest::Error::without_url));
        Ok(git_response(ADVERTISEMENT, Body::from_stream(chunks)))
    }

    /// Asks for this host's advertisement of receive-pack.
    pub async fn refs(&self, request: &ForwardedRequest, from: &Region) -> Result<reqwest::Response, Refusal> {
        let headers = request.headers(from, &self.region, REFS)?;
        let path = format!("{}?service=git-receive-pack", request.path(REFS));
        let response = self.client.get(self.path(&path)).headers(headers).send().await;
        self.check(response, Asked::Refs)
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
        asked: Asked,
    ) -> Result<reqwest::Response, Refusal> {
        let OtherHost { region, url, .. } = self;
        let response = response.map_err(|error| self.unanswered(error, asked))?;
        let status = response.status();
        if status == StatusCode::OK
            && response.headers().get(header::CONTENT_TYPE).is_some_and(|sent| sent == asked.content_type())
        {
            return Ok(response);
        }
        if let Some(reason) = reason_of(status) {
            return Err(self.refusal(status, reason, NOTHING));
        }
        tracing::warn!(region, url, %status, "a push could not be forwarded");
        let what = format!("answered {}", status.as_u16());
        Err(self.refusal(StatusCode::SERVICE_UNAVAILABLE, &what, asked.in_doubt()))
    }

    /// The refusal for a client whose request this host did not answer, or not to the end.
    pub fn unanswered(&self, error: reqwest::Error, asked: Asked) -> Refusal {
        let OtherHost { region, url, .. } = self;
        let error = error.without_url();
        tracing::warn!(region, url, error = chain(&error), "a push could not be forwarded");
        let (what, state) =
            if error.is_connect() { ("cannot be reached", NOTHING) } else { ("did not answer", asked.in_doubt()) };
        self.refusal(StatusCode::SERVICE_UNAVAILABLE, what, state)
    }

    fn refusal(&self, status: StatusCode, what: &str, state: &str) -> Refusal {
        let OtherHost { region, url, .. } = self;
        Refusal::Primary(status, format!("the primary {url} in {region} {what}; {state}"))
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

/// What a status says by which a host refuses a push that it has not begun; `None` for other statuses, which may come
/// from a proxy while the host goes on.
fn reason_of(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::UNAUTHORIZED => "does not know these credentials",
        StatusCode::FORBIDDEN => "does not allow this client to push",
        StatusCode::NOT_FOUND => "has no such repository, or hides it from this client",
        StatusCode::CONFLICT => {
            "has another repository of that name by now, or none; fetch again once it is replicated here"
        }
        StatusCode::TOO_MANY_REQUESTS => "takes no more requests of this client now; try again in a minute",
        StatusCode::SERVICE_UNAVAILABLE => "is too busy, or cannot serve the repository now; try again",
        _ => return None,
    })
}
