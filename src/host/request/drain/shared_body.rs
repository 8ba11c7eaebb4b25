//! A request's body with two ends: its handler reads it, and its response waits until it has been read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame};

/// Most bytes of a request's body that are buffered for a handler whose response has begun. Larger than any round of a
/// negotiation.
pub const MAX_AHEAD_BYTES: usize = 1 << 20;

/// A frame of a body, or an error of reading it; `None` at its end.
pub type Data = Option<Result<Frame<Bytes>, axum::Error>>;

/// A request's body, shared by its handler and its response.
pub struct SharedBody {
    source: Mutex<Source>,
    /// Outside the lock of the source: the body inside keeps a waker that points here.
    wakers: Arc<SharedWaker>,
}

/// The body, and the bytes read ahead of the handler.
struct Source {
    body: Body,
    ahead: VecDeque<Bytes>,
    ahead_bytes: usize,
    state: State,
    /// True once the body has been polled, which makes the server send `100 Continue`.
    polled: bool,
}

enum State {
    Open,
    Ended,
    /// Reading failed. The error is kept until the handler has received it.
    Failed(Option<axum::Error>),
}

/// Wakers of both ends. The body remembers only the last waker it was polled with, so both ends poll it with this one.
#[derive(Default)]
struct SharedWaker(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    reader: Option<Waker>,
    response: Option<Waker>,
    /// True once the handler has dropped the body.
    dropped: bool,
}

impl Wake for SharedWaker {
    fn wake(self: Arc<Self>) {
        let (reader, response) = {
            let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (ends.reader.take(), ends.response.take())
        };
        reader.into_iter().chain(response).for_each(Waker::wake);
    }
}

impl SharedBody {
    /// Shares a body of which nothing has been read.
    pub fn new(body: Body) -> Arc<Self> {
        let state = if body.is_end_stream() { State::Ended } else { State::Open };
        let source = Source { body, ahead: VecDeque::new(), ahead_bytes: 0, state, polled: false };
        Arc::new(SharedBody { source: Mutex::new(source), wakers: Arc::default() })
    }

    /// The handler's end. Dropping it lets the response drain the rest.
    pub fn reader(self: &Arc<Self>) -> TrackedBody {
        TrackedBody { shared: self.clone() }
    }

    /// Returns true until the end of the body, or an error, has been read from the connection.
    pub fn is_open(&self) -> bool {
        self.source().is_open()
    }

    /// Returns true once the body has been polled, which makes the server send `100 Continue`.
    pub fn was_polled(&self) -> bool {
        self.source().polled
    }

    /// Least bytes that the rest of the body has, as its head announces.
    pub fn announced_bytes(&self) -> u64 {
        self.source().body.size_hint().lower()
    }

    /// Wakes the task of the response when the handler reads or drops the body. Returns true if the handler has dropped
    /// it.
    pub fn wake_response(&self, waker: &Waker) -> bool {
        let mut wakers = self.wakers();
        wakers.response = Some(waker.clone());
        wakers.dropped
    }

    /// Reads ahead of the handler, up to [`MAX_AHEAD_BYTES`], and wakes the handler. Returns true if the body is still
    /// open.
    pub fn read_ahead(&self) -> bool {
        let open = {
            let mut source = self.source();
            source.read_ahead(&self.wakers);
            source.is_open()
        };
        let reader = { self.wakers().reader.take() };
        reader.into_iter().for_each(Waker::wake);
        open
    }

    /// Bytes that the handler has yet to take of those that were read ahead.
    #[cfg(test)]
    pub fn ahead_bytes(&self) -> usize {
        self.source().ahead_bytes
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakers(&self) -> MutexGuard<'_, Ends> {
        self.wakers.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Polls the connection for the next frame.
    fn poll(&mut self, wakers: &Arc<SharedWaker>) -> Poll<Data> {
        self.polled = true;
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

    /// Reads ahead of the handler, up to [`MAX_AHEAD_BYTES`].
    fn read_ahead(&mut self, wakers: &Arc<SharedWaker>) {
        while self.is_open() && self.ahead_bytes < MAX_AHEAD_BYTES {
            match self.poll(wakers) {
                Poll::Pending | Poll::Ready(None) => return,
                Poll::Ready(Some(Err(error))) => self.state = State::Failed(Some(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are ignored.
                    if let Ok(bytes) = frame.into_data() {
                        self.ahead_bytes += bytes.len();
                        self.ahead.push_back(bytes);
                    }
                }
            }
        }
    }
}

/// The handler's part of a request's body.
pub struct TrackedBody {
    shared: Arc<SharedBody>,
}

impl HttpBody for TrackedBody {
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
            && let Some(response) = { shared.wakers().response.take() }
        {
            response.wake();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let source = self.shared.source();
        matches!(source.state, State::Ended) && source.ahead.is_empty()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        let response = {
            let mut wakers = self.shared.wakers();
            wakers.dropped = true;
            wakers.response.take()
        };
        response.into_iter().for_each(Waker::wake);
    }
}
