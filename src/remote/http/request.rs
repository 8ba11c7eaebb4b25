//! Requests of a conversation, whose bodies are held in memory, streamed, or spooled to a temporary file.

use std::fs::File;
use std::io::{self, BufRead, Cursor, Write};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header;

use super::BUFFERED_BYTES;
use super::connection::{BUFFER_BYTES, COMPRESSED_BYTES, HttpConnection, REQUESTING, SPOOLING};
use super::upload::Upload;
use gitferry_git::client::{ClientError, Connection, Deadline, Request};
use gitferry_git::protocol::Service;

impl Connection for HttpConnection {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        self.current_answer()
    }

    fn deadline(&self) -> Deadline {
        HttpConnection::deadline(self)
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        self.drop_answer();
        Ok(Box::new(HttpRequest { connection: self, body: Body::Buffered(Vec::new()), failure: None }))
    }
}

/// A request that is being written. Dropping it unfinished truncates the request.
struct HttpRequest<'c> {
    connection: &'c mut HttpConnection,
    body: Body,
    /// Failure during a write, returned by `finish`.
    failure: Option<ClientError>,
}

/// Body of a request that is being written.
enum Body {
    /// Complete, in memory.
    Buffered(Vec<u8>),
    /// Sent while it is written.
    Streaming(Box<Upload>),
    /// Complete, in a temporary file, with its length in bytes.
    Spooled(File, u64),
}

impl HttpRequest<'_> {
    /// Switches from a buffered body to a streaming or spooled one that begins with the buffered bytes.
    fn outgrow_buffer(&mut self) -> Result<(), ClientError> {
        let Body::Buffered(held) = std::mem::replace(&mut self.body, Body::Buffered(Vec::new())) else { return Ok(()) };
        let connection = &mut *self.connection;
        let http = connection.http().clone();
        let mut streams = http.may_stream();
        if streams && !connection.probe()? {
            http.refuses_chunked.store(true, Ordering::Relaxed);
            streams = false;
        }
        if !streams {
            let lost = |error| connection.context(SPOOLING).spool(error);
            tracing::warn!(
                server = %connection.base(),
                limit = http.limits.spool_bytes,
                "the server refuses chunked requests; spooling the request to a temporary file"
            );
            let mut file = tempfile::tempfile().map_err(lost)?;
            file.write_all(&held).map_err(lost)?;
            self.body = Body::Spooled(file, held.len() as u64);
            return Ok(());
        }
        let mut upload = connection.upload(|request| request)?;
        // `finish` reports the reason if this write fails.
        let _ = upload.write(&held);
        self.body = Body::Streaming(Box::new(upload));
        Ok(())
    }

    fn spool(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let Body::Spooled(file, length) = &mut self.body else { return Ok(()) };
        let limit = self.connection.http().limits.spool_bytes;
        *length += bytes.len() as u64;
        if *length > limit {
            let reason =
                format!("the server refuses chunked requests, and this request exceeds the {limit} bytes of spool");
            return Err(self.connection.context(REQUESTING).too_large(reason));
        }
        file.write_all(bytes).map_err(|error| self.connection.context(SPOOLING).spool(error))
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
        if let Body::Buffered(held) = &mut self.body {
            if held.len() + bytes.len() <= BUFFERED_BYTES {
                held.extend_from_slice(bytes);
                return Ok(bytes.len());
            }
            if let Err(error) = self.outgrow_buffer() {
                return self.fail(error);
            }
        }
        match &mut self.body {
            Body::Streaming(upload) => upload.write(bytes)?,
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
            Body::Streaming(upload) => upload.flush(),
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
            // Larger than what one write passes to the system, so that the server may answer before its end.
            Body::Buffered(held) if held.len() > BUFFER_BYTES && connection.service() == Service::ReceivePack => {
                let length = held.len() as u64;
                connection.send_held(&mut Cursor::new(held), length)?
            }
            Body::Buffered(held) => {
                let compressed = compressed(&held, connection.service());
                let held = Bytes::from(held);
                connection.exchange(|request| {
                    Ok(match &compressed {
                        Some(bytes) => request.header(header::CONTENT_ENCODING, "gzip").body(bytes.clone()),
                        None => request.body(held.clone()),
                    })
                })?
            }
            Body::Streaming(upload) => connection.uploaded(*upload)?,
            Body::Spooled(mut file, length) => connection.send_held(&mut file, length)?,
        };
        connection.accept(answer)
    }
}

/// Compresses the body of a fetch request, a list of object ids, if that makes it smaller. Pushes are not compressed,
/// as servers need not support it.
fn compressed(body: &[u8], service: Service) -> Option<Bytes> {
    if service != Service::UploadPack || body.len() <= COMPRESSED_BYTES {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from).filter(|smaller| smaller.len() < body.len())
}
