//! A TCP connection that its owner can cut.
//!
//! The session of an SSH server runs in a task of its own, which ends with its connection. A server that takes nothing,
//! or says nothing, would keep task and socket for ever once no request waits for it any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A TCP connection that ends when a token is cancelled, also in the middle of a read or a write.
pub struct Line {
    tcp: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    /// Until the token is cancelled.
    pub fn new(tcp: TcpStream, cut: &CancellationToken) -> Line {
        Line { tcp, cut: Box::pin(cut.clone().cancelled_owned()) }
    }

    fn unless_cut<T>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        next: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Pending => next(Pin::new(&mut self.tcp), context),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(context, |tcp, context| tcp.poll_read(context, buffer))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unless_cut(context, |tcp, context| tcp.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(context, |tcp, context| tcp.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(context, |tcp, context| tcp.poll_shutdown(context))
    }
}
