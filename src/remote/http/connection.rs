//! A conversation with a service over HTTP: each request stands for itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _, Seek as _, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{RequestBuilder, Response, StatusCode, header};

use super::failure::Failing;
use super::upload::Upload;
use super::{BUFFERED_BYTES, COMPRESSED_BYTES, DISCOVERING, Http, Opened};
use crate::pieces::Pieces;
use gitferry_base::error::chain;
use gitferry_git::client::{ClientError, Connection, Deadline, Request};
use gitferry_git::protocol::{MAX_PACKET_BYTES, Packet, PacketReader, PacketWriter, ProtocolError, Service};

/// Bytes of an answer that are decompressed at a time.
const BUFFER_BYTES: usize = 64 * 1024;
/// What is sent to see whether a request would be taken: nothing.
const PROBE: &[u8] = b"0000";
/// What is being done, for messages.
const REQUESTING: &str = "a request";
const SPOOLING: &str = "the temporary file of a request";

/// A conversation with a service.
pub struct HttpConnection {
    http: Arc<Http>,
    asked: Opened,
    answer: Box<dyn BufRead + Send>,
    deadline: Deadline,
}

impl HttpConnection {
    /// After the first answer.
    pub fn begin(http: Arc<Http>, mut asked: Opened) -> Result<Self, ClientError> {
        let answer = asked.answer.take();
        let mut connection =
            HttpConnection { http, asked, answer: Box::new(io::empty()), deadline: Deadline::default() };
        if let Some(answer) = answer {
            connection.listen(answer, "advertisement")?;
            connection.skip_announcement()?;
        }
        Ok(connection)
    }

    /// Makes an answer the one that is read, if it is of the right kind.
    fn listen(&mut self, answer: Response, kind: &str) -> Result<(), ClientError> {
        let expected = format!("application/x-{}-{kind}", self.asked.service.name());
        let is = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !is.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(&expected) {
            return Err(self.not_git(is, kind == "advertisement"));
        }
        let gzip = match answer.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(_) => {
                return Err(self.failing(REQUESTING).unsupported("answer without an unknown compression".into()));
            }
        };
        let stream = answer.bytes_stream().map_err(|error| {
            let error = error.without_url();
            let kind = if error.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionAborted };
            io::Error::new(kind, chain(&error))
        });
        let (silence, deadline) = (self.http.patience.silence, self.deadline.clone());
        let pieces = Pieces::new(stream.boxed(), silence, deadline, self.http.runtime.clone());
        self.answer = match gzip {
            true => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(pieces))),
            false => Box::new(pieces),
        };
        Ok(())
    }

    fn not_git(&self, is: &str, first: bool) -> ClientError {
        let is: String = is.chars().filter(|c| c.is_ascii_graphic()).take(80).collect();
        let what = match (first, is.split(';').next()) {
            (true, Some("text/plain" | "" | "application/octet-stream")) => {
                "speak Git's smart HTTP protocol: it serves the files of a repository (\"dumb HTTP\"), of which one can \
                 neither push nor fetch a part"
                    .into()
            }
            (true, _) => format!("speak Git's protocol at this URL: it answers with {is:?}"),
            (false, _) => format!("answer a request in Git's protocol: it answers with {is:?}"),
        };
        self.failing(REQUESTING).unsupported(what)
    }

    /// Drops the line that names the service, which versions 0 and 1 begin with, and the flush after it.
    fn skip_announcement(&mut self) -> Result<(), ClientError> {
        let failing = self.asked.failing(DISCOVERING);
        let wrong = |error: ProtocolError| match error {
            ProtocolError::Io(error) => failing.connection(error),
            error => ClientError::Protocol { server: self.asked.base.to_string(), error },
        };
        let mut input = PacketReader::new(&mut *self.answer);
        let first = match input.read().map_err(wrong)? {
            None => return Err(wrong(ProtocolError::Truncated("what the server advertises"))),
            Some(Packet::Data(line)) => line.to_vec(),
            Some(_) => return Err(wrong(ProtocolError::Truncated("the name of the service"))),
        };
        if let Some(service) = first.strip_prefix(b"# service=") {
            if service.trim_ascii_end() != self.asked.service.name().as_bytes() {
                return Err(wrong(ProtocolError::Unexpected { expected: "the service asked for", line: first.into() }));
            }
            return match input.read().map_err(wrong)? {
                Some(Packet::Flush) => Ok(()),
                _ => Err(wrong(ProtocolError::Truncated("the end of the name of the service"))),
            };
        }
        // Version 2 begins at once: what was read goes back.
        let mut back = Vec::with_capacity(MAX_PACKET_BYTES);
        PacketWriter::new(&mut back).data(&first).map_err(|error| self.failing(DISCOVERING).connection(error))?;
        let rest = std::mem::replace(&mut self.answer, Box::new(io::empty()));
        self.answer = Box::new(Cursor::new(back).chain(rest));
        Ok(())
    }

    fn failing(&self, doing: &'static str) -> Failing<'_> {
        self.asked.failing(doing)
    }

    /// A request without its body.
    fn post(&self) -> RequestBuilder {
        let service = self.asked.service.name();
        self.asked
            .client
            .post(format!("{}/{service}", self.asked.base))
            .header(header::CONTENT_TYPE, format!("application/x-{service}-request"))
            .header(header::ACCEPT, format!("application/x-{service}-result"))
    }

    /// Sends a request whose body can be made again, once more if other credentials may help.
    fn exchange(
        &mut self,
        body: impl Fn(RequestBuilder) -> io::Result<RequestBuilder>,
    ) -> Result<Response, ClientError> {
        let (http, runtime) = (self.http.clone(), self.http.runtime.clone());
        let mut asked_anew = false;
        loop {
            let request = body(self.post()).map_err(|error| self.failing(REQUESTING).connection(error))?;
            let answer = runtime.block_on(http.send(&mut self.asked, request, REQUESTING))?;
            let refused = answer.status() == StatusCode::UNAUTHORIZED;
            if refused && !asked_anew && runtime.block_on(self.asked.refused()) {
                asked_anew = true;
                continue;
            }
            return Ok(answer);
        }
    }

    /// Takes the answer to a request.
    fn take(&mut self, answer: Response) -> Result<(), ClientError> {
        let (runtime, silence) = (self.http.runtime.clone(), self.http.patience.silence);
        if answer.status() == StatusCode::LENGTH_REQUIRED {
            self.http.refuses_chunked.store(true, Ordering::Relaxed);
        }
        if answer.status() != StatusCode::OK {
            return Err(runtime.block_on(self.asked.refusal(answer, REQUESTING, silence)));
        }
        if let Some(login) = &mut self.asked.login {
            runtime.block_on(login.accepted());
        }
        self.listen(answer, "result")
    }

    /// Whether the server would take a streamed request: credentials cannot be asked for again within one, and a
    /// server that needs to know the length says so only once it sees one.
    fn probe(&mut self) -> Result<bool, ClientError> {
        let mut answer = self.exchange(|request| {
            let nothing = futures::stream::iter([Ok::<_, io::Error>(Bytes::from_static(PROBE))]);
            Ok(request.body(reqwest::Body::wrap_stream(nothing)))
        })?;
        match answer.status() {
            StatusCode::LENGTH_REQUIRED | StatusCode::NOT_IMPLEMENTED => return Ok(false),
            StatusCode::OK => {}
            _ => return self.take(answer).map(|()| true),
        }
        self.http.runtime.clone().block_on(async {
            // A connection whose answer was read to its end can carry the next request.
            let _ = tokio::time::timeout(self.http.patience.silence, answer.chunk()).await;
            if let Some(login) = &mut self.asked.login {
                login.accepted().await;
            }
        });
        Ok(true)
    }

    /// The reason why a connection broke while a request was sent. A server that refuses one answers, and closes before it
    /// has read all; its answer is lost where the next write fails first. So it is asked again, with nothing to send.
    fn why(&mut self, error: ClientError) -> ClientError {
        let broke = matches!(&error, ClientError::Connection { error, .. } if error.kind() != io::ErrorKind::TimedOut);
        match broke.then(|| self.probe()) {
            Some(Err(refusal)) if !refusal.kind().is_retryable() => refusal,
            _ => error,
        }
    }

    /// Begins a request whose body is written later.
    fn upload(&mut self, more: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Result<Upload, ClientError> {
        let (silence, runtime) = (self.http.patience.silence, self.http.runtime.clone());
        let headers = runtime.block_on(self.asked.headers())?;
        Ok(Upload::begin(more(self.post().headers(headers)), silence, &runtime))
    }

    /// Waits for the answer to such a request.
    fn uploaded(&self, upload: Upload) -> Result<Response, ClientError> {
        match upload.finish() {
            Some(answer) => answer.map_err(|error| self.failing(REQUESTING).request(error)),
            None => Err(self.failing(REQUESTING).silent(self.http.patience.silence)),
        }
    }

    /// Sends a file, once more if other credentials may help.
    fn send_file(&mut self, file: &mut File, length: u64) -> Result<Response, ClientError> {
        let mut asked_anew = false;
        loop {
            file.rewind().map_err(|error| self.failing(SPOOLING).connection(error))?;
            let mut upload = self.upload(|request| request.header(header::CONTENT_LENGTH, length))?;
            copy(file, &mut upload).map_err(|error| self.failing(SPOOLING).connection(error))?;
            let answer = self.uploaded(upload)?;
            let refused = answer.status() == StatusCode::UNAUTHORIZED;
            if refused && !asked_anew && self.http.runtime.clone().block_on(self.asked.refused()) {
                asked_anew = true;
                continue;
            }
            return Ok(answer);
        }
    }
}

/// Sends a file as far as the server takes it; only reading fails.
fn copy(file: &mut File, upload: &mut Upload) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if upload.write(&buffer[..count]).is_err() {
            // The answer tells why.
            return Ok(());
        }
    }
}

impl Connection for HttpConnection {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut *self.answer
    }

    fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        self.answer = Box::new(io::empty());
        Ok(Box::new(HttpRequest { connection: self, body: Body::Held(Vec::new()), failure: None }))
    }
}

/// A request on its way. Dropped unfinished it is cut off.
struct HttpRequest<'c> {
    connection: &'c mut HttpConnection,
    body: Body,
    /// Why it failed while it was written.
    failure: Option<ClientError>,
}

/// What there is of a request's body.
enum Body {
    /// All of it, in memory.
    Held(Vec<u8>),
    /// The part that is not sent yet.
    Sent(Box<Upload>),
    /// All of it, in a temporary file.
    Spooled(File, u64),
}

impl HttpRequest<'_> {
    /// What was held becomes the beginning of a larger body.
    fn grow(&mut self) -> Result<(), ClientError> {
        let Body::Held(held) = std::mem::replace(&mut self.body, Body::Held(Vec::new())) else { return Ok(()) };
        let connection = &mut *self.connection;
        let http = connection.http.clone();
        let mut streams = http.streams();
        if streams && !connection.probe()? {
            http.refuses_chunked.store(true, Ordering::Relaxed);
            streams = false;
        }
        if !streams {
            let lost = |error| connection.failing(SPOOLING).spool(error);
            tracing::warn!(
                server = %connection.asked.base,
                limit = http.limits.spool_bytes,
                "the server takes no request of unknown length; it is written to a temporary file first"
            );
            let mut file = tempfile::tempfile().map_err(lost)?;
            file.write_all(&held).map_err(lost)?;
            self.body = Body::Spooled(file, held.len() as u64);
            return Ok(());
        }
        let mut upload = connection.upload(|request| request)?;
        // Should it fail already, the end of the request will tell why.
        let _ = upload.write(&held);
        self.body = Body::Sent(Box::new(upload));
        Ok(())
    }

    fn spool(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let Body::Spooled(file, length) = &mut self.body else { return Ok(()) };
        let limit = self.connection.http.limits.spool_bytes;
        *length += bytes.len() as u64;
        if *length > limit {
            let reason = format!(
                "the server takes no request of unknown length, and this one has more than the {limit} bytes of spool"
            );
            return Err(self.connection.failing(REQUESTING).too_large(reason));
        }
        file.write_all(bytes).map_err(|error| self.connection.failing(SPOOLING).spool(error))
    }

    fn fail<T>(&mut self, failure: ClientError) -> io::Result<T> {
        let error = io::Error::new(io::ErrorKind::BrokenPipe, failure.to_string());
        self.failure = Some(failure);
        Err(error)
    }
}

impl Write for HttpRequest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Body::Held(held) = &mut self.body {
            if held.len() + bytes.len() <= BUFFERED_BYTES {
                held.extend_from_slice(bytes);
                return Ok(bytes.len());
            }
            if let Err(error) = self.grow() {
                return self.fail(error);
            }
        }
        match &mut self.body {
            Body::Sent(upload) => upload.write(bytes)?,
            _ => {
                if let Err(error) = self.spool(bytes) {
                    return self.fail(error);
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.body {
            Body::Sent(upload) => upload.flush(),
            _ => Ok(()),
        }
    }
}

impl Request for HttpRequest<'_> {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        let HttpRequest { connection, body, failure } = *self;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let answer = match body {
            Body::Held(held) => {
                let compressed = compressed(&held, connection.asked.service);
                let held = Bytes::from(held);
                connection.exchange(|request| {
                    Ok(match &compressed {
                        Some(bytes) => request.header(header::CONTENT_ENCODING, "gzip").body(bytes.clone()),
                        None => request.body(held.clone()),
                    })
                })?
            }
            Body::Sent(upload) => connection.uploaded(*upload).map_err(|error| connection.why(error))?,
            Body::Spooled(mut file, length) => connection.send_file(&mut file, length)?,
        };
        connection.take(answer)
    }
}

/// The body of a request for fetching, compressed where that is worth it: it is a list of ids. Servers are not
/// expected to understand a push in that form.
fn compressed(body: &[u8], service: Service) -> Option<Bytes> {
    if service != Service::UploadPack || body.len() <= COMPRESSED_BYTES {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from).filter(|smaller| smaller.len() < body.len())
}
