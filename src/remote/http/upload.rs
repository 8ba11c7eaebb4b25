//! Streaming request bodies: sent while they are written.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::{RequestBuilder, Response};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Bytes per chunk of a body.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most chunks queued for a slow server before writes block.
const MAX_CHUNKS: usize = 4;

/// Text of hyper's error for bytes of an HTTP/1.1 request that the connection did not take. Hyper publishes no other sign
/// of it.
const WRITE_FAILED: &str = "error writing a body to connection";

/// Part of a body. A body that ends without [`Part::Last`] fails, so that the server sees a truncated request.
enum Part {
    Chunk(Bytes),
    /// The last bytes, which are handed to the connection together with the end of the body: a connection that does not
    /// take everything has not taken the last bytes.
    Last(Bytes),
}

/// State of a body that the connection takes.
enum Sending {
    Parts(mpsc::Receiver<Part>, Arc<AtomicBool>),
    Ended,
}

impl Sending {
    async fn next(self) -> io::Result<Option<(Bytes, Sending)>> {
        let Sending::Parts(mut parts, ended) = self else { return Ok(None) };
        let part = parts.recv().await;
        // The runtime looks for arrived bytes before the task goes on: an answer that has arrived is read before the
        // next write, which may fail and would replace the answer.
        tokio::task::yield_now().await;
        match part {
            Some(Part::Chunk(chunk)) => Ok(Some((chunk, Sending::Parts(parts, ended)))),
            Some(Part::Last(chunk)) => {
                ended.store(true, Ordering::Release);
                Ok(Some((chunk, Sending::Ended)))
            }
            None => Err(io::Error::other("the request was abandoned before its end")),
        }
    }
}

type Answer = Result<Response, reqwest::Error>;

/// End of an [`Upload`].
pub struct Uploaded {
    /// `None` if no answer arrived within the idle timeout.
    pub answer: Option<Answer>,
    /// Bytes of the body, sent or not.
    pub bytes: u64,
    /// True if the connection has taken the whole body, so that the server may have taken the request. False if the
    /// server cannot have seen more than a truncated request.
    pub may_be_whole: bool,
}

/// A request whose body is being sent.
pub struct Upload {
    parts: mpsc::Sender<Part>,
    bytes: u64,
    ended: Arc<AtomicBool>,
    /// `None` once the answer has arrived.
    answer: Option<oneshot::Receiver<Answer>>,
    early: Option<Answer>,
    buffer: Vec<u8>,
    /// True once bytes were lost, after which the body must not end as if it were complete.
    broken: bool,
    idle_timeout: Duration,
    runtime: Handle,
}

impl Upload {
    /// Sends the request's headers and prepares its body.
    pub fn begin(request: RequestBuilder, idle_timeout: Duration, runtime: &Handle) -> Upload {
        let (parts, receiver) = mpsc::channel(MAX_CHUNKS);
        let (answered, answer) = oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let sending = Sending::Parts(receiver, ended.clone());
        let body = reqwest::Body::wrap_stream(stream::try_unfold(sending, Sending::next));
        // The task ends when the request is answered, when its body fails, or when the `Upload` is dropped.
        runtime.spawn(async move {
            let mut answered = answered;
            tokio::select! {
                answer = request.body(body).send() => drop(answered.send(answer)),
                () = answered.closed() => {}
            }
        });
        let buffer = Vec::with_capacity(CHUNK_BYTES);
        Upload {
            parts,
            bytes: 0,
            ended,
            answer: Some(answer),
            early: None,
            buffer,
            broken: false,
            idle_timeout,
            runtime: runtime.clone(),
        }
    }

    /// Sends bytes. Fails if the server has refused the request, or accepts nothing for `idle_timeout`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < CHUNK_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Sends buffered bytes.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.take_buffer();
        self.send(Part::Chunk(chunk))
    }

    fn take_buffer(&mut self) -> Bytes {
        std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES)).into()
    }

    fn send(&mut self, part: Part) -> io::Result<()> {
        let sent = if self.broken { Err(io::ErrorKind::BrokenPipe.into()) } else { self.try_send(part) };
        self.broken = sent.is_err();
        sent
    }

    fn try_send(&mut self, part: Part) -> io::Result<()> {
        let Upload { parts, answer, early, idle_timeout, runtime, .. } = self;
        runtime.block_on(async {
            let sending = tokio::time::timeout(*idle_timeout, parts.send(part));
            tokio::pin!(sending);
            loop {
                if early.as_ref().is_some_and(is_refusal) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                tokio::select! {
                    biased;
                    came = arrival(answer) => {
                        *answer = None;
                        *early = came;
                    }
                    sent = &mut sending => return match sent {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
                        Err(_) => {
                            let text = format!("the server accepted nothing for {idle_timeout:?}");
                            Err(io::Error::new(io::ErrorKind::TimedOut, text))
                        }
                    },
                }
            }
        })
    }

    /// Ends the body and waits for the answer, at most `idle_timeout`. After a failed write the body is truncated, and
    /// only the server's refusal is awaited.
    pub fn finish(mut self) -> Uploaded {
        // If the body cannot be sent, the answer contains the reason.
        let last = self.take_buffer();
        let _ = self.send(Part::Last(last));
        let idle_timeout = self.idle_timeout;
        let Upload { parts, bytes, ended, answer, early, runtime, .. } = self;
        drop(parts);
        let answer = if early.is_some() { early } else { await_answer(answer, idle_timeout, &runtime) };
        let cut_off = matches!(&answer, Some(Err(error)) if failed_to_write(error));
        Uploaded { answer, bytes, may_be_whole: ended.load(Ordering::Acquire) && !cut_off }
    }

    /// Waits at most `wait` for an answer to the request so far, and truncates the request.
    pub fn abandon(self, wait: Duration) -> Option<Answer> {
        let Upload { parts, answer, early, runtime, .. } = self;
        let answer = if early.is_some() { early } else { await_answer(answer, wait, &runtime) };
        drop(parts);
        answer
    }
}

fn await_answer(answer: Option<oneshot::Receiver<Answer>>, wait: Duration, runtime: &Handle) -> Option<Answer> {
    let mut answer = answer;
    runtime.block_on(async { tokio::time::timeout(wait, arrival(&mut answer)).await }).ok()?
}

/// Waits for the answer; pends forever if the answer was taken already.
async fn arrival(answer: &mut Option<oneshot::Receiver<Answer>>) -> Option<Answer> {
    match answer {
        Some(answer) => answer.await.ok(),
        None => std::future::pending().await,
    }
}

fn is_refusal(answer: &Answer) -> bool {
    !answer.as_ref().is_ok_and(|answer| answer.status().is_success())
}

/// Returns true if the connection did not take all bytes of a request.
fn failed_to_write(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string() == WRITE_FAILED {
            return true;
        }
        cause = error.source();
    }
    false
}
