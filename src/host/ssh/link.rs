//! The socket of one SSH connection: how long it may wait for its client, and backpressure from its channels.
//!
//! `russh` reads the socket and opens the window of a channel again as soon as data arrives. So that unread data stays
//! bounded, the socket is not read while the channels together hold [`MAX_UNREAD_BYTES`]; writing goes on.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::client::connections::OpenConnection;

/// Time from the connection to the end of authentication.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of all channels of a connection that no conversation has read, above which its socket is not read.
const MAX_UNREAD_BYTES: usize = 1 << 20;

/// State of a connection, shared by its socket, its session and its conversations.
#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<LinkState>,
    /// Number of conversations in progress.
    conversations: watch::Sender<usize>,
    /// Task that polls the socket.
    waker: AtomicWaker,
    /// Longest wait for the client: to read what is sent, or to start a conversation.
    idle_timeout: Duration,
}

#[derive(Debug)]
struct LinkState {
    opened: Instant,
    authenticated: bool,
    last_active: Instant,
    unread: usize,
    closed: bool,
}

impl Link {
    /// The state of a connection that has just been opened.
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        let now = Instant::now();
        let state = LinkState { opened: now, authenticated: false, last_active: now, unread: 0, closed: false };
        let conversations = watch::Sender::new(0);
        Arc::new(Link { state: Mutex::new(state), conversations, waker: AtomicWaker::new(), idle_timeout })
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the client is authenticated.
    pub(super) fn authenticated(&self) {
        let mut state = self.state();
        state.authenticated = true;
        state.last_active = Instant::now();
    }

    /// Cuts the connection.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.waker.wake();
    }

    /// Marks a conversation as in progress until the guard is dropped.
    pub(super) fn begin_conversation(self: &Arc<Self>) -> InConversation {
        self.conversations.send_modify(|count| *count += 1);
        InConversation(self.clone())
    }

    /// Waits until no conversation is in progress.
    pub(super) async fn conversations_ended(&self) {
        // Fails only without a sender, and `self` holds it.
        let _ = self.conversations.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Counts bytes that wait for a conversation.
    pub(super) fn add_unread(&self, bytes: usize) {
        self.state().unread += bytes;
    }

    /// Counts bytes that a conversation has read, or that were dropped.
    pub(super) fn remove_unread(&self, bytes: usize) {
        let mut state = self.state();
        debug_assert!(state.unread >= bytes, "bytes are counted before they are read");
        state.unread = state.unread.saturating_sub(bytes);
        drop(state);
        self.waker.wake();
    }

    pub(super) fn is_full(&self) -> bool {
        self.state().unread >= MAX_UNREAD_BYTES
    }

    /// The time at which the connection is cut if its client does nothing until then, and the reason.
    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let state = self.state();
        if state.closed {
            return Some((state.opened, "it was asked to end"));
        }
        if !state.authenticated {
            return Some((state.opened + AUTHENTICATION_TIMEOUT, "its client did not authenticate in time"));
        }
        let idle = *self.conversations.borrow() == 0;
        idle.then(|| (state.last_active + self.idle_timeout, "its client started no command for too long"))
    }
}

/// A conversation in progress.
#[derive(Debug)]
pub(super) struct InConversation(Arc<Link>);

impl Drop for InConversation {
    fn drop(&mut self) {
        self.0.state().last_active = Instant::now();
        self.0.conversations.send_modify(|count| {
            debug_assert!(*count > 0, "every conversation is counted once");
            *count = count.saturating_sub(1);
        });
        self.0.waker.wake();
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    link: Arc<Link>,
    connection: OpenConnection,
    sleep: Pin<Box<Sleep>>,
    /// Start of the wait for the client to read what is sent.
    blocked_since: Option<Instant>,
}

impl Socket {
    /// The socket of a connection with this state.
    pub(super) fn new(stream: TcpStream, link: Arc<Link>, connection: OpenConnection) -> Self {
        let sleep = Box::pin(tokio::time::sleep(AUTHENTICATION_TIMEOUT));
        Socket { stream, link, connection, sleep, blocked_since: None }
    }

    /// Fails once the connection has to end.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.link.waker.register(context.waker());
        if self.connection.connection().is_closed(context) {
            tracing::debug!("an SSH connection without a command is closed for a new one");
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let blocked = self.blocked_since.map(|since| (since + self.link.idle_timeout, "its client reads nothing"));
        let Some((deadline, reason)) = [self.link.deadline(), blocked].into_iter().flatten().min() else {
            return Ok(());
        };
        if deadline <= Instant::now() {
            tracing::debug!(reason, "an SSH connection is closed");
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.sleep.deadline() != deadline {
            self.sleep.as_mut().reset(deadline);
        }
        // Wakes this task at the deadline; an elapsed sleep belonged to an earlier one.
        if self.sleep.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    fn note_write<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() {
            self.blocked_since.get_or_insert_with(Instant::now);
        } else {
            self.blocked_since = None;
        }
        polled
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        if this.link.is_full() {
            // Woken when a conversation reads.
            return Poll::Pending;
        }
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.note_write(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
