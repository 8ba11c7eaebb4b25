//! Pushes that go on to the primary, and the wait until this region has them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};

use super::headers::ForwardedRequest;
use super::held_tail::HeldTail;
use super::other_host::OtherHost;
use crate::admission::Slot;
use crate::announcer::Announcer;
use crate::client::Client;
use crate::exchange::Exchanges;
use crate::request::git_http::git_response;
use crate::request::refusal::Refusal;
use gitferry_engine::ledger::head::Frontier;
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::Region;

/// First interval between two reads of the local head. Intervals grow by half each time.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Longest interval between two reads of the local head.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Service of a repository that takes pushes.
const RECEIVE_PACK: &str = "/git-receive-pack";
/// Content type of the response to a push.
const RESULT: &str = "application/x-git-receive-pack-result";

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
        let headers = request.headers(&self.region, primary.region(), RECEIVE_PACK)?;
        Client::current().entry().detail("forwardedTo", primary.region());
        let sent = primary.post(&request.path(RECEIVE_PACK)).headers(headers);
        let response = sent.body(reqwest::Body::wrap_stream(input)).send().await;
        let response = primary.check(response, RESULT)?;
        let forwarding = self.clone();
        let relay = Relay {
            response: response.bytes_stream().boxed(),
            tail: HeldTail::default(),
            ended: false,
            push: ForwardedPush { forwarding, primary, request, _slot: slot },
        };
        let chunks = stream::unfold(relay, |mut relay| async move { Some((relay.next().await?, relay)) });
        Ok(git_response(RESULT, Body::from_stream(chunks)))
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
