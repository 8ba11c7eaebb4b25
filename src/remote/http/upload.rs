//! A request's body that is sent while it is written.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::{RequestBuilder, Response};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow server; the writer blocks beyond that.
const MAX_CHUNKS: usize = 4;

/// A part of a body. A body whose parts cease before its end fails, so that the server notices.
enum Part {
    Chunk(Bytes),
    End,
}

type Answer = Result<Response, reqwest::Error>;

/// A request on its way.
pub struct Upload {
    parts: mpsc::Sender<Part>,
    /// Until the answer has come.
    answer: Option<oneshot::Receiver<Answer>>,
    early: Option<Answer>,
    buffer: Vec<u8>,
    /// Whether bytes were lost: the body must not end as if it were whole.
    broken: bool,
    silence: Duration,
    runtime: Handle,
}

impl Upload {
    /// Begins a request.
    pub fn begin(request: RequestBuilder, silence: Duration, runtime: &Handle) -> Upload {
        let (parts, receiver) = mpsc::channel(MAX_CHUNKS);
        let (answered, answer) = oneshot::channel();
        let body = reqwest::Body::wrap_stream(stream::try_unfold(receiver, |mut receiver| async {
            match receiver.recv().await {
                Some(Part::Chunk(chunk)) => Ok(Some((chunk, receiver))),
                Some(Part::End) => Ok(None),
                None => Err(io::Error::other("the request was cut off")),
            }
        }));
        // Ends with the request: when it is answered, when its body fails, or when nobody waits for it any more.
        runtime.spawn(async move {
            let mut answered = answered;
            tokio::select! {
                answer = request.body(body).send() => drop(answered.send(answer)),
                () = answered.closed() => {}
            }
        });
        let buffer = Vec::with_capacity(CHUNK_BYTES);
        Upload { parts, answer: Some(answer), early: None, buffer, broken: false, silence, runtime: runtime.clone() }
    }

    /// Sends bytes. Fails when the server has refused the request already, or takes nothing for too long.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < CHUNK_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Sends what is left.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.send(Part::Chunk(chunk.into()))
    }

    fn send(&mut self, part: Part) -> io::Result<()> {
        let sent = match self.broken {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => self.try_send(part),
        };
        self.broken = sent.is_err();
        sent
    }

    fn try_send(&mut self, part: Part) -> io::Result<()> {
        let Upload { parts, answer, early, silence, runtime, .. } = self;
        runtime.block_on(async {
            let sending = tokio::time::timeout(*silence, parts.send(part));
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
                        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the server took nothing for too long")),
                    },
                }
            }
        })
    }

    /// Ends the body and waits for the answer; `None` when there is none in time. After a failed write the body is
    /// cut off, and only what the server has to say about it is waited for.
    pub fn finish(mut self) -> Option<Answer> {
        // Where it cannot be sent, the answer tells why.
        let _ = self.flush().and_then(|()| self.send(Part::End));
        if let Some(early) = self.early {
            return Some(early);
        }
        drop(self.parts);
        let (mut answer, silence) = (self.answer, self.silence);
        self.runtime.block_on(async { tokio::time::timeout(silence, arrival(&mut answer)).await }).ok()?
    }
}

/// The answer, once it comes; never where it has come already.
async fn arrival(answer: &mut Option<oneshot::Receiver<Answer>>) -> Option<Answer> {
    match answer {
        Some(answer) => answer.await.ok(),
        None => std::future::pending().await,
    }
}

fn is_refusal(answer: &Answer) -> bool {
    !answer.as_ref().is_ok_and(|answer| answer.status().is_success())
}
