//! Holds an answer back until its request's body has been read.
//!
//! nginx stops sending a body once it has the head of the answer, and curl loses answers that end an HTTP/2 stream
//! before the request has ended. So no head of an answer goes out before one of these has happened:
//!
//! - the handler has read the body to its end, or reading failed;
//! - the handler has let go of the body, as every early refusal does, and the rest has been read and thrown away, up
//!   to [`MAX_DRAINED_BYTES`] and [`MAX_DRAIN_TIME`]; beyond that the connection ends with the answer;
//! - the client waits to be asked for its body (`Expect: 100-continue`), and the handler has not asked.
//!
//! A handler that answers while it reads (negotiation in version 0) would wait for a client that waits for it. Once
//! the answer begins, the body is read ahead of the handler, up to [`MAX_AHEAD_BYTES`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::body;

/// Most bytes of a request's body that are read and thrown away before it is refused.
pub const MAX_DRAINED_BYTES: u64 = 256 << 20;
/// Longest time that this takes.
pub const MAX_DRAIN_TIME: Duration = Duration::from_secs(120);
/// A client that sends (almost) nothing of such a body for this long is given up.
const DRAIN_SILENCE: Duration = Duration::from_secs(10);
/// Most bytes of a request's body that are kept for a handler that has begun to answer. More than the largest round
/// of a negotiation.
const MAX_AHEAD_BYTES: usize = 1 << 20;

type Data = Option<Result<Frame<Bytes>, axum::Error>>;

/// Splits a request's body into the handler's end and the end that knows how far the handler has read.
pub fn watch(headers: &HeaderMap, body: Body) -> (Body, Watch) {
    let state = if body.is_end_stream() { State::Ended } else { State::Open };
    let source = Source { body, ahead: VecDeque::new(), ahead_bytes: 0, state, asked: false };
    let shared = Arc::new(Shared { source: Mutex::new(source), wakers: Arc::default() });
    let expects =
        headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    (Body::new(Watched { shared: shared.clone() }), Watch { shared, expects })
}

struct Shared {
    source: Mutex<Source>,
    /// Apart from the body, which keeps a waker made of them.
    wakers: Arc<Wakers>,
}

/// The body, and what has been read ahead of the handler.
struct Source {
    body: Body,
    ahead: VecDeque<Bytes>,
    ahead_bytes: usize,
    state: State,
    /// Set once any of the body has been asked for.
    asked: bool,
}

enum State {
    Open,
    Ended,
    /// Reading failed; the handler has still to hear of it where there is an error.
    Failed(Option<axum::Error>),
}

/// Both ends poll the body with the same waker: the body remembers only the last one.
#[derive(Default)]
struct Wakers(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    reader: Option<Waker>,
    watch: Option<Waker>,
    /// Set when the handler has let go of the body.
    released: bool,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        let (reader, watch) = {
            let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (ends.reader.take(), ends.watch.take())
        };
        reader.into_iter().chain(watch).for_each(Waker::wake);
    }
}

impl Shared {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakers(&self) -> MutexGuard<'_, Ends> {
        self.wakers.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// The next piece from the connection.
    fn poll(&mut self, wakers: &Arc<Wakers>) -> Poll<Data> {
        self.asked = true;
        let waker = Waker::from(wakers.clone());
        let polled = Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(&waker));
        match &polled {
            Poll::Ready(None) => self.state = State::Ended,
            Poll::Ready(Some(Err(_))) => self.state = State::Failed(None),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.state = State::Ended,
            _ => {}
        }
        polled
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Reads ahead of the handler as far as there is room.
    fn read_ahead(&mut self, wakers: &Arc<Wakers>) {
        while self.is_open() && self.ahead_bytes < MAX_AHEAD_BYTES {
            match self.poll(wakers) {
                Poll::Pending | Poll::Ready(None) => return,
                Poll::Ready(Some(Err(error))) => self.state = State::Failed(Some(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers mean nothing here.
                    if let Ok(bytes) = frame.into_data() {
                        self.ahead_bytes += bytes.len();
                        self.ahead.push_back(bytes);
                    }
                }
            }
        }
    }
}

/// The handler's end of a request's body.
struct Watched {
    shared: Arc<Shared>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Data> {
        let shared = &self.shared;
        shared.wakers().reader = Some(context.waker().clone());
        let polled = {
            let mut source = shared.source();
            match (source.ahead.pop_front(), &mut source.state) {
                (Some(bytes), _) => {
                    source.ahead_bytes -= bytes.len();
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                (None, State::Open) => source.poll(&shared.wakers),
                (None, State::Ended) => Poll::Ready(None),
                (None, State::Failed(error)) => Poll::Ready(error.take().map(Err)),
            }
        };
        if polled.is_ready()
            && let Some(watch) = { shared.wakers().watch.take() }
        {
            watch.wake();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let source = self.shared.source();
        matches!(source.state, State::Ended) && source.ahead.is_empty()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let watch = {
            let mut wakers = self.shared.wakers();
            wakers.released = true;
            wakers.watch.take()
        };
        watch.into_iter().for_each(Waker::wake);
    }
}

/// The end of a request's body that knows how far the handler has read.
pub struct Watch {
    shared: Arc<Shared>,
    expects: bool,
}

/// How the handler has left a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// There is nothing more to come.
    Read,
    /// The handler wants no more of it.
    Released,
}

impl Watch {
    /// The answer, once it may go out. `silence` bounds the wait for a body that no handler reads. A client that
    /// `is_given_up` is answered with what `instead` makes, and cut off.
    pub async fn hold(
        self,
        answer: Response,
        silence: Duration,
        is_given_up: impl Fn() -> bool,
        instead: impl FnOnce() -> Response,
    ) -> Response {
        let (mut parts, mut body) = answer.into_parts();
        let mut first = None;
        let left = poll_fn(|context| self.poll_left(context, &mut body, &mut first)).await;
        if left == Left::Released && is_given_up() {
            let mut answer = instead();
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        if left == Left::Released && !self.drain(silence.min(DRAIN_SILENCE)).await {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        match first {
            None => Response::from_parts(parts, body),
            // Nothing has been sent yet: an answer can still name the reason.
            Some(Some(Err(error))) => {
                tracing::debug!(%error, "an answer failed before it began");
                let reason = "the request failed; the operator's log says why\n";
                (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
            }
            Some(None) => Response::from_parts(parts, Body::empty()),
            Some(Some(Ok(first))) => Response::from_parts(parts, Body::new(Joined { first: Some(first), rest: body })),
        }
    }

    fn poll_left(&self, context: &mut Context<'_>, answer: &mut Body, first: &mut Option<Data>) -> Poll<Left> {
        let released = {
            let mut wakers = self.shared.wakers();
            wakers.watch = Some(context.waker().clone());
            wakers.released
        };
        if !self.shared.source().is_open() {
            return Poll::Ready(Left::Read);
        }
        if released {
            return Poll::Ready(Left::Released);
        }
        if first.is_none()
            && let Poll::Ready(piece) = Pin::new(answer).poll_frame(context)
        {
            *first = Some(piece);
        }
        if first.is_none() {
            return Poll::Pending;
        }
        let open = {
            let mut source = self.shared.source();
            source.read_ahead(&self.shared.wakers);
            source.is_open()
        };
        let reader = { self.shared.wakers().reader.take() };
        reader.into_iter().for_each(Waker::wake);
        if open { Poll::Pending } else { Poll::Ready(Left::Read) }
    }

    /// Whether the client has announced more than is read anyway.
    fn claims_too_much(&self) -> bool {
        self.shared.source().body.size_hint().lower() > MAX_DRAINED_BYTES
    }

    /// Reads what still comes of a body that the handler has let go of; whether that was all.
    async fn drain(self, silence: Duration) -> bool {
        if (self.expects && !self.shared.source().asked) || self.claims_too_much() {
            return false;
        }
        let rest = Body::new(Watched { shared: self.shared.clone() });
        let mut pieces = body::pieces(rest, silence, None);
        let all = async {
            let mut bytes = 0;
            while let Some(piece) = pieces.next().await {
                bytes += piece?.len() as u64;
                if bytes > MAX_DRAINED_BYTES {
                    return Ok(false);
                }
            }
            Ok::<bool, std::io::Error>(true)
        };
        matches!(tokio::time::timeout(MAX_DRAIN_TIME, all).await, Ok(Ok(true)))
    }
}

/// A body of which the first piece has been taken already.
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
    use super::*;
    use futures::stream;
    use tokio::sync::mpsc;

    const SILENCE: Duration = Duration::from_secs(60);

    /// A body that comes piece by piece.
    fn piecewise() -> (mpsc::UnboundedSender<Bytes>, Body) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let pieces = stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<Bytes>| async {
            Some((Ok::<Bytes, std::io::Error>(receiver.recv().await?), receiver))
        });
        (sender, Body::from_stream(pieces))
    }

    async fn is_held(holding: &mut (impl Future<Output = Response> + Unpin)) -> bool {
        tokio::time::timeout(Duration::from_secs(1), holding).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_waits_for_the_rest_of_the_body() {
        let (sender, body) = piecewise();
        let (body, watch) = watch(&HeaderMap::new(), body);
        drop(body);
        let mut holding = Box::pin(watch.hold("no".into_response(), SILENCE, || false, || unreachable!()));
        sender.send(Bytes::from_static(b"half")).unwrap();
        assert!(is_held(&mut holding).await);
        drop(sender);
        assert!(!holding.await.headers().contains_key(header::CONNECTION));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_after_a_refusal_is_given_up() {
        let (_sender, body) = piecewise();
        let (body, watch) = watch(&HeaderMap::new(), body);
        drop(body);
        let answer = watch.hold("no".into_response(), SILENCE, || false, || unreachable!()).await;
        assert_eq!(answer.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_given_up_is_dropped() {
        let (sender, body) = piecewise();
        let (body, watch) = watch(&HeaderMap::new(), body);
        drop(body);
        watch.hold("no".into_response(), SILENCE, || false, || unreachable!()).await;
        // Its connection can only be closed then.
        assert!(sender.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_given_up() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 20])));
        let (body, watch) = watch(&HeaderMap::new(), Body::from_stream(endless));
        drop(body);
        let answer = watch.hold("no".into_response(), SILENCE, || false, || unreachable!()).await;
        assert_eq!(answer.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_to_be_asked_is_answered_at_once() {
        let (_sender, body) = piecewise();
        let expects = HeaderMap::from_iter([(header::EXPECT, HeaderValue::from_static("100-continue"))]);
        let (body, watch) = watch(&expects, body);
        drop(body);
        let mut holding = Box::pin(watch.hold("no".into_response(), SILENCE, || false, || unreachable!()));
        assert!(!is_held(&mut holding).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_begins_early_does_not_wait_for_a_handler_that_waits_for_it() {
        let (sender, body) = piecewise();
        let (body, watch) = watch(&HeaderMap::new(), body);
        sender.send(Bytes::from_static(b"one")).unwrap();
        let mut holding = Box::pin(watch.hold("answer".into_response(), SILENCE, || false, || unreachable!()));
        assert!(is_held(&mut holding).await);
        sender.send(Bytes::from_static(b"two")).unwrap();
        drop(sender);
        let answer = holding.await;
        // What was read ahead is the handler's all the same.
        assert_eq!(axum::body::to_bytes(body, 100).await.unwrap(), "onetwo");
        assert_eq!(answer.into_body().size_hint().exact(), Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_for_a_handler_is_bounded() {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 16])));
        let (body, watch) = watch(&HeaderMap::new(), Body::from_stream(endless));
        let shared = watch.shared.clone();
        let mut holding = Box::pin(watch.hold("answer".into_response(), SILENCE, || false, || unreachable!()));
        assert!(is_held(&mut holding).await);
        assert_eq!(shared.source().ahead_bytes, MAX_AHEAD_BYTES);
        drop(body);
        assert_eq!(holding.await.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_fails_before_it_began_is_an_error() {
        let (sender, body) = piecewise();
        let (body, watch) = watch(&HeaderMap::new(), body);
        let failing = stream::iter([Err::<Bytes, _>(std::io::Error::other("failed"))]);
        let mut holding =
            Box::pin(watch.hold(Body::from_stream(failing).into_response(), SILENCE, || false, || unreachable!()));
        assert!(is_held(&mut holding).await);
        drop((sender, body));
        assert_eq!(holding.await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
