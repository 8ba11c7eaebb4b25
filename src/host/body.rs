//! Between HTTP bodies and blocking readers and writers.

use std::io::{self, BufRead, BufReader, Write};

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::read::MultiGzDecoder;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Chunks that wait for a slow client; the writer blocks beyond that.
const MAX_CHUNKS: usize = 8;
/// Most bytes of a request that are read after its answer.
const MAX_DRAINED_BYTES: u64 = 256 << 20;
/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A blocking reader that is still to be made.
pub type Opening = Box<dyn FnOnce() -> Box<dyn BufRead + Send> + Send>;

/// A request's body as a blocking reader, decompressed. To be opened on blocking threads of the runtime only:
/// a decoder reads its header at once.
pub fn reader(headers: &HeaderMap, body: Body) -> Result<Opening, String> {
    let bytes = body.into_data_stream().map_err(io::Error::other);
    let raw = SyncIoBridge::new(StreamReader::new(bytes.boxed()));
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(Box::new(|| Box::new(raw))),
        Some(b"gzip" | b"x-gzip") => Ok(Box::new(|| Box::new(BufReader::new(MultiGzDecoder::new(raw))))),
        Some(other) => Err(format!("content encoding {} is not understood", String::from_utf8_lossy(other))),
    }
}

/// Reads what a client still sends, a trailer of its compression perhaps, after it has been answered: a
/// connection that is closed before that takes the answer back, and cannot carry the next request.
pub fn drain(input: &mut dyn BufRead) {
    let mut left = MAX_DRAINED_BYTES;
    while left > 0 {
        match input.fill_buf().map(<[u8]>::len) {
            Ok(0) => return,
            Ok(count) => {
                input.consume(count);
                left = left.saturating_sub(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// A blocking writer whose bytes become a response's body.
pub struct Sender {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

/// A writer and the body that it fills.
pub fn channel() -> (Sender, Body) {
    let (chunks, receiver) = mpsc::channel(MAX_CHUNKS);
    let received = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    (Sender { chunks, buffer: Vec::with_capacity(CHUNK_BYTES) }, Body::from_stream(received))
}

impl Sender {
    /// Ends the body in a way that the client notices: what came is not the whole.
    pub fn fail(self, error: String) {
        let _ = self.chunks.blocking_send(Err(io::Error::other(error)));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.chunks.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
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
