//! Pushes to a replica, forwarded to the primary's host.
//!
//! The client's request goes through as it is, credentials included: the primary decides by itself. Its answer
//! comes back as it comes, but for the last packet, which waits until this region has the change, too: who pushed
//! reads their own write here.

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

use super::gate::Slot;
use super::{Host, Refusal, body, git_response};
use gitferry_base::certificates::{CertificateError, read_certificates};
use gitferry_base::error::chain;
use gitferry_engine::announce::Event;
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::head::{Frontier, Head, RepositoryId, Role};
use gitferry_engine::region::RegionError;
use gitferry_git::protocol::{Band, PacketWriter};

/// Marks a forwarded request, with the region that forwards. A replica does not forward it again.
const FORWARDED_BY: HeaderName = HeaderName::from_static("gitferry-forwarded-by");
/// The id of the repository that a forwarded request is for. Names may mean other repositories in other regions for a
/// while; a host refuses a request whose name means another one than this here.
const REPOSITORY: HeaderName = HeaderName::from_static("gitferry-repository");
/// How long it may take to reach another host.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Another host that says nothing for this long has failed; the check of a huge pack may take minutes.
const ANSWER_SILENCE: Duration = Duration::from_secs(600);
/// How often a silent connection to another host is probed.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// Probes without an answer that end a connection.
const PROBES: u32 = 3;
/// First and longest pause between two looks at the local head.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// Largest answer that names a frontier, in bytes.
const MAX_FRONTIER_BYTES: usize = 4096;
/// What ends an answer of receive-pack.
const FLUSH: &[u8] = b"0000";

/// Which state a repository is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryFrontier {
    /// Which repository.
    pub repository: RepositoryId,
    /// The state.
    #[serde(flatten)]
    pub frontier: Frontier,
}

/// The hosts of other regions.
#[derive(Debug)]
pub struct Forwarder {
    hosts: BTreeMap<String, Arc<OtherHost>>,
}

/// Why other hosts cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// The certificates that one is recognised by.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The HTTP client.
    #[error("the host of {region} cannot be prepared for: {error}")]
    Client {
        /// Whose host.
        region: String,
        /// Why.
        error: reqwest::Error,
    },
}

impl ForwarderError {
    /// What the caller should do.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            ForwarderError::Certificate(error) => error.kind(),
            ForwarderError::Client { .. } => gitferry_base::Kind::Usage,
        }
    }
}

impl Forwarder {
    /// The host of a region, where one is configured.
    pub(super) fn host(&self, region: &str) -> Option<Arc<OtherHost>> {
        self.hosts.get(region).cloned()
    }

    /// For hosts by region: where they are, and the file of certificates that they are recognised by, if not by
    /// those that the system trusts.
    pub fn new<'a>(
        hosts: impl IntoIterator<Item = (&'a str, String, Option<&'a Path>)>,
    ) -> Result<Self, ForwarderError> {
        // Where somebody else has chosen already, that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut all = BTreeMap::new();
        for (region, url, ca) in hosts {
            let fail = |error| ForwarderError::Client { region: region.into(), error };
            let mut client = reqwest::Client::builder()
                // Credentials go to the host that was configured and nowhere else.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_TIME)
                .read_timeout(ANSWER_SILENCE)
                .tcp_nodelay(true)
                .tcp_keepalive(PROBE_EVERY)
                .tcp_keepalive_interval(PROBE_EVERY)
                .tcp_keepalive_retries(PROBES)
                .http2_keep_alive_interval(PROBE_EVERY);
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

/// The region that forwards a request, if it is forwarded.
pub(super) fn forwarded_by(headers: &HeaderMap) -> Option<&str> {
    headers.get(FORWARDED_BY).map(|value| value.to_str().unwrap_or("another region"))
}

/// Refuses a request that was forwarded for another repository than its name means here. `here` is `None` where it means
/// none. Requests that name no id are for whatever their name means.
pub(super) fn check_meant(
    headers: &HeaderMap,
    name: &str,
    region: &str,
    here: Option<RepositoryId>,
) -> Result<(), Refusal> {
    let Some(meant) = headers.get(REPOSITORY) else { return Ok(()) };
    let meant: Option<RepositoryId> = meant.to_str().ok().and_then(|id| id.parse().ok());
    match meant {
        None => Err(Refusal::Bad(format!("the header {REPOSITORY} is not the id of a repository"))),
        Some(id) if here == Some(id) => Ok(()),
        Some(id) => Err(RegionError::Replaced { name: name.into(), region: region.into(), id }.into()),
    }
}

/// What the primary has to know of a client's request: `id` is the repository that its name means in `region`, `None`
/// where the request is to make one.
pub(super) fn passed_on(headers: &HeaderMap, region: &str, id: Option<RepositoryId>) -> HeaderMap {
    let names = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::ACCEPT,
        header::USER_AGENT,
        HeaderName::from_static("git-protocol"),
    ];
    let mut passed: HeaderMap =
        names.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect();
    let region = HeaderValue::from_str(region).unwrap_or(HeaderValue::from_static("another region"));
    passed.insert(FORWARDED_BY, region);
    let id = id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
    id.map(|id| passed.insert(REPOSITORY, id));
    passed
}

impl OtherHost {
    /// What there is to push onto, as this host says.
    pub(super) async fn advertisement(
        &self,
        repository: &str,
        id: Option<RepositoryId>,
        headers: &HeaderMap,
        region: &str,
    ) -> Result<Response, Refusal> {
        let url = format!("{}/{repository}/info/refs?service=git-receive-pack", self.url);
        let answer = self.client.get(url).headers(passed_on(headers, region, id)).send().await;
        let answer = self.taken(answer, "application/x-git-receive-pack-advertisement")?;
        let pieces = answer.bytes_stream().map(|piece| piece.map_err(reqwest::Error::without_url));
        git_response("application/x-git-receive-pack-advertisement".into(), Body::from_stream(pieces))
    }

    /// An answer of the kind that was asked for, or what to tell the client instead.
    fn taken(
        &self,
        answer: Result<reqwest::Response, reqwest::Error>,
        content_type: &str,
    ) -> Result<reqwest::Response, Refusal> {
        let OtherHost { region, url, .. } = self;
        let refuse = |status, what: String| {
            Err(Refusal::Primary(status, format!("the primary {url} in {region} {what}; nothing was pushed")))
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = error.without_url();
                let what = if error.is_connect() { "cannot be reached" } else { "did not answer" };
                tracing::warn!(region, url, error = chain(&error), "a push could not be forwarded");
                return refuse(StatusCode::SERVICE_UNAVAILABLE, what.into());
            }
        };
        match answer.status() {
            StatusCode::OK if answer.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == content_type) => {
                Ok(answer)
            }
            StatusCode::UNAUTHORIZED => refuse(StatusCode::UNAUTHORIZED, "does not know you".into()),
            StatusCode::FORBIDDEN => refuse(StatusCode::FORBIDDEN, "does not let you push".into()),
            StatusCode::CONFLICT => {
                let what = "has another repository of that name by now, or none; fetch again when it has come here";
                refuse(StatusCode::CONFLICT, what.into())
            }
            status => {
                tracing::warn!(region, url, %status, "a push could not be forwarded");
                refuse(StatusCode::SERVICE_UNAVAILABLE, format!("answered {}", status.as_u16()))
            }
        }
    }

    /// The state that a repository is in there.
    async fn frontier(&self, repository: &str, headers: &HeaderMap) -> Result<RepositoryFrontier, String> {
        let url = format!("{}/{repository}/info/frontier", self.url);
        let mut passed = HeaderMap::new();
        headers.get(header::AUTHORIZATION).map(|value| passed.insert(header::AUTHORIZATION, value.clone()));
        let text = |error: reqwest::Error| chain(&error.without_url());
        let answer = self.client.get(url).headers(passed).send().await.map_err(text)?;
        let mut answer = answer.error_for_status().map_err(text)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(text)? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_FRONTIER_BYTES {
                return Err("its answer is too long".into());
            }
        }
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

impl Host {
    /// The host that a push to a repository is forwarded to, if it is.
    pub(super) fn forwards_to(&self, head: &Head, headers: &HeaderMap) -> Option<Arc<OtherHost>> {
        let forwarder = self.forwarder.as_ref().filter(|_| forwarded_by(headers).is_none())?;
        if head.role != Role::Replica {
            return None;
        }
        forwarder.hosts.get(&head.epoch.region).cloned()
    }

    /// Sends a push on, and its answer back.
    pub(super) async fn forward_push(
        self: Arc<Self>,
        primary: Arc<OtherHost>,
        id: Option<RepositoryId>,
        repository: String,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        let slot = self.gate.enter().await?;
        let input = body::begin(body::pieces(input, self.limits.request_silence, Some(slot.clone()))).await?;
        let url = format!("{}/{repository}/git-receive-pack", primary.url);
        let request = primary.client.post(url).headers(passed_on(headers, &self.region.name, id));
        let answer = request.body(reqwest::Body::wrap_stream(input)).send().await;
        let content_type = "application/x-git-receive-pack-result";
        let answer = primary.taken(answer, content_type)?;
        let headers = headers.clone();
        let relay = Relay {
            answer: answer.bytes_stream().boxed(),
            held: Held::default(),
            ended: false,
            push: Forwarded { host: self, primary, id, repository, headers, _slot: slot },
        };
        let pieces = stream::unfold(relay, |mut relay| async move { Some((relay.next().await?, relay)) });
        git_response(content_type.into(), Body::from_stream(pieces))
    }
}

/// The answer to a forwarded push on its way back.
struct Relay {
    answer: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    held: Held,
    ended: bool,
    push: Forwarded,
}

impl Relay {
    async fn next(&mut self) -> Option<Result<Bytes, reqwest::Error>> {
        while !self.ended {
            match self.answer.next().await {
                Some(Ok(piece)) => {
                    let free = self.held.pass(&piece);
                    if !free.is_empty() {
                        return Some(Ok(free.into()));
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error.without_url()));
                }
                None => {
                    self.ended = true;
                    let message = self.push.until_here().await.err();
                    return Some(Ok(self.held.end(message.as_deref()).into()));
                }
            }
        }
        None
    }
}

/// The end of an answer, which is kept back: a client believes that a push is over when the last flush packet
/// has come.
#[derive(Debug, Default)]
struct Held {
    front: Vec<u8>,
    tail: Vec<u8>,
}

impl Held {
    /// Takes a piece, and gives back what may go on.
    fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        let missing = (FLUSH.len() + 1).saturating_sub(self.front.len());
        self.front.extend_from_slice(&piece[..missing.min(piece.len())]);
        self.tail.extend_from_slice(piece);
        let keep = self.tail.split_off(self.tail.len().saturating_sub(FLUSH.len()));
        std::mem::replace(&mut self.tail, keep)
    }

    /// The rest, with a message for the person who pushes in front where there is a band for it.
    fn end(&mut self, message: Option<&str>) -> Vec<u8> {
        let mut rest = Vec::new();
        let banded = self.front.get(FLUSH.len()).is_some_and(|band| (1..=3).contains(band));
        if let Some(message) = message
            && banded
            && self.tail == FLUSH
        {
            let text = format!("{message}\n");
            // Into memory: cannot fail.
            let _ = PacketWriter::new(&mut rest).parts(&[&[Band::Progress as u8], text.as_bytes()]);
        }
        rest.append(&mut self.tail);
        rest
    }
}

/// A push that the primary has answered.
struct Forwarded {
    host: Arc<Host>,
    primary: Arc<OtherHost>,
    /// The repository here; `None` where there was none before the push.
    id: Option<RepositoryId>,
    repository: String,
    headers: HeaderMap,
    _slot: Slot,
}

impl Forwarded {
    /// Waits, not for ever, until this region has what the primary has. Fails with what to tell the client.
    async fn until_here(&self) -> Result<(), String> {
        let waited = tokio::time::timeout(self.host.limits.forward_wait, self.caught_up()).await;
        let reason = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => "it takes too long".into(),
        };
        let (region, repository) = (&self.host.region.name, &self.repository);
        tracing::warn!(region, repository, reason, "a forwarded push was answered before it was here");
        Err(format!("the push went to {}; {region} will have it later", self.primary.url))
    }

    async fn caught_up(&self) -> Result<(), String> {
        let there = self.primary.frontier(&self.repository, &self.headers).await?;
        if self.id.is_some_and(|here| here != there.repository) {
            return Err("the primary has another repository of that name".into());
        }
        let id = there.repository;
        let Frontier { epoch, seq, .. } = there.frontier;
        // A worker beside this host may not have heard of it.
        self.host.events.publish(Event { region: self.primary.region.clone(), repository: id, seq });
        let mut pause = PAUSES.0;
        loop {
            let item = read_head(&*self.host.region.table, id).await.map_err(|error| error.to_string())?;
            match item.map(|item| item.head.frontier) {
                Some(here) if (here.epoch, here.seq) >= (epoch, seq) => return Ok(()),
                None if self.id.is_some() => return Err("the repository is gone here".into()),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(pieces: &[&[u8]], message: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let mut held = Held::default();
        let passed = pieces.iter().flat_map(|piece| held.pass(piece)).collect();
        (passed, held.end(message))
    }

    #[test]
    fn only_the_last_packet_is_held_back() {
        let answer = b"000b\x02hello\n000a\x01unpk0000";
        for cut in 0..answer.len() {
            let pieces = [&answer[..cut], &answer[cut..]];
            assert_eq!(through(&pieces, None), (answer[..answer.len() - 4].to_vec(), FLUSH.to_vec()));
            let (passed, rest) = through(&pieces, Some("late"));
            assert_eq!((passed.len(), rest.as_slice()), (answer.len() - 4, &b"000a\x02late\n0000"[..]));
        }
    }

    #[test]
    fn nothing_is_put_where_it_does_not_belong() {
        assert_eq!(through(&[b"000eunpack ok\n", b"0000"], Some("late")).1, FLUSH);
        assert_eq!(through(&[b"0006\x01a0004"], Some("late")).1, b"0004");
        assert_eq!(through(&[b"00"], Some("late")), (Vec::new(), b"00".to_vec()));
        assert_eq!(through(&[], Some("late")), (Vec::new(), Vec::new()));
    }
}
