//! One connection: its limit on the time that it may be idle.
//!
//! A connection waits either for the host (the rest of a response is being produced) or for its client, which has to
//! send a request or to read the response that is ready. A connection that waits for its client is closed after the
//! idle timeout (`response_silence`) without progress. Keep-alive pings do not help: over HTTP/2 a client may answer
//! those and leave a response unread.

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

use crate::client::connections::{ClientConnection, Connections, OpenConnection};
use gitferry_config::HostLimits;

/// TCP keep-alive: idle time before the first probe. Probes notice a machine that has gone.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// TCP keep-alive: interval between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// TCP keep-alive: unanswered probes that end the connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Bytes that the system buffers before they are sent (`TCP_NOTSENT_LOWAT`). With a larger buffer, a slow client would
/// seem to read nothing for a long time, then a lot at once.
const UNSENT_BYTES: u32 = 128 * 1024;

/// Accepts connections, up to the limit of the host, and wraps them.
#[derive(Clone, Debug)]
pub(super) struct ConnectionAcceptor {
    connections: Arc<Connections>,
    idle_timeout: Duration,
}

impl ConnectionAcceptor {
    pub(super) fn new(limits: &HostLimits) -> Self {
        ConnectionAcceptor { connections: Connections::new(limits.connections), idle_timeout: limits.response_silence }
    }

    fn wrap<S>(&self, stream: TcpStream, service: S) -> io::Result<(Connection, TrackedService<S>)> {
        let connection = self.connections.open(stream.peer_addr().ok());
        prepare_stream(&stream)?;
        let activity = Activity::new();
        let sleep = Box::pin(tokio::time::sleep(self.idle_timeout));
        let service =
            TrackedService { service, activity: activity.clone(), connection: connection.connection().clone() };
        Ok((Connection { stream, activity, idle_timeout: self.idle_timeout, sleep, connection }, service))
    }
}

impl<S> Accept<TcpStream, S> for ConnectionAcceptor {
    type Stream = Connection;
    type Service = TrackedService<S>;
    type Future = Ready<io::Result<(Connection, TrackedService<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.wrap(stream, service))
    }
}

/// Sets the options of an accepted socket: no delay, probes for machines that have gone, small buffers.
pub(crate) fn prepare_stream(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    Ok(())
}

/// Activity of a connection, shared with its requests.
#[derive(Clone, Debug)]
struct Activity(Arc<Mutex<ActivityState>>);

#[derive(Debug)]
struct ActivityState {
    /// Requests whose response the host is still producing. The client is waited for when there are none.
    producing: usize,
    last_progress: Instant,
}

impl Activity {
    fn new() -> Self {
        Activity(Arc::new(Mutex::new(ActivityState { producing: 0, last_progress: Instant::now() })))
    }

    fn update(&self, update: impl FnOnce(&mut usize)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut state.producing);
        state.last_progress = Instant::now();
    }

    /// The earliest time at which the connection can have been idle for `idle_timeout`.
    fn deadline(&self, idle_timeout: Duration) -> Instant {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle_since = if state.producing == 0 { state.last_progress } else { Instant::now() };
        idle_since + idle_timeout
    }
}

/// Activity of one request of a connection.
#[derive(Debug)]
struct RequestActivity {
    connection: Activity,
    producing: bool,
}

impl RequestActivity {
    /// Records progress, and if the host has to produce the rest of the response.
    fn set_producing(&mut self, producing: bool) {
        let was = std::mem::replace(&mut self.producing, producing);
        self.connection.update(|count| match (was, producing) {
            (false, true) => *count += 1,
            (true, false) => {
                debug_assert!(*count > 0, "every request that produces is counted once");
                *count = count.saturating_sub(1);
            }
            _ => {}
        });
    }
}

impl Drop for RequestActivity {
    fn drop(&mut self) {
        self.set_producing(false);
    }
}

/// A socket that fails once its client has been idle for too long, or when another connection replaces it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    activity: Activity,
    idle_timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    connection: OpenConnection,
}

impl Connection {
    /// Fails if the connection has to close; otherwise wakes the task at the next time at which it may have to.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.connection.connection().is_closed(context) {
            tracing::debug!("an idle connection is closed for a new one");
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            let deadline = self.activity.deadline(self.idle_timeout);
            if deadline <= Instant::now() {
                tracing::debug!("a connection is closed: its client was idle for too long");
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

/// A service that records when the host works on a response.
#[derive(Clone, Debug)]
pub(super) struct TrackedService<S> {
    service: S,
    activity: Activity,
    connection: Arc<ClientConnection>,
}

impl<S, B> Service<Request<B>> for TrackedService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<TrackedBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<TrackedBody>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut activity = RequestActivity { connection: self.activity.clone(), producing: false };
        activity.set_producing(true);
        self.connection.touch();
        request.extensions_mut().insert(self.connection.clone());
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            activity.set_producing(false);
            Ok(answer.map(|body| TrackedBody { body, activity }))
        })
    }
}

/// A response's body that records when the host has to produce more of it.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    activity: RequestActivity,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        this.activity.set_producing(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
