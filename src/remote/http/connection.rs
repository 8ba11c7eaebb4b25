//! Stateless conversation with a Git service over HTTP: each request is an exchange of its own.

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{RequestBuilder, Response, StatusCode, Url, header};

use super::Http;
use super::discovery::{DISCOVERING, Discovery};
use super::failure::FailureContext;
use super::upload::{Upload, Uploaded};
use crate::answer_reader::answer_reader;
use crate::server_text;
use gitferry_base::error::chain;
use gitferry_git::client::{ClientError, Connection, Deadline};
use gitferry_git::protocol::{MAX_PACKET_BYTES, Packet, PacketReader, PacketWriter, ProtocolError, Service, Version};

/// Fetch requests above this size, in bytes, are compressed.
pub const COMPRESSED_BYTES: usize = 1024;
/// Buffer size, in bytes, for decompression and file copies.
pub const BUFFER_BYTES: usize = 64 * 1024;
/// Body of a probe request: a flush packet.
const PROBE: &[u8] = b"0000";
/// Value of `Expect` with which a client asks if a body of the announced size is welcome.
const CONTINUE: &str = "100-continue";
/// Most probes after a broken connection.
const MAX_PROBES: usize = 2;
/// Longest wait for a server to refuse an announced size. Servers that check the size do so before they read the body.
const MAX_SIZE_PROBE_WAIT: Duration = Duration::from_secs(5);
/// Name of a request in errors.
pub const REQUESTING: &str = "sending a request";
/// Name of spooling in errors.
pub const SPOOLING: &str = "spooling a request to a temporary file";

impl Http {
    /// Discovers a service of the repository at `url` and returns the connection after its advertisement has started.
    pub fn connect(
        self: &Arc<Self>,
        url: &Url,
        service: Service,
        version: Version,
    ) -> Result<Box<dyn Connection>, ClientError> {
        let opened = self.runtime.block_on(self.discover(url, service, version))?;
        HttpConnection::begin(self.clone(), opened).map(|it| Box::new(it) as Box<dyn Connection>)
    }
}

/// Connection to a service, with the answer to the last request.
pub struct HttpConnection {
    http: Arc<Http>,
    discovery: Discovery,
    answer: Box<dyn BufRead + Send>,
    deadline: Deadline,
}

impl HttpConnection {
    /// Starts with the advertisement that discovery received.
    fn begin(http: Arc<Http>, mut discovery: Discovery) -> Result<Self, ClientError> {
        let answer = discovery.answer.take();
        let mut connection =
            HttpConnection { http, discovery, answer: Box::new(io::empty()), deadline: Deadline::default() };
        if let Some(answer) = answer {
            connection.read_answer(answer, "advertisement")?;
            connection.skip_announcement()?;
        }
        Ok(connection)
    }

    /// Checks the media type and compression of an answer and makes the answer the current one.
    fn read_answer(&mut self, answer: Response, kind: &str) -> Result<(), ClientError> {
        let expected = format!("application/x-{}-{kind}", self.discovery.service.name());
        let found = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let found = found.unwrap_or_default();
        if !found.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(&expected) {
            return Err(self.not_git(found, kind == "advertisement"));
        }
        let gzip = match answer.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(other) => {
                let encoding = server_text::one_line(other).unwrap_or_default();
                let what = format!(
                    "answer uncompressed or in gzip: it answered in `{encoding}`, which gitferry does not read"
                );
                return Err(self.context(REQUESTING).unsupported(what));
            }
        };
        let stream = answer.bytes_stream().map_err(|error| {
            let error = error.without_url();
            let kind = if error.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionAborted };
            io::Error::new(kind, chain(&error))
        });
        let idle_timeout = self.http.timeouts.idle;
        let deadline = self.deadline.clone();
        let pieces = answer_reader(stream.boxed(), idle_timeout, deadline, self.http.runtime.clone());
        self.answer = if gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(pieces)))
        } else {
            Box::new(pieces)
        };
        Ok(())
    }

    /// Error for an answer with another media type.
    fn not_git(&self, found: &str, first: bool) -> ClientError {
        let found: String = found.chars().filter(|c| c.is_ascii_graphic()).take(80).collect();
        let what = match (first, found.split(';').next()) {
            (true, Some("text/plain" | "" | "application/octet-stream")) => {
                "speak Git's smart HTTP protocol: it serves a repository's files (\"dumb HTTP\"), which allows neither \
                 pushes nor incremental fetches"
                    .into()
            }
            (true, _) => format!("speak Git's protocol at this URL: it answered with content type {found:?}"),
            (false, _) => format!("answer a request in Git's protocol: it answered with content type {found:?}"),
        };
        self.context(REQUESTING).unsupported(what)
    }

    /// Skips the `# service=` line and its flush, with which protocol versions 0 and 1 begin.
    fn skip_announcement(&mut self) -> Result<(), ClientError> {
        let failing = self.discovery.context(DISCOVERING);
        let wrong = |error: ProtocolError| match error {
            ProtocolError::Io(error) => failing.connection(error),
            error => ClientError::Protocol { server: self.discovery.base.to_string(), error },
        };
        let mut input = PacketReader::new(&mut *self.answer);
        let first = match input.read().map_err(wrong)? {
            None => return Err(wrong(ProtocolError::Truncated("the advertisement"))),
            Some(Packet::Data(line)) => line.to_vec(),
            Some(_) => return Err(wrong(ProtocolError::Truncated("the service line of the advertisement"))),
        };
        if let Some(service) = first.strip_prefix(b"# service=") {
            if service.trim_ascii_end() != self.discovery.service.name().as_bytes() {
                return Err(wrong(ProtocolError::Unexpected { expected: "the requested service", line: first.into() }));
            }
            return match input.read().map_err(wrong)? {
                Some(Packet::Flush) => Ok(()),
                _ => Err(wrong(ProtocolError::Truncated("the flush after the service line"))),
            };
        }
        // Version 2 has no service line: the packet that was read is put back.
        let mut back = Vec::with_capacity(MAX_PACKET_BYTES);
        PacketWriter::new(&mut back).data(&first).map_err(|error| self.context(DISCOVERING).connection(error))?;
        let rest = std::mem::replace(&mut self.answer, Box::new(io::empty()));
        self.answer = Box::new(Cursor::new(back).chain(rest));
        Ok(())
    }

    /// Answer to the last request.
    pub fn current_answer(&mut self) -> &mut dyn BufRead {
        &mut *self.answer
    }

    /// Drops the answer to the last request, read or not.
    pub fn drop_answer(&mut self) {
        self.answer = Box::new(io::empty());
    }

    /// Deadline of the answers.
    pub fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// Transport of the remote.
    pub fn http(&self) -> &Arc<Http> {
        &self.http
    }

    /// URL of the repository after redirects.
    pub fn base(&self) -> &Url {
        &self.discovery.base
    }

    /// Service that the connection talks to.
    pub fn service(&self) -> Service {
        self.discovery.service
    }

    pub fn context(&self, doing: &'static str) -> FailureContext<'_> {
        self.discovery.context(doing)
    }

    /// Builds a request without headers of the login and without a body.
    fn post(&self) -> RequestBuilder {
        let service = self.discovery.service.name();
        self.discovery
            .client
            .post(format!("{}/{service}", self.discovery.base))
            .header(header::CONTENT_TYPE, format!("application/x-{service}-request"))
            .header(header::ACCEPT, format!("application/x-{service}-result"))
    }

    /// Sends a request with a repeatable body, and once more after a 401 if other credentials are available.
    pub fn exchange(
        &mut self,
        body: impl Fn(RequestBuilder) -> io::Result<RequestBuilder>,
    ) -> Result<Response, ClientError> {
        let http = self.http.clone();
        let runtime = self.http.runtime.clone();
        let mut retried = false;
        loop {
            let request = body(self.post()).map_err(|error| self.context(REQUESTING).connection(error))?;
            let answer = runtime.block_on(http.send(&mut self.discovery, request, REQUESTING))?;
            let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
            if unauthorized && !retried && runtime.block_on(self.discovery.reject()) {
                retried = true;
                continue;
            }
            return Ok(answer);
        }
    }

    /// Judges the answer to a request and makes it the current one.
    pub fn accept(&mut self, answer: Response) -> Result<(), ClientError> {
        let runtime = self.http.runtime.clone();
        let idle_timeout = self.http.timeouts.idle;
        if answer.status() == StatusCode::LENGTH_REQUIRED {
            self.http.refuses_chunked.store(true, Ordering::Relaxed);
        }
        if answer.status() != StatusCode::OK {
            return Err(runtime.block_on(self.discovery.refusal(answer, REQUESTING, idle_timeout)));
        }
        if let Some(login) = &mut self.discovery.login {
            runtime.block_on(login.approve());
        }
        self.read_answer(answer, "result")
    }

    /// Returns true if the server accepts a streamed request. A streamed request cannot be repeated with other
    /// credentials, and a server that requires a length refuses only once it sees a request without one.
    pub fn probe(&mut self) -> Result<bool, ClientError> {
        let mut answer = self.exchange(|request| {
            let nothing = futures::stream::iter([Ok::<_, io::Error>(Bytes::from_static(PROBE))]);
            Ok(request.body(reqwest::Body::wrap_stream(nothing)))
        })?;
        match answer.status() {
            StatusCode::LENGTH_REQUIRED | StatusCode::NOT_IMPLEMENTED => return Ok(false),
            StatusCode::OK => {}
            _ => return self.accept(answer).map(|()| true),
        }
        self.http.runtime.clone().block_on(async {
            // Reading the answer to its end lets the connection be reused.
            let _ = tokio::time::timeout(self.http.timeouts.idle, answer.chunk()).await;
            if let Some(login) = &mut self.discovery.login {
                login.approve().await;
            }
        });
        Ok(true)
    }

    /// Replaces the error of a broken connection by the refusal that caused it, if there was one. A server that refuses a
    /// request may answer and close before it has read the body, and the answer is lost if a write fails first. Requests
    /// that change nothing obtain the refusal again: small ones, then one that announces the size.
    ///
    /// A server that was sent a truncated body cannot have taken the request. If the whole body was sent, the size alone
    /// is asked for: a server that refuses the size has refused this request, too, and any other refusal says nothing
    /// about a request that may have been taken.
    fn diagnose(&mut self, error: ClientError, bytes: u64, may_be_whole: bool) -> ClientError {
        let (server, doing, error) = match error {
            ClientError::Connection { server, doing, error } if error.kind() != io::ErrorKind::TimedOut => {
                (server, doing, error)
            }
            error => return error,
        };
        let refusal = if may_be_whole { None } else { self.ask_again() };
        if let Some(refusal) = refusal.or_else(|| self.probe_size(bytes)) {
            return refusal;
        }
        let known = if may_be_whole {
            "the connection broke after the request was sent, before an answer came: the server may have taken the \
             request"
        } else {
            "the connection broke before the server had received the whole request, so that it has not taken the \
             request; its answer, if it gave one, could not be read; it is safe to run again"
        };
        ClientError::Connection { server, doing, error: io::Error::new(error.kind(), format!("{known} ({error})")) }
    }

    /// Asks for the refusal of a request that was cut off, with probes and then with a request without a body, whose
    /// answer no unread byte can destroy. Such a request is malformed, so that only refusals count that depend on
    /// its head: of the credentials and of the repository.
    fn ask_again(&mut self) -> Option<ClientError> {
        for _ in 0..MAX_PROBES {
            match self.probe() {
                Err(ClientError::Connection { error, .. }) if error.kind() != io::ErrorKind::TimedOut => {}
                Err(refusal) if !refusal.kind().is_retryable() => return Some(refusal),
                _ => return None,
            }
        }
        let answer = self.exchange(|request| Ok(request.body(Bytes::new()))).ok()?;
        if answer.status() == StatusCode::OK {
            return None;
        }
        let refusal = self.accept(answer).err()?;
        matches!(refusal, ClientError::Unauthorized { .. } | ClientError::NotFound { .. }).then_some(refusal)
    }

    /// Announces a request of `bytes` and returns the server's refusal of that size. No byte of the body is sent: a
    /// server that does not refuse the size waits for the body, and sees a truncated request.
    fn probe_size(&mut self, bytes: u64) -> Option<ClientError> {
        let announce =
            |request: RequestBuilder| request.header(header::CONTENT_LENGTH, bytes).header(header::EXPECT, CONTINUE);
        let wait = self.http.timeouts.idle.min(MAX_SIZE_PROBE_WAIT);
        let answer = self.upload(announce).ok()?.abandon(wait)?.ok()?;
        if answer.status() != StatusCode::PAYLOAD_TOO_LARGE {
            return None;
        }
        self.accept(answer).err()
    }

    /// Starts a request with a streaming body.
    pub fn upload(&mut self, more: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Result<Upload, ClientError> {
        let idle_timeout = self.http.timeouts.idle;
        let runtime = self.http.runtime.clone();
        let headers = runtime.block_on(self.discovery.headers())?;
        Ok(Upload::begin(more(self.post().headers(headers)), idle_timeout, &runtime))
    }

    /// Waits for the answer to a streamed request.
    pub fn uploaded(&mut self, upload: Upload) -> Result<Response, ClientError> {
        let Uploaded { answer, bytes, may_be_whole } = upload.finish();
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                let error = self.context(REQUESTING).request(error);
                Err(self.diagnose(error, bytes, may_be_whole))
            }
            None => Err(self.context(REQUESTING).timed_out(self.http.timeouts.idle)),
        }
    }

    /// Sends a request whose body is held, and once more after a 401 if other credentials are available.
    pub fn send_held(&mut self, body: &mut (impl Read + Seek), length: u64) -> Result<Response, ClientError> {
        let mut retried = false;
        loop {
            body.rewind().map_err(|error| self.context(SPOOLING).connection(error))?;
            let mut upload = self.upload(|request| request.header(header::CONTENT_LENGTH, length))?;
            copy(body, &mut upload).map_err(|error| self.context(SPOOLING).connection(error))?;
            let answer = self.uploaded(upload)?;
            let unauthorized = answer.status() == StatusCode::UNAUTHORIZED;
            if unauthorized && !retried && self.http.runtime.clone().block_on(self.discovery.reject()) {
                retried = true;
                continue;
            }
            return Ok(answer);
        }
    }
}

/// Sends a body until its end or until the server stops accepting. Only reading the body fails.
fn copy(body: &mut impl Read, upload: &mut Upload) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if upload.write(&buffer[..count]).is_err() {
            // The answer contains the reason.
            return Ok(());
        }
    }
}
