//! Request and response bodies as blocking readers and writers, with idle timeouts for slow and vanished clients.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::read::MultiGzDecoder;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendTimeoutError, TrySendError};
use tokio::time::Instant;

use super::admission::{ComputePermit, Revocation, Slot};
use gitferry_git::protocol;

/// Chunks of a response that are buffered for a slow client. The writer blocks when the buffer is full (backpressure).
const MAX_CHUNKS: usize = 8;
/// Most bytes of a request that are read and dropped after its response.
const MAX_DRAINED_BYTES: u64 = 256 << 20;
/// Bytes per chunk of a response.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes that restart the idle timeout. Fewer count as idle, so that a byte a minute does not hold a slot.
const MIN_PROGRESS_BYTES: u64 = 1024;

/// Chunks of a request's body.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Chunks of a request's body.
///
/// The stream fails with [`io::ErrorKind::TimedOut`] when less than [`MIN_PROGRESS_BYTES`] arrive within
/// `idle_timeout`, and with [`io::ErrorKind::ResourceBusy`] when the slot is revoked. While it waits, the slot counts
/// as idle.
pub fn chunks(body: Body, idle_timeout: Duration, slot: Option<Slot>) -> Chunks {
    let state = Some((body.into_data_stream(), idle_timeout, 0, slot));
    let chunks = stream::unfold(state, move |state| async move {
        let (mut body, left, received, slot) = state?;
        let start = Instant::now();
        let next = {
            let _waiting = slot.as_ref().map(Slot::begin_client_wait);
            tokio::select! {
                biased;
                next = tokio::time::timeout(left, body.next()) => next,
                () = revoked(slot.as_ref().map(Slot::revocation)) => return Some((Err(revoked_error()), None)),
            }
        };
        let chunk = match next {
            Ok(None) => return None,
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Some((Err(io::Error::other(error)), None)),
            Err(_) => return Some((Err(idle_error()), None)),
        };
        // Only the time spent waiting for the client counts.
        let received = received + chunk.len() as u64;
        let (left, received) = if received < MIN_PROGRESS_BYTES {
            (left.saturating_sub(start.elapsed()), received)
        } else {
            (idle_timeout, 0)
        };
        Some((Ok(chunk), Some((body, left, received, slot))))
    });
    // The reader may poll once more after the end.
    chunks.fuse().boxed()
}

async fn revoked(revocation: Option<Revocation>) {
    match revocation {
        Some(revocation) => revocation.revoked().await,
        None => std::future::pending().await,
    }
}

fn revoked_error() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "the request was idle and its slot was given to another client")
}

fn idle_error() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client sent too little within the idle timeout")
}

/// Waits for the first chunk. The first read makes the server send `100 Continue` to a client that expects it, so call
/// this before the response begins and after every check that may refuse the request.
pub async fn await_first(mut chunks: Chunks) -> io::Result<Chunks> {
    match chunks.next().await {
        None => Ok(chunks),
        Some(first) => {
            let first = first?;
            Ok(stream::once(async { Ok(first) }).chain(chunks).boxed())
        }
    }
}

/// Opens a blocking reader on the thread that calls it.
pub type LazyReader = Box<dyn FnOnce() -> Box<dyn RequestBody> + Send>;

/// A request's body as a blocking reader, decompressed. A compressed body fails with [`protocol::BodyTooLarge`] after
/// `max_inflated` bytes. Open and read it on a thread that runs no futures: a decoder reads its header when it is
/// opened.
///
/// # Errors
/// The content encoding is neither `identity` nor `gzip`.
pub fn reader(headers: &HeaderMap, chunks: Chunks, runtime: &Handle, max_inflated: u64) -> Result<LazyReader, String> {
    let raw = Raw { chunks, chunk: Bytes::new(), runtime: runtime.clone(), compute: None };
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(Box::new(|| Box::new(raw))),
        Some(b"gzip" | b"x-gzip") => Ok(Box::new(move || Box::new(Inflated::new(raw, max_inflated)))),
        Some(other) => Err(format!(
            "the request has content encoding `{}`; this host reads gzip only",
            String::from_utf8_lossy(other)
        )),
    }
}

/// A request's body as a blocking reader.
pub trait RequestBody: BufRead + Send {
    /// From here on, releases `compute` while a read waits for the client.
    fn release_while_waiting(&mut self, compute: Arc<ComputePermit>);

    /// Reads and drops the rest of the body (for example the trailer of a compressed one) after the response, without
    /// decompressing it. Closing the connection with unread data would discard the response, and the connection could
    /// not carry another request.
    fn drain(&mut self);
}

struct Raw {
    chunks: Chunks,
    /// The unread rest of the current chunk.
    chunk: Bytes,
    runtime: Handle,
    compute: Option<Arc<ComputePermit>>,
}

impl Raw {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let chunks = &mut self.chunks;
        let runtime = &self.runtime;
        let ready = {
            let _inside = runtime.enter();
            chunks.next().now_or_never()
        };
        match (ready, &self.compute) {
            (Some(chunk), _) => chunk,
            (None, Some(compute)) => compute.release_while(|| runtime.block_on(chunks.next())),
            (None, None) => runtime.block_on(chunks.next()),
        }
    }
}

impl RequestBody for Raw {
    fn release_while_waiting(&mut self, compute: Arc<ComputePermit>) {
        self.compute = Some(compute);
    }

    fn drain(&mut self) {
        protocol::drain(self, MAX_DRAINED_BYTES);
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            match self.next() {
                None => break,
                Some(chunk) => self.chunk = chunk?,
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, count: usize) {
        let _ = self.chunk.split_to(count.min(self.chunk.len()));
    }
}

impl Read for Raw {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// A compressed body, decompressed up to a limit.
struct Inflated {
    out: BufReader<MultiGzDecoder<Raw>>,
    limit: u64,
    /// Bytes until the limit.
    left: u64,
}

impl Inflated {
    fn new(raw: Raw, limit: u64) -> Self {
        Inflated { out: BufReader::with_capacity(CHUNK_BYTES, MultiGzDecoder::new(raw)), limit, left: limit }
    }

    fn raw(&mut self) -> &mut Raw {
        self.out.get_mut().get_mut()
    }
}

impl RequestBody for Inflated {
    fn release_while_waiting(&mut self, compute: Arc<ComputePermit>) {
        self.raw().release_while_waiting(compute);
    }

    fn drain(&mut self) {
        self.raw().drain();
    }
}

impl BufRead for Inflated {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let inflated = self.out.fill_buf().map_err(as_client_error)?;
        if self.left == 0 && !inflated.is_empty() {
            return Err(io::Error::other(protocol::BodyTooLarge { limit: self.limit }));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(inflated.get(..most).unwrap_or(inflated))
    }

    fn consume(&mut self, count: usize) {
        debug_assert!(count as u64 <= self.left, "`consume` takes at most the bytes that `fill_buf` returned");
        self.left = self.left.saturating_sub(count as u64);
        self.out.consume(count);
    }
}

/// Turns a decoder's error into one without its kind: `InvalidData` of a stored file means corruption in this region, a
/// damaged request does not.
fn as_client_error(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            io::Error::other(format!("the request's gzip body is damaged: {error}"))
        }
        _ => error,
    }
}

impl Read for Inflated {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::HeaderValue;

    use super::*;
    use gitferry_git::protocol::BodyTooLarge;

    /// Decompresses a gzip body of `data` under a limit.
    fn inflated(data: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(data).unwrap();
        let body = Body::from(gzip.finish().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        let chunks = chunks(body, Duration::from_secs(60), None);
        let mut reader = reader(&headers, chunks, runtime.handle(), limit).unwrap()();
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn the_limit_of_a_compressed_body_is_in_bytes_and_not_in_its_ratio() {
        let mixed: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i).wrapping_mul(i) >> 9) as u8).collect();
        for data in [vec![0; 300_000], mixed] {
            assert_eq!(inflated(&data, 300_000).unwrap(), data);
            assert_eq!(inflated(&data, 1 << 40).unwrap(), data);
            for limit in [0, 1, 65_536, 299_999] {
                let error = inflated(&data, limit).unwrap_err();
                let too_large = error.get_ref().and_then(|error| error.downcast_ref::<BodyTooLarge>());
                assert_eq!(too_large.map(|error| error.limit), Some(limit), "{error}");
            }
        }
    }
}
