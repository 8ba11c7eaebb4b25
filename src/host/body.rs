//! Between HTTP bodies and blocking readers and writers, for clients that are slow, or gone.

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

use super::gate::{Revocation, Slot, Work};
use gitferry_git::protocol;

/// Chunks that wait for a slow client; the writer blocks beyond that.
const MAX_CHUNKS: usize = 8;
/// Most bytes of a request that are read after its answer.
const MAX_DRAINED_BYTES: u64 = 256 << 20;
/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Less than this much within the time of silence is nothing: a slot cannot be held by a byte a minute.
const MIN_PROGRESS_BYTES: u64 = 1024;

/// The pieces of a request's body.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// A request's body, which fails when nothing comes for as long as `silence`, or when its request has to end in favour
/// of others.
pub fn pieces(body: Body, silence: Duration, slot: Option<Slot>) -> Pieces {
    let state = Some((body.into_data_stream(), silence, 0, slot));
    let pieces = stream::unfold(state, move |state| async move {
        let (mut body, left, came, slot) = state?;
        let start = Instant::now();
        let next = {
            let _turn = slot.as_ref().map(Slot::clients_turn);
            tokio::select! {
                biased;
                next = tokio::time::timeout(left, body.next()) => next,
                () = revoked(slot.as_ref().map(Slot::revocation)) => return Some((Err(in_favour_of_others()), None)),
            }
        };
        let piece = match next {
            Ok(None) => return None,
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Some((Err(io::Error::other(error)), None)),
            Err(_) => return Some((Err(silent()), None)),
        };
        // Only time in which the client was waited for counts.
        let came = came + piece.len() as u64;
        let (left, came) = match came < MIN_PROGRESS_BYTES {
            true => (left.saturating_sub(start.elapsed()), came),
            false => (silence, 0),
        };
        Some((Ok(piece), Some((body, left, came, slot))))
    });
    // What has ended may be asked again.
    pieces.fuse().boxed()
}

async fn revoked(revocation: Option<Revocation>) {
    match revocation {
        Some(revocation) => revocation.revoked().await,
        None => std::future::pending().await,
    }
}

fn in_favour_of_others() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "the request was silent and had to end in favour of others")
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client sent nothing for too long")
}

/// Waits for the first piece. This is what asks a client for its body that wants to be asked (`Expect:
/// 100-continue`), so it comes before the answer's first line, and after all that may refuse the request.
pub async fn begin(mut pieces: Pieces) -> io::Result<Pieces> {
    match pieces.next().await {
        None => Ok(pieces),
        Some(first) => {
            let first = first?;
            Ok(stream::once(async { Ok(first) }).chain(pieces).boxed())
        }
    }
}

/// A blocking reader that is still to be made.
pub type Opening = Box<dyn FnOnce() -> Box<dyn RequestBody> + Send>;

/// A request's body as a blocking reader, decompressed: at most `max_inflated` bytes where it came compressed, then
/// [`protocol::BodyTooLarge`]. To be opened, as to be read, on threads that run no futures: a decoder reads its header
/// at once.
pub fn reader(headers: &HeaderMap, pieces: Pieces, runtime: &Handle, max_inflated: u64) -> Result<Opening, String> {
    let raw = Raw { pieces, piece: Bytes::new(), runtime: runtime.clone(), work: None };
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(Box::new(|| Box::new(raw))),
        Some(b"gzip" | b"x-gzip") => Ok(Box::new(move || Box::new(Inflated::new(raw, max_inflated)))),
        Some(other) => Err(format!("content encoding {} is not understood", String::from_utf8_lossy(other))),
    }
}

/// A request's body.
pub trait RequestBody: BufRead + Send {
    /// From here on, `work` is given back whenever the client is waited for.
    fn pause(&mut self, work: Arc<Work>);

    /// Reads what a client still sends, a trailer of its compression perhaps, after it has been answered: a
    /// connection that is closed before that takes the answer back, and cannot carry the next request. Decompresses
    /// nothing.
    fn drain(&mut self);
}

struct Raw {
    pieces: Pieces,
    piece: Bytes,
    runtime: Handle,
    work: Option<Arc<Work>>,
}

impl Raw {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let (pieces, runtime) = (&mut self.pieces, &self.runtime);
        let ready = {
            let _inside = runtime.enter();
            pieces.next().now_or_never()
        };
        match (ready, &self.work) {
            (Some(piece), _) => piece,
            (None, Some(work)) => work.pause(|| runtime.block_on(pieces.next())),
            (None, None) => runtime.block_on(pieces.next()),
        }
    }
}

impl RequestBody for Raw {
    fn pause(&mut self, work: Arc<Work>) {
        self.work = Some(work);
    }

    fn drain(&mut self) {
        protocol::drain(self, MAX_DRAINED_BYTES);
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.next() {
                None => break,
                Some(piece) => self.piece = piece?,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        let _ = self.piece.split_to(count.min(self.piece.len()));
    }
}

impl Read for Raw {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

/// A compressed body, decompressed.
struct Inflated {
    out: BufReader<MultiGzDecoder<Raw>>,
    limit: u64,
    /// Bytes that may still come.
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
    fn pause(&mut self, work: Arc<Work>) {
        self.raw().pause(work);
    }

    fn drain(&mut self) {
        self.raw().drain();
    }
}

impl BufRead for Inflated {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let inflated = self.out.fill_buf().map_err(clients_fault)?;
        if self.left == 0 && !inflated.is_empty() {
            return Err(io::Error::other(protocol::BodyTooLarge { limit: self.limit }));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(inflated.get(..most).unwrap_or(inflated))
    }

    fn consume(&mut self, count: usize) {
        debug_assert!(count as u64 <= self.left, "no more is consumed than was shown");
        self.left = self.left.saturating_sub(count as u64);
        self.out.consume(count);
    }
}

/// A broken compression says nothing about what is stored here, as the same error of a file would.
fn clients_fault(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            io::Error::other(format!("the request's compression is broken: {error}"))
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

/// What both ends of a response know.
#[derive(Debug, Default)]
struct Fate {
    /// Set when nobody waits for the rest any more.
    gone: Arc<AtomicBool>,
    /// How the writer ended; not at all if it panicked.
    end: Mutex<Option<Result<(), String>>>,
}

impl Fate {
    fn end(&self, how: Result<(), String>) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
    }
}

/// A blocking writer whose bytes become a response's body. Call [`Sender::finish`] or [`Sender::fail`] in the
/// end: a body whose writer is merely dropped fails.
pub struct Sender {
    chunks: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    silence: Duration,
    runtime: Handle,
    work: Option<Arc<Work>>,
    fate: Arc<Fate>,
}

/// The receiving end; dropped by the server when the client is gone.
struct Receiver {
    chunks: mpsc::Receiver<Bytes>,
    fate: Arc<Fate>,
    over: bool,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.fate.gone.store(true, Ordering::Relaxed);
    }
}

impl Receiver {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        if let Some(chunk) = self.chunks.recv().await {
            return Some(Ok(chunk));
        }
        self.over = true;
        let end = self.fate.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        match end {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            None => Some(Err(io::Error::other("the request ended abnormally"))),
        }
    }
}

/// A writer and the body that it fills. A client that takes nothing for as long as `silence` is gone.
pub fn channel(silence: Duration, runtime: &Handle) -> (Sender, Body) {
    let (chunks, receiver) = mpsc::channel(MAX_CHUNKS);
    let fate = Arc::new(Fate::default());
    let receiver = Receiver { chunks: receiver, fate: fate.clone(), over: false };
    let received = stream::unfold(receiver, |mut receiver| async { Some((receiver.next().await?, receiver)) });
    let buffer = Vec::with_capacity(CHUNK_BYTES);
    let sender = Sender { chunks, buffer, silence, runtime: runtime.clone(), work: None, fate };
    (sender, Body::from_stream(received))
}

impl Sender {
    /// From here on, `work` is given back whenever the client is waited for. Only for a writer that stays on the
    /// thread that works.
    pub fn pause(&mut self, work: Arc<Work>) {
        self.work = Some(work);
    }

    /// Becomes true when the client is gone.
    pub fn gone(&self) -> Arc<AtomicBool> {
        self.fate.gone.clone()
    }

    /// Ends the body.
    pub fn finish(mut self) -> io::Result<()> {
        self.send()?;
        self.fate.end(Ok(()));
        Ok(())
    }

    /// Ends the body in a way that the client notices: what came is not the whole.
    pub fn fail(self, error: String) {
        self.fate.end(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        let (chunks, silence, runtime) = (&self.chunks, self.silence, &self.runtime);
        let chunk = match chunks.try_send(chunk.into()) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(TrySendError::Full(chunk)) => chunk,
        };
        let revocation = self.work.as_ref().map(|work| work.revocation());
        let wait = || {
            runtime.block_on(async {
                tokio::select! {
                    sent = chunks.send_timeout(chunk, silence) => sent.map_err(|error| match error {
                        SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
                        SendTimeoutError::Timeout(_) => {
                            io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for too long")
                        }
                    }),
                    () = revoked(revocation) => Err(in_favour_of_others()),
                }
            })
        };
        let sent = match &self.work {
            Some(work) => work.pause(wait),
            None => wait(),
        };
        sent.inspect_err(|_| self.fate.gone.store(true, Ordering::Relaxed))
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

    /// All that a compressed body of `data` gives under a limit.
    fn inflated(data: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(data).unwrap();
        let body = Body::from(gzip.finish().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        let pieces = pieces(body, Duration::from_secs(60), None);
        let mut reader = reader(&headers, pieces, runtime.handle(), limit).unwrap()();
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_compressed_body_has_a_limit_in_bytes_whatever_its_ratio() {
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
