//! A response's body as a blocking writer. Writing fails when the client disconnects or reads nothing for too long.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};

use crate::admission::ComputePermit;
use crate::admission::permits::{revoked, revoked_error};

/// Chunks of a response that are buffered for a slow client. The writer blocks when the buffer is full (backpressure).
const MAX_CHUNKS: usize = 8;
/// Bytes per chunk of a response.
const CHUNK_BYTES: usize = 64 * 1024;

/// State of a response, shared by its writer and its body.
#[derive(Debug, Default)]
struct ResponseState {
    /// Set when the client has disconnected, or has read nothing within the idle timeout.
    disconnected: Arc<AtomicBool>,
    /// Result of the writer; `None` until it ends, and for ever if it panics.
    result: Mutex<Option<Result<(), String>>>,
}

impl ResponseState {
    fn set_result(&self, result: Result<(), String>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }
}

/// A blocking writer of a response's body. End it with [`Sender::finish`] or [`Sender::fail`]: the body of a writer
/// that is dropped fails.
pub struct Sender {
    chunks: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    idle_timeout: Duration,
    runtime: Handle,
    compute: Option<Arc<ComputePermit>>,
    state: Arc<ResponseState>,
}

/// The receiving end, which the HTTP server drops when the client disconnects.
struct Receiver {
    chunks: mpsc::Receiver<Bytes>,
    state: Arc<ResponseState>,
    ended: bool,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.disconnected.store(true, Ordering::Relaxed);
    }
}

impl Receiver {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        if let Some(chunk) = self.chunks.recv().await {
            return Some(Ok(chunk));
        }
        self.ended = true;
        let result = self.state.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match result {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            None => Some(Err(io::Error::other("the thread that wrote the response panicked"))),
        }
    }
}

/// A writer and the body that it fills. The writer fails when the client reads nothing within `idle_timeout`.
pub fn channel(idle_timeout: Duration, runtime: &Handle) -> (Sender, Body) {
    let (chunks, receiver) = mpsc::channel(MAX_CHUNKS);
    let state = Arc::new(ResponseState::default());
    let receiver = Receiver { chunks: receiver, state: state.clone(), ended: false };
    let received = stream::unfold(receiver, |mut receiver| async { Some((receiver.next().await?, receiver)) });
    let buffer = Vec::with_capacity(CHUNK_BYTES);
    let sender = Sender { chunks, buffer, idle_timeout, runtime: runtime.clone(), compute: None, state };
    (sender, Body::from_stream(received))
}

impl Sender {
    /// From here on, releases `compute` while a write waits for the client. Only for a writer that stays on the thread
    /// that holds the permit.
    pub fn release_while_waiting(&mut self, compute: Arc<ComputePermit>) {
        self.compute = Some(compute);
    }

    /// A flag that turns true when the client has disconnected or is idle for too long.
    pub fn disconnected(&self) -> Arc<AtomicBool> {
        self.state.disconnected.clone()
    }

    /// Sends the rest and ends the body.
    ///
    /// # Errors
    /// The client has disconnected, was idle for too long, or the slot was revoked.
    pub fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.state.set_result(Ok(()));
        Ok(())
    }

    /// Aborts the body, so that the client notices that it is incomplete.
    pub fn fail(self, error: String) {
        self.state.set_result(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        let chunks = &self.chunks;
        let idle_timeout = self.idle_timeout;
        let runtime = &self.runtime;
        let chunk = match chunks.try_send(chunk.into()) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(TrySendError::Full(chunk)) => chunk,
        };
        let revocation = self.compute.as_ref().map(|compute| compute.revocation());
        let wait = || {
            runtime.block_on(async {
                tokio::select! {
                    sent = chunks.send_timeout(chunk, idle_timeout) => sent.map_err(|error| match error {
                        SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
                        SendTimeoutError::Timeout(_) => {
                            io::Error::new(io::ErrorKind::TimedOut, "the client read nothing within the idle timeout")
                        }
                    }),
                    () = revoked(revocation) => Err(revoked_error()),
                }
            })
        };
        let sent = match &self.compute {
            Some(compute) => compute.release_while(wait),
            None => wait(),
        };
        sent.inspect_err(|_| self.state.disconnected.store(true, Ordering::Relaxed))
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
