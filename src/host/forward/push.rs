//! Pushes that go on to the primary, and the wait until this region has them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;

use super::headers::ForwardedRequest;
use super::held_tail::HeldTail;
use super::other_host::{Asked, OtherHost, REPORT};
use crate::admission::Slot;
use crate::announcer::Announcer;
use crate::client::Client;
use crate::exchange::Exchanges;
use crate::request::git_http::git_response;
use crate::request::refusal::Refusal;
use gitferry_base::chunks::Chunks;
use gitferry_engine::ledger::head::Frontier;
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::Region;

/// First interval between two reads of the local head. Intervals grow by half each time.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Longest interval between two reads of the local head.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Service of a repository that takes pushes.
const RECEIVE_PACK: &str = "/git-receive-pack";

/// Forwards pushes of clients of this region.
#[derive(Debug)]
pub struct Forwarding {
    region: Region,
    exchanges: Arc<Exchanges>,
    announcer: Announcer,
    /// Longest wait of a client until this region has its push.
    wait: Duration,
}

impl Forwarding {
    /// Forwards pushes that reach the host of `region`.
    pub fn new(region: Region, exchanges: Arc<Exchanges>, announcer: Announcer, wait: Duration) -> Arc<Self> {
        Arc::new(Forwarding { region, exchanges, announcer, wait })
    }

    /// Relays the advertisement of receive-pack of `primary`.
    pub async fn advertise(&self, primary: &OtherHost, request: &ForwardedRequest) -> Result<Response, Refusal> {
        primary.advertisement(request, &self.region).await
    }

    /// Forwards a push to `primary` and relays its response.
    pub async fn push(
        self: &Arc<Self>,
        primary: Arc<OtherHost>,
        request: ForwardedRequest,
        input: Body,
    ) -> Result<Response, Refusal> {
        let (slot, input) = self.exchanges.admit(input).await?;
        let (input, passed) = with_end(input);
        let relay = self.send(primary, request, slot, reqwest::Body::wrap_stream(input)).await?;
        let relay = Relay { passed: Some(passed), ..relay };
        Ok(git_response(REPORT, Body::from_stream(relay.into_chunks())))
    }

    /// Sends a push that has been admitted to `primary`.
    pub(super) async fn send(
        self: &Arc<Self>,
        primary: Arc<OtherHost>,
        request: ForwardedRequest,
        slot: Slot,
        body: reqwest::Body,
    ) -> Result<Relay, Refusal> {
        let headers = request.headers(&self.region, primary.region(), RECEIVE_PACK)?;
        Client::current().entry().detail("forwardedTo", primary.region());
        let response = primary.post(&request.path(RECEIVE_PACK)).headers(headers).body(body).send().await;
        let response = primary.check(response, Asked::Push)?.bytes_stream().boxed();
        let push = ForwardedPush { forwarding: self.clone(), primary, request, _slot: slot };
        Ok(Relay { passed: None, response, tail: HeldTail::default(), ended: false, push })
    }

    /// Region whose clients push.
    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// Admission of pushes.
    pub(super) fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }
}

/// A push, and a signal that it has been taken to its end or dropped.
fn with_end(push: Chunks) -> (Chunks, oneshot::Receiver<()>) {
    let (end, ended) = oneshot::channel();
    let push = stream::unfold((push, end), |(mut push, end)| async move { Some((push.next().await?, (push, end))) });
    (push.boxed(), ended)
}

/// The response to a forwarded push, relayed to the client.
pub(super) struct Relay {
    /// Comes once the primary has the whole push, or takes no more of it. The response is not read before: its idle
    /// timeout is not for the time in which the client sends.
    passed: Option<oneshot::Receiver<()>>,
    response: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    tail: HeldTail,
    ended: bool,
    push: ForwardedPush,
}

impl Relay {
    /// The chunks of the response.
    pub(super) fn into_chunks(self) -> impl Stream<Item = Result<Bytes, reqwest::Error>> + Send + use<> {
        stream::unfold(self, |mut relay| async move { Some((relay.next().await?, relay)) })
    }

    async fn next(&mut self) -> Option<Result<Bytes, reqwest::Error>> {
        if let Some(passed) = self.passed.take() {
            // Fails, as nothing is sent: the end of the sender is the signal.
            let _ = passed.await;
        }
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

/// A forwarded push that the primary has answered.
struct ForwardedPush {
    forwarding: Arc<Forwarding>,
    primary: Arc<OtherHost>,
    request: ForwardedRequest,
    _slot: Slot,
}

impl ForwardedPush {
    /// Waits at most `forward_wait` until this region has the state of the primary. The error is a message for the
    /// client.
    async fn wait_until_replicated(&self) -> Result<(), String> {
        let waited = tokio::time::timeout(self.forwarding.wait, self.catch_up()).await;
        let reason = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => "the wait for replication timed out".into(),
        };
        let region = self.forwarding.region.name();
        let repository = &self.request.repository;
        tracing::warn!(region, repository, reason, "a forwarded push was answered before it was replicated here");
        Err(format!("the push is committed at {}; {region} will have it later", self.primary.url()))
    }

    async fn catch_up(&self) -> Result<(), String> {
        let there = self.primary.frontier(&self.request, &self.forwarding.region).await?;
        if self.request.id.is_some_and(|here| here != there.repository) {
            return Err("the primary has another repository of that name".into());
        }
        let id = there.repository;
        let Frontier { epoch, seq, .. } = there.frontier;
        // A worker that listens to this host may not have received the event of the primary.
        self.forwarding.announcer.announce(self.primary.region(), id, seq);
        let mut interval = MIN_POLL_INTERVAL;
        loop {
            let item = read_head(self.forwarding.region.table(), id).await.map_err(|error| error.to_string())?;
            match item.map(|item| item.head.frontier) {
                Some(here) if (here.epoch, here.seq) >= (epoch, seq) => return Ok(()),
                None if self.request.id.is_some() => return Err("the repository was deleted in this region".into()),
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
    use futures::FutureExt as _;

    #[tokio::test]
    async fn the_end_of_a_push_comes_with_its_last_chunk_or_when_it_is_dropped() {
        let chunks = || stream::iter(["one", "two"]).map(|text| Ok(Bytes::from(text))).boxed();
        let (mut push, mut ended) = with_end(chunks());
        for text in ["one", "two"] {
            assert!((&mut ended).now_or_never().is_none());
            assert_eq!(push.next().await.unwrap().unwrap(), text);
        }
        assert!(push.next().await.is_none());
        assert!((&mut ended).now_or_never().is_some());
        let (push, ended) = with_end(chunks());
        drop(push);
        assert!(ended.now_or_never().is_some());
    }
}
