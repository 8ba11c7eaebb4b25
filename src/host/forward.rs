//! Pushes to a replica that are forwarded to the host of the primary.
//!
//! The request is passed on as it is, credentials included: the primary authorizes it. The response is streamed back as
//! it arrives, except for the last packet, which is held back until the change has been replicated into this region. A
//! client that reads here after its push therefore reads its own write.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::admission::Slot;
use super::{Host, Refusal, body, git_response};
use gitferry_base::certificates::{CertificateError, read_certificates};
use gitferry_base::error::chain;
use gitferry_engine::announce::Event;
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::head::{Frontier, Head, RepositoryId, Role};
use gitferry_engine::region::RegionError;
use gitferry_git::protocol::{Band, PacketWriter};

/// Header of a forwarded request: the region that forwarded it. A replica does not forward such a request again.
const FORWARDED_BY: HeaderName = HeaderName::from_static("gitferry-forwarded-by");
/// Header of a forwarded request: id of the repository. A name may denote different repositories in two regions for a
/// while; a host refuses a request whose name denotes another repository here.
const REPOSITORY: HeaderName = HeaderName::from_static("gitferry-repository");
/// Time limit for connecting to another host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle timeout of a response from another host. The check of a huge pack may take minutes.
const RESPONSE_IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Keep-alive: interval between probes of an idle connection to another host.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Keep-alive: unanswered probes that end a connection.
const KEEPALIVE_PROBES: u32 = 3;
/// First interval between two reads of the local head. Intervals grow by half each time.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Longest interval between two reads of the local head.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Largest response with a frontier, in bytes.
const MAX_FRONTIER_BYTES: usize = 4096;
/// Flush packet, which ends a response of receive-pack.
const FLUSH: &[u8] = b"0000";

/// Frontier of one repository, as `…/info/frontier` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryFrontier {
    /// Id of the repository.
    pub repository: RepositoryId,
    /// Epoch, sequence number and hash of its last change.
    #[serde(flatten)]
    pub frontier: Frontier,
}

/// HTTP clients for the hosts of other regions.
#[derive(Debug)]
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
    /// The host of a region; `None` if its URL is not configured.
    pub(super) fn host(&self, region: &str) -> Option<Arc<OtherHost>> {
        self.hosts.get(region).cloned()
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
pub(super) struct OtherHost {
    region: String,
    pub(super) url: String,
    pub(super) client: reqwest::Client,
}

/// The region that forwarded the request; `None` if the client sent it directly.
pub(super) fn forwarded_by(headers: &HeaderMap) -> Option<&str> {
    headers.get(FORWARDED_BY).map(|value| value.to_str().unwrap_or("another region"))
}

/// Refuses a forwarded request whose name denotes another repository here than in the region that forwarded it. `here`
/// is the repository of that name in this region. Requests without a repository id pass.
pub(super) fn check_repository_id(
    headers: &HeaderMap,
    name: &str,
    region: &str,
    here: Option<RepositoryId>,
) -> Result<(), Refusal> {
    let Some(expected) = headers.get(REPOSITORY) else { return Ok(()) };
    let expected: Option<RepositoryId> = expected.to_str().ok().and_then(|id| id.parse().ok());
    match expected {
        None => Err(Refusal::BadRequest(format!("the header {REPOSITORY} is not a repository id"))),
        Some(id) if here == Some(id) => Ok(()),
        Some(id) => Err(RegionError::Replaced { name: name.into(), region: region.into(), id }.into()),
    }
}

/// The headers of a client's request that the primary needs, with the marks of a forwarded one: `region`, and the `id`
/// of the repository there, `None` if the request creates it.
pub(super) fn forwarded_headers(headers: &HeaderMap, region: &str, id: Option<RepositoryId>) -> HeaderMap {
    let names = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::ACCEPT,
        header::USER_AGENT,
        HeaderName::from_static("git-protocol"),
    ];
    let mut forwarded: HeaderMap =
        names.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
    let region = HeaderValue::from_str(region).unwrap_or(HeaderValue::from_static("another region"));
    forwarded.insert(FORWARDED_BY, region);
    let id = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
    id.map(|id| forwarded.insert(REPOSITORY, id));
    forwarded
}

impl OtherHost {
    /// Relays this host's advertisement of receive-pack.
    pub(super) async fn advertisement(
        &self,
        repository: &str,
        id: Option<RepositoryId>,
        headers: &HeaderMap,
        region: &str,
    ) -> Result<Response, Refusal> {
        let url = format!("{}/{repository}/info/refs?service=git-receive-pack", self.url);
        let response = self.client.get(url).headers(forwarded_headers(headers, region, id)).send().await;
        let response = self.check(response, "application/x-git-receive-pack-advertisement")?;
        let chunks = response.bytes_stream().map(|chunk| chunk.map_err(reqwest::Error::without_url));
        git_response("application/x-git-receive-pack-advertisement".into(), Body::from_stream(chunks))
    }

    /// Returns a successful response of the expected content type; otherwise the refusal for the client.
    fn check(
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

    /// The frontier of a repository in the region of this host.
    async fn frontier(&self, repository: &str, headers: &HeaderMap) -> Result<RepositoryFrontier, String> {
        let url = format!("{}/{repository}/info/frontier", self.url);
        let mut credentials = HeaderMap::new();
        headers.get(header::AUTHORIZATION).map(|value| credentials.insert(header::AUTHORIZATION, value.clone()));
        let text = |error: reqwest::Error| chain(&error.without_url());
        let response = self.client.get(url).headers(credentials).send().await.map_err(text)?;
        let mut response = response.error_for_status().map_err(text)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(text)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_FRONTIER_BYTES {
                return Err(format!("its frontier has more than {MAX_FRONTIER_BYTES} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

impl Host {
    /// The host to which pushes to a repository are forwarded; `None` if they are not.
    pub(super) fn forwards_to(&self, head: &Head, headers: &HeaderMap) -> Option<Arc<OtherHost>> {
        let forwarder = self.forwarder.as_ref().filter(|_| forwarded_by(headers).is_none())?;
        if head.role != Role::Replica {
            return None;
        }
        forwarder.hosts.get(&head.epoch.region).cloned()
    }

    /// Forwards a push and relays its response.
    pub(super) async fn forward_push(
        self: Arc<Self>,
        primary: Arc<OtherHost>,
        id: Option<RepositoryId>,
        repository: String,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        let slot = self.admission.admit().await?;
        let input = body::await_first(body::chunks(input, self.limits.request_silence, Some(slot.clone()))).await?;
        let url = format!("{}/{repository}/git-receive-pack", primary.url);
        let request = primary.client.post(url).headers(forwarded_headers(headers, &self.region.name, id));
        let response = request.body(reqwest::Body::wrap_stream(input)).send().await;
        let content_type = "application/x-git-receive-pack-result";
        let response = primary.check(response, content_type)?;
        let headers = headers.clone();
        let relay = Relay {
            response: response.bytes_stream().boxed(),
            tail: HeldTail::default(),
            ended: false,
            push: ForwardedPush { host: self, primary, id, repository, headers, _slot: slot },
        };
        let chunks = stream::unfold(relay, |mut relay| async move { Some((relay.next().await?, relay)) });
        git_response(content_type.into(), Body::from_stream(chunks))
    }
}

/// The response to a forwarded push, relayed to the client.
struct Relay {
    response: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    tail: HeldTail,
    ended: bool,
    push: ForwardedPush,
}

impl Relay {
    async fn next(&mut self) -> Option<Result<Bytes, reqwest::Error>> {
        while !self.ended {
            match self.response.next().await {
                Some(Ok(chunk)) => {
                    let released = self.tail.push(&chunk);
                    if !released.is_empty() {
                        return Some(Ok(released.into()));
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error.without_url()));
                }
                None => {
                    self.ended = true;
                    let message = self.push.wait_until_replicated().await.err();
                    return Some(Ok(self.tail.end(message.as_deref()).into()));
                }
            }
        }
        None
    }
}

/// Holds back the last four bytes of a response: a client considers its push done when the last flush packet arrives.
#[derive(Debug, Default)]
struct HeldTail {
    /// The first five bytes: the length of the first packet, and its band.
    front: Vec<u8>,
    tail: Vec<u8>,
}

impl HeldTail {
    /// Takes a chunk, and returns the bytes that may be sent on.
    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let missing = (FLUSH.len() + 1).saturating_sub(self.front.len());
        self.front.extend_from_slice(&chunk[..missing.min(chunk.len())]);
        self.tail.extend_from_slice(chunk);
        let keep = self.tail.split_off(self.tail.len().saturating_sub(FLUSH.len()));
        std::mem::replace(&mut self.tail, keep)
    }

    /// Returns the rest. A message is put before it as progress, if the response has side bands and ends with a flush.
    fn end(&mut self, message: Option<&str>) -> Vec<u8> {
        let mut rest = Vec::new();
        let banded = self.front.get(FLUSH.len()).is_some_and(|band| (1..=3).contains(band));
        if let Some(message) = message
            && banded
            && self.tail == FLUSH
        {
            let text = format!("{message}\n");
            // Writing to memory does not fail.
            let _ = PacketWriter::new(&mut rest).parts(&[&[Band::Progress as u8], text.as_bytes()]);
        }
        rest.append(&mut self.tail);
        rest
    }
}

/// A forwarded push that the primary has answered.
struct ForwardedPush {
    host: Arc<Host>,
    primary: Arc<OtherHost>,
    /// Repository in this region; `None` if the push created it.
    id: Option<RepositoryId>,
    repository: String,
    headers: HeaderMap,
    _slot: Slot,
}

impl ForwardedPush {
    /// Waits at most `forward_wait` until this region has the state of the primary. The error is a message for the
    /// client.
    async fn wait_until_replicated(&self) -> Result<(), String> {
        let waited = tokio::time::timeout(self.host.limits.forward_wait, self.catch_up()).await;
        let reason = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => "the wait for replication timed out".into(),
        };
        let region = &self.host.region.name;
        let repository = &self.repository;
        tracing::warn!(region, repository, reason, "a forwarded push was answered before it was replicated here");
        Err(format!("the push went to {}; {region} will have it later", self.primary.url))
    }

    async fn catch_up(&self) -> Result<(), String> {
        let there = self.primary.frontier(&self.repository, &self.headers).await?;
        if self.id.is_some_and(|here| here != there.repository) {
            return Err("the primary has another repository of that name".into());
        }
        let id = there.repository;
        let Frontier { epoch, seq, .. } = there.frontier;
        // A worker that listens to this host may not have received the event of the primary.
        self.host.events.publish(Event { region: self.primary.region.clone(), repository: id, seq });
        let mut interval = MIN_POLL_INTERVAL;
        loop {
            let item = read_head(&*self.host.region.table, id).await.map_err(|error| error.to_string())?;
            match item.map(|item| item.head.frontier) {
                Some(here) if (here.epoch, here.seq) >= (epoch, seq) => return Ok(()),
                None if self.id.is_some() => return Err("the repository was deleted here".into()),
                _ => {}
            }
            tokio::time::sleep(interval).await;
            interval = (interval * 3 / 2).min(MAX_POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(chunks: &[&[u8]], message: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let mut tail = HeldTail::default();
        let passed = chunks.iter().flat_map(|chunk| tail.push(chunk)).collect();
        (passed, tail.end(message))
    }

    #[test]
    fn only_the_last_packet_is_held_back() {
        let answer = b"000b\x02hello\n000a\x01unpk0000";
        for cut in 0..answer.len() {
            let chunks = [&answer[..cut], &answer[cut..]];
            assert_eq!(through(&chunks, None), (answer[..answer.len() - 4].to_vec(), FLUSH.to_vec()));
            let (passed, rest) = through(&chunks, Some("late"));
            assert_eq!((passed.len(), rest.as_slice()), (answer.len() - 4, &b"000a\x02late\n0000"[..]));
        }
    }

    #[test]
    fn a_message_is_added_only_to_side_bands_before_a_flush() {
        assert_eq!(through(&[b"000eunpack ok\n", b"0000"], Some("late")).1, FLUSH);
        assert_eq!(through(&[b"0006\x01a0004"], Some("late")).1, b"0004");
        assert_eq!(through(&[b"00"], Some("late")), (Vec::new(), b"00".to_vec()));
        assert_eq!(through(&[], Some("late")), (Vec::new(), Vec::new()));
    }
}
