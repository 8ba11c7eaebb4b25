//! Reads a request's body to its end before the response begins.
//!
//! nginx stops sending a body once it has the head of the response, and curl loses responses that end an HTTP/2 stream
//! before the request has ended. The head of a response is therefore sent only after one of these:
//!
//! - the handler has read the body to its end, or reading failed;
//! - the handler has dropped the body, as every early refusal does, and the rest has been drained, up to
//!   [`MAX_DRAINED_BYTES`] and [`MAX_DRAIN_TIME`]; beyond these limits the connection closes with the response;
//! - the client sent `Expect: 100-continue`, and the handler has not read any of the body.
//!
//! A handler that responds while it reads (negotiation in protocol version 0) would deadlock with a client that waits
//! for the response. Once its response begins, the body is therefore read ahead of the handler, up to
//! [`shared_body::MAX_AHEAD_BYTES`].

mod shared_body;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::exchange::request_body;
use shared_body::{Data, SharedBody};

/// Most bytes of a refused request's body that are read and dropped before the response.
pub const MAX_DRAINED_BYTES: u64 = 256 << 20;
/// Longest time that a refused request's body is read.
pub const MAX_DRAIN_TIME: Duration = Duration::from_secs(120);
/// Idle timeout of a client whose refused request's body is read.
const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Splits a request's body into the part for the handler, and one that delays the response until the body has been
/// read.
pub fn track(headers: &HeaderMap, body: Body) -> (Body, ResponseDelay) {
    let shared = SharedBody::new(body);
    let expects_continue =
        headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    (Body::new(shared.reader()), ResponseDelay { shared, expects_continue })
}

/// Delays a response until its request's body has been read.
pub struct ResponseDelay {
    shared: Arc<SharedBody>,
    expects_continue: bool,
}

/// State in which a handler leaves a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyEnd {
    /// The body has been read to its end, or reading failed.
    Read,
    /// The handler dropped the body early.
    Dropped,
}

impl ResponseDelay {
    /// Returns the response once it may be sent. `idle_timeout` bounds the wait for a body that no handler reads. If
    /// `is_revoked` is true by then, returns the response of `instead` and closes the connection.
    pub async fn until_read(
        self,
        response: Response,
        idle_timeout: Duration,
        is_revoked: impl Fn() -> bool,
        instead: impl FnOnce() -> Response,
    ) -> Response {
        let (mut parts, mut body) = response.into_parts();
        let mut first = None;
        let end = poll_fn(|context| self.poll_end(context, &mut body, &mut first)).await;
        if end == BodyEnd::Dropped && is_revoked() {
            let mut response = instead();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        if end == BodyEnd::Dropped && !self.drain(idle_timeout.min(DRAIN_IDLE_TIMEOUT)).await {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        match first {
            None => Response::from_parts(parts, body),
            // Nothing has been sent yet, so the failure can still be reported as a status.
            Some(Some(Err(error))) => {
                tracing::debug!(%error, "a response failed before its first byte");
                let reason = "the request failed; the operator's log says why\n";
                (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
            }
            Some(None) => Response::from_parts(parts, Body::empty()),
            Some(Some(Ok(first))) => Response::from_parts(parts, Body::new(Joined { first: Some(first), rest: body })),
        }
    }

    fn poll_end(&self, context: &mut Context<'_>, response: &mut Body, first: &mut Option<Data>) -> Poll<BodyEnd> {
        let dropped = self.shared.wake_response(context.waker());
        if !self.shared.is_open() {
            return Poll::Ready(BodyEnd::Read);
        }
        if dropped {
            return Poll::Ready(BodyEnd::Dropped);
        }
        if first.is_none()
            && let Poll::Ready(frame) = Pin::new(response).poll_frame(context)
        {
            *first = Some(frame);
        }
        if first.is_none() {
            return Poll::Pending;
        }
        if self.shared.read_ahead() { Poll::Pending } else { Poll::Ready(BodyEnd::Read) }
    }

    /// Returns true if the announced length of the body exceeds [`MAX_DRAINED_BYTES`].
    fn announces_too_much(&self) -> bool {
        self.shared.announced_bytes() > MAX_DRAINED_BYTES
    }

    /// Reads and drops the rest of a body that the handler has dropped. Returns true if the end was reached.
    async fn drain(self, idle_timeout: Duration) -> bool {
        if (self.expects_continue && !self.shared.was_polled()) || self.announces_too_much() {
            return false;
        }
        let rest = Body::new(self.shared.reader());
        let mut chunks = request_body::chunks(rest, idle_timeout, None);
        let all = async {
            let mut bytes = 0;
            while let Some(chunk) = chunks.next().await {
                bytes += chunk?.len() as u64;
                if bytes > MAX_DRAINED_BYTES {
                    return Ok(false);
                }
            }
            Ok::<bool, std::io::Error>(true)
        };
        matches!(tokio::time::timeout(MAX_DRAIN_TIME, all).await, Ok(Ok(true)))
    }
}

/// A body whose first frame has been read already.
struct Joined {
    first: Option<Frame<Bytes>>,
    rest: Body,
}

impl HttpBody for Joined {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Data> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shared_body::MAX_AHEAD_BYTES;
    use super::*;
    use futures::stream;
    use tokio::sync::mpsc;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    /// A body that arrives in the chunks that are sent.
    fn chunked() -> (mpsc::UnboundedSender<Bytes>, Body) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let chunks = stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<Bytes>| async {
            Some((Ok::<Bytes, std::io::Error>(receiver.recv().await?), receiver))
        });
        (sender, Body::from_stream(chunks))
    }

    async fn is_delayed(delayed: &mut (impl Future<Output = Response> + Unpin)) -> bool {
        tokio::time::timeout(Duration::from_secs(1), delayed).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_waits_for_the_rest_of_the_body() {
        let (sender, body) = chunked();
        let (body, delay) = track(&HeaderMap::new(), body);
        drop(body);
        let mut delayed = Box::pin(delay.until_read("no".into_response(), IDLE_TIMEOUT, || false, || unreachable!()));
        sender.send(Bytes::from_static(b"half")).unwrap();
        assert!(is_delayed(&mut delayed).await);
        drop(sender);
        assert!(!delayed.await.headers().contains_key(header::CONNECTION));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_idle_after_a_refusal_is_disconnected() {
        let (_sender, body) = chunked();
        let (body, delay) = track(&HeaderMap::new(), body);
        drop(body);
        let response = delay.until_read("no".into_response(), IDLE_TIMEOUT, || false, || unreachable!()).await;
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_drained_to_its_end_is_dropped() {
        let (sender, body) = chunked();
        let (body, delay) = track(&HeaderMap::new(), body);
        drop(body);
        delay.until_read("no".into_response(), IDLE_TIMEOUT, || false, || unreachable!()).await;
        // The server can close the connection only then.
        assert!(sender.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_disconnected() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 20])));
        let (body, delay) = track(&HeaderMap::new(), Body::from_stream(endless));
        drop(body);
        let response = delay.until_read("no".into_response(), IDLE_TIMEOUT, || false, || unreachable!()).await;
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_expects_100_continue_is_answered_at_once() {
        let (_sender, body) = chunked();
        let expects = HeaderMap::from_iter([(header::EXPECT, HeaderValue::from_static("100-continue"))]);
        let (body, delay) = track(&expects, body);
        drop(body);
        let mut delayed = Box::pin(delay.until_read("no".into_response(), IDLE_TIMEOUT, || false, || unreachable!()));
        assert!(!is_delayed(&mut delayed).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_responds_while_it_reads_does_not_deadlock() {
        let (sender, body) = chunked();
        let (body, delay) = track(&HeaderMap::new(), body);
        sender.send(Bytes::from_static(b"one")).unwrap();
        let mut delayed =
            Box::pin(delay.until_read("answer".into_response(), IDLE_TIMEOUT, || false, || unreachable!()));
        assert!(is_delayed(&mut delayed).await);
        sender.send(Bytes::from_static(b"two")).unwrap();
        drop(sender);
        let response = delayed.await;
        // The handler receives the bytes that were read ahead.
        assert_eq!(axum::body::to_bytes(body, 100).await.unwrap(), "onetwo");
        assert_eq!(response.into_body().size_hint().exact(), Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_read_ahead_are_bounded() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 16])));
        let (body, delay) = track(&HeaderMap::new(), Body::from_stream(endless));
        let shared = delay.shared.clone();
        let mut delayed =
            Box::pin(delay.until_read("answer".into_response(), IDLE_TIMEOUT, || false, || unreachable!()));
        assert!(is_delayed(&mut delayed).await);
        assert_eq!(shared.ahead_bytes(), MAX_AHEAD_BYTES);
        drop(body);
        assert_eq!(delayed.await.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_fails_before_its_first_byte_is_an_error() {
        let (sender, body) = chunked();
        let (body, delay) = track(&HeaderMap::new(), body);
        let failing = stream::iter([Err::<Bytes, _>(std::io::Error::other("failed"))]);
        let mut delayed = Box::pin(delay.until_read(
            Body::from_stream(failing).into_response(),
            IDLE_TIMEOUT,
            || false,
            || unreachable!(),
        ));
        assert!(is_delayed(&mut delayed).await);
        drop((sender, body));
        assert_eq!(delayed.await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
