//! One connection: whether there is room for it, and whether its client still takes part.
//!
//! A connection is either ours to work on (a request is being answered and the rest of the answer is not there
//! yet) or the client's: it has to ask for something, or to take what is there. It is the client's for no longer
//! than a given time without any progress. This holds for HTTP/1.1 and HTTP/2 alike, where a client can leave
//! an answer untaken on a connection that is alive.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use axum_server::accept::Accept;
use http_body::{Body as HttpBody, Frame, SizeHint};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::doors::{Door, Doors, OpenDoor};
use gitferry_config::HostLimits;

/// A silent connection is probed after this time, this often, so many times: a machine that went away is noticed.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// Bytes that the system takes from us before the client has asked for them: with more, a slow client would
/// look as if it took nothing for a long time, then a lot.
const UNSENT_BYTES: u32 = 128 * 1024;

/// Lets connections in.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    doors: Arc<Doors>,
    silence: Duration,
}

impl Doorkeeper {
    pub(super) fn new(limits: &HostLimits) -> Self {
        Doorkeeper { doors: Doors::new(limits.connections), silence: limits.response_silence }
    }

    fn let_in<S>(&self, stream: TcpStream, service: S) -> io::Result<(Connection, Served<S>)> {
        let door = self.doors.open(stream.peer_addr().ok());
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
        socket.set_tcp_keepalive(&probes)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        let turn = Turn::new();
        let sleep = Box::pin(tokio::time::sleep(self.silence));
        let served = Served { service, turn: turn.clone(), door: door.0.clone() };
        Ok((Connection { stream, turn, silence: self.silence, sleep, door }, served))
    }
}

impl<S> Accept<TcpStream, S> for Doorkeeper {
    type Stream = Connection;
    type Service = Served<S>;
    type Future = Ready<io::Result<(Connection, Served<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.let_in(stream, service))
    }
}

/// Whose turn it is.
#[derive(Clone, Debug)]
struct Turn(Arc<Mutex<TurnState>>);

#[derive(Debug)]
struct TurnState {
    /// Requests that wait for us.
    ours: usize,
    /// The last time that anything went on.
    progress: Instant,
}

impl Turn {
    fn new() -> Self {
        Turn(Arc::new(Mutex::new(TurnState { ours: 0, progress: Instant::now() })))
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.ours);
        state.progress = Instant::now();
    }

    /// When the client has been silent for too long, as far as is known now.
    fn deadline(&self, silence: Duration) -> Instant {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ours {
            0 => state.progress + silence,
            _ => Instant::now() + silence,
        }
    }
}

/// One request's part in whose turn it is.
#[derive(Debug)]
struct Part {
    turn: Turn,
    ours: bool,
}

impl Part {
    fn ours(&mut self, ours: bool) {
        let was = std::mem::replace(&mut self.ours, ours);
        self.turn.change(|count| match (was, ours) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            _ => {}
        });
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.ours(false);
    }
}

/// A socket that ends when its client is silent for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    turn: Turn,
    silence: Duration,
    sleep: Pin<Box<Sleep>>,
    door: OpenDoor,
}

impl Connection {
    /// Fails when it is time; else wakes the task when that may be.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.door.0.is_closed(context) {
            tracing::debug!("an idle connection is closed to make room for another");
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            let deadline = self.turn.deadline(self.silence);
            if deadline <= Instant::now() {
                tracing::debug!("a connection is closed: its client was silent for too long");
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// A service that notes when it is our turn.
#[derive(Clone, Debug)]
pub(super) struct Served<S> {
    service: S,
    turn: Turn,
    door: Arc<Door>,
}

impl<S, B> Service<Request<B>> for Served<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Noted>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Noted>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut part = Part { turn: self.turn.clone(), ours: false };
        part.ours(true);
        self.door.touch();
        request.extensions_mut().insert(self.door.clone());
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            part.ours(false);
            Ok(answer.map(|body| Noted { body, part }))
        })
    }
}

/// A response's body that notes when it is our turn.
#[derive(Debug)]
pub(super) struct Noted {
    body: Body,
    part: Part,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        this.part.ours(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
