//! A request's body: as a stream with an idle timeout, and as a blocking reader.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::read::MultiGzDecoder;
use futures::{StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::admission::permits::{revoked, revoked_error};
use crate::admission::{ComputePermit, Slot};
use gitferry_base::chunks::{ChunkReader, ChunkWait, Chunks};
use gitferry_git::protocol;

/// Most bytes of a request that are read and dropped after its response.
const MAX_DRAINED_BYTES: u64 = 256 << 20;
/// Bytes of a decompressed body that are buffered.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes that restart the idle timeout. Fewer count as idle, so that a byte a minute does not hold a slot.
const MIN_PROGRESS_BYTES: u64 = 1024;

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
    let raw = Raw::new(chunks, runtime.clone(), ReleasingWait::default());
    match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(Box::new(|| Box::new(raw))),
        Some(b"gzip" | b"x-gzip") => Ok(Box::new(move || Box::new(Inflated::new(raw, max_inflated)))),
        Some(other) => Err(format!(
            "the request has content encoding `{}`; this host reads gzip only",
            String::from_utf8_lossy(other)
        )),
    }
}

/// A body that is not compressed as a blocking reader.
pub fn plain_reader(chunks: Chunks, runtime: &Handle) -> LazyReader {
    let raw = Raw::new(chunks, runtime.clone(), ReleasingWait::default());
    Box::new(|| Box::new(raw))
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

/// A body as the client sends it.
type Raw = ChunkReader<ReleasingWait>;

/// Waits for the client without the permit to compute, once there is one.
#[derive(Default)]
struct ReleasingWait {
    compute: Option<Arc<ComputePermit>>,
}

impl ChunkWait for ReleasingWait {
    fn wait(
        &mut self,
        runtime: &Handle,
        chunk: impl Future<Output = Option<io::Result<Bytes>>>,
    ) -> io::Result<Option<Bytes>> {
        let chunk = match &self.compute {
            Some(compute) => compute.release_while(|| runtime.block_on(chunk)),
            None => runtime.block_on(chunk),
        };
        chunk.transpose()
    }
}

impl RequestBody for Raw {
    fn release_while_waiting(&mut self, compute: Arc<ComputePermit>) {
        self.wait_mut().compute = Some(compute);
    }

    fn drain(&mut self) {
        protocol::drain(self, MAX_DRAINED_BYTES);
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
        Inflated { out: BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)), limit, left: limit }
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
