//! A TCP connection that can be cancelled.
//!
//! An SSH session runs in its own task, which ends with its connection. Without cancellation, a server that neither
//! reads nor writes would hold the task and the socket forever after the last request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A TCP connection whose reads and writes fail with [`io::ErrorKind::ConnectionAborted`] once a token is cancelled.
pub struct CancellableTcp {
    tcp: TcpStream,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl CancellableTcp {
    /// Ties a connection to a token.
    pub fn new(tcp: TcpStream, token: &CancellationToken) -> CancellableTcp {
        CancellableTcp { tcp, cancelled: Box::pin(token.clone().cancelled_owned()) }
    }

    fn unless_cancelled<T>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        next: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.cancelled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Pending => next(Pin::new(&mut self.tcp), context),
        }
    }
}

impl AsyncRead for CancellableTcp {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.unless_cancelled(context, |tcp, context| tcp.poll_read(context, buffer))
    }
}

impl AsyncWrite for CancellableTcp {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unless_cancelled(context, |tcp, context| tcp.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cancelled(context, |tcp, context| tcp.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cancelled(context, |tcp, context| tcp.poll_shutdown(context))
    }
}
