//! Pushes over SSH that go on to the primary: one conversation here, two requests there.
//!
//! A client over SSH keeps its side open until it has the report, and a request over HTTP needs an end. A thread reads the
//! push as it passes, up to the end of its pack ([`PushEnd`]), and keeps none of it. A push whose end cannot be found goes on as far as it
//! came, and the primary refuses it in its own words: it takes no pack without its checksum.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::headers::ForwardedRequest;
use super::other_host::{Asked, OtherHost};
use super::push::Forwarding;
use crate::admission::{ComputePermit, Slot};
use crate::exchange::Exchange;
use crate::exchange::dialogue::{Break, Dialogue, Failed};
use crate::request::refusal::Refusal;
use gitferry_git::receive_pack::PushEnd;

/// Pieces of a push that wait for the primary to take them, each at most what the client sent at once.
const MAX_PIECES: usize = 8;
/// Longest time for the primary to take a piece of a push. Then the push ends where it is.
const TAKE_TIMEOUT: Duration = Duration::from_secs(600);
/// Beginning of an advertisement over HTTP, which one over SSH does not have.
const SERVICE: &[u8] = b"001f# service=git-receive-pack\n0000";

/// Pieces of a push on their way to the primary.
type Pieces = mpsc::Receiver<Result<Bytes, std::io::Error>>;

impl Forwarding {
    /// Forwards a push as a conversation with state, from the advertisement of `primary` on. A client that has nothing to
    /// push costs the primary no more than that. Its objects have `object_bytes` at most each.
    ///
    /// # Errors
    /// The primary cannot know the client, refuses the client, or is away; or this host has no room.
    pub async fn converse(
        self: &Arc<Self>,
        primary: Arc<OtherHost>,
        request: ForwardedRequest,
        object_bytes: u64,
        input: Body,
    ) -> Result<Dialogue, Refusal> {
        if !request.is_known_at(self.region(), primary.region())? {
            let url = format!("{}/{}", primary.url(), request.repository);
            let reason = format!("the primary does not know keys of a file; push to {url}");
            return Err(Refusal::Forbidden(reason));
        }
        let slot = self.exchanges().admit_conversation().await?;
        let refs = primary.refs(&request, self.region()).await?;
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = move |exchange| drop(end.send(Passage::pass(exchange, PushEnd::new(object_bytes), begin)));
        // The thread writes nothing: the body of its output stays empty.
        drop(self.exchanges().start_conversation(slot.clone(), input, work)?);
        let forwarding = self.clone();
        let push = Passing { forwarding, primary: primary.clone(), request, slot, begun, ended };
        let report = stream::once(push.report()).try_flatten();
        Ok(Dialogue { output: advertisement(refs, primary).chain(report).boxed(), failed: Failed::default() })
    }
}

/// The advertisement of `primary`, as a client over SSH reads it.
fn advertisement(
    refs: reqwest::Response,
    primary: Arc<OtherHost>,
) -> impl Stream<Item = Result<Bytes, Break>> + Send + use<> {
    let mut missing = SERVICE;
    refs.bytes_stream().map(move |chunk| {
        let mut chunk = chunk.map_err(|error| Break::Refused(primary.unanswered(error, Asked::Refs)))?;
        let (expected, rest) = missing.split_at(missing.len().min(chunk.len()));
        missing = rest;
        if chunk.split_to(expected.len()) != expected {
            tracing::warn!(url = primary.url(), "the refs of the primary do not begin as those of a Git server");
            return Err(Break::Failed);
        }
        Ok(chunk)
    })
}

/// A conversation that is forwarded.
struct Passing {
    forwarding: Arc<Forwarding>,
    primary: Arc<OtherHost>,
    request: ForwardedRequest,
    slot: Slot,
    /// The push, once its first line comes. Closed without it if the client has nothing to push.
    begun: oneshot::Receiver<Pieces>,
    /// Result of the thread that reads the push.
    ended: oneshot::Receiver<Result<(), Refusal>>,
}

impl Passing {
    /// Sends the push once it begins; the report of the primary.
    async fn report(self) -> Result<BoxStream<'static, Result<Bytes, Break>>, Break> {
        let Passing { forwarding, primary, request, slot, begun, mut ended } = self;
        let Ok(pieces) = begun.await else {
            in_order(ended.await)?;
            return Ok(stream::empty().boxed());
        };
        let pieces = stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) });
        let body = reqwest::Body::wrap_stream(pieces);
        let sending = forwarding.send(primary.clone(), request, slot, body);
        tokio::pin!(sending);
        let relay = tokio::select! {
            biased;
            passed = &mut ended => {
                in_order(passed)?;
                sending.await.map_err(Break::Refused)?
            }
            relay = &mut sending => {
                let relay = relay.map_err(Break::Refused)?;
                // The report is not read before: its idle timeout is not for the time in which the client sends.
                in_order(ended.await)?;
                relay
            }
        };
        let chunks = relay.into_chunks();
        Ok(chunks.map_err(move |error| Break::Refused(primary.unanswered(error, Asked::Push))).boxed())
    }
}

/// The result of the thread; without one it has panicked.
fn in_order(passed: Result<Result<(), Refusal>, oneshot::error::RecvError>) -> Result<(), Break> {
    passed.map_err(|_| Break::Failed)?.map_err(Break::Refused)
}

/// The way of a push through this host, on its thread.
struct Passage {
    pieces: mpsc::Sender<Result<Bytes, std::io::Error>>,
    compute: Arc<ComputePermit>,
    runtime: Handle,
}

impl Passage {
    /// Reads a push to its end, and passes it on from its first line on. Ends early, without an error, where the primary
    /// takes no more, or the push is none.
    fn pass(exchange: Exchange, mut end: PushEnd, begin: oneshot::Sender<Pieces>) -> Result<(), Refusal> {
        let Exchange { mut input, compute, runtime, .. } = exchange;
        let (sender, pieces) = mpsc::channel(MAX_PIECES);
        let passage = Passage { pieces: sender, compute, runtime };
        let mut begin = Some((begin, pieces));
        let mut held = Vec::new();
        loop {
            let bytes = input.fill_buf().inspect_err(|error| passage.break_off(error))?;
            if bytes.is_empty() {
                return Ok(());
            }
            let count = bytes.len();
            let found = end.feed(bytes);
            held.extend_from_slice(bytes);
            input.consume(count);
            if end.has_begun()
                && let Some((begin, pieces)) = begin.take()
                && begin.send(pieces).is_err()
            {
                return Ok(());
            }
            if let (Err(error), true) = (found, begin.is_some()) {
                return Err(Refusal::BadRequest(error.to_string()));
            }
            // What follows the end goes on, too: the primary refuses it.
            if begin.is_none() && !passage.hand_over(std::mem::take(&mut held).into()) {
                return Ok(());
            }
            match found {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "a push is passed on as far as it came");
                    return Ok(());
                }
            }
        }
    }

    /// Hands a piece over. Returns false if the primary takes no more.
    fn hand_over(&self, piece: Bytes) -> bool {
        let piece = match self.pieces.try_send(Ok(piece)) {
            Ok(()) => return true,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(piece)) => piece,
        };
        let taking = self.pieces.send_timeout(piece, TAKE_TIMEOUT);
        self.runtime.block_on(self.compute.release_while_awaiting(taking)).is_ok()
    }

    /// Fails the request to the primary. If there is no room, the request ends without the rest of the push, which the
    /// primary refuses as well.
    fn break_off(&self, error: &std::io::Error) {
        let _ = self.pieces.try_send(Err(error.kind().into()));
    }
}
