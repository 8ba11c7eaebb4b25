//! Streaming request bodies: sent while they are written.

use std::io;
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

/// Part of a body. A body that ends without [`Part::End`] fails, so that the server sees a truncated request.
enum Part {
    Chunk(Bytes),
    End,
}

type Answer = Result<Response, reqwest::Error>;

/// A request whose body is being sent.
pub struct Upload {
    parts: mpsc::Sender<Part>,
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
        let body = reqwest::Body::wrap_stream(stream::try_unfold(receiver, |mut receiver| async {
            match receiver.recv().await {
                Some(Part::Chunk(chunk)) => Ok(Some((chunk, receiver))),
                Some(Part::End) => Ok(None),
                None => Err(io::Error::other("the request was abandoned before its end")),
            }
        }));
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
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.send(Part::Chunk(chunk.into()))
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

    /// Ends the body and waits for the answer; `None` if none arrives within `idle_timeout`. After a failed write the
    /// body is truncated, and only the server's refusal is awaited.
    pub fn finish(mut self) -> Option<Answer> {
        // If the body cannot be sent, the answer contains the reason.
        let _ = self.flush().and_then(|()| self.send(Part::End));
        if let Some(early) = self.early {
            return Some(early);
        }
        drop(self.parts);
        let mut answer = self.answer;
        let idle_timeout = self.idle_timeout;
        self.runtime.block_on(async { tokio::time::timeout(idle_timeout, arrival(&mut answer)).await }).ok()?
    }
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
