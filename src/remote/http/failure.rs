//! What it means when an HTTP server does not do what was asked.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::{Response, StatusCode, Url};

use crate::said;
use gitferry_base::error::chain;
use gitferry_git::client::ClientError;

/// Most bytes of a refusal that are read.
const MAX_REASON_BYTES: usize = 4096;
/// How long the text of a refusal is waited for.
const REASON_TIME: Duration = Duration::from_secs(10);

/// What was being done, and where.
#[derive(Clone, Copy)]
pub struct Failing<'a> {
    pub server: &'a Url,
    pub doing: &'static str,
}

impl Failing<'_> {
    /// A request that got no answer.
    pub fn request(self, error: reqwest::Error) -> ClientError {
        let error = error.without_url();
        if let Some(reason) = distrusted(&error) {
            return ClientError::Untrusted { server: self.server.to_string(), reason };
        }
        let kind = if error.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        self.connection(io::Error::new(kind, chain(&error)))
    }

    /// The connection is no good.
    pub fn connection(self, error: io::Error) -> ClientError {
        ClientError::Connection { server: self.server.to_string(), doing: self.doing, error }
    }

    /// The temporary file of a request failed. Where there is no room for it, there may be for a smaller one.
    pub fn spool(self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                let folder = std::env::temp_dir();
                self.too_large(format!("{}: {} has no room for it: {error}", self.doing, folder.display()))
            }
            _ => self.connection(error),
        }
    }

    /// There is more than can be sent at once.
    pub fn too_large(self, reason: String) -> ClientError {
        ClientError::TooLarge { server: self.server.to_string(), reason }
    }

    /// Nothing came.
    pub fn silent(self, silence: Duration) -> ClientError {
        self.connection(io::Error::new(io::ErrorKind::TimedOut, format!("the server did not answer for {silence:?}")))
    }

    /// An answer that is a refusal.
    pub fn status(self, status: StatusCode, reason: String) -> ClientError {
        let server = self.server.to_string();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                ClientError::Unauthorized { server, reason: format!("{} {reason}", status.as_u16()) }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => ClientError::NotFound { server },
            _ => ClientError::Status { server, status: status.as_u16(), reason },
        }
    }

    /// The server does not speak the protocol.
    pub fn unsupported(self, what: String) -> ClientError {
        ClientError::Unsupported { server: self.server.to_string(), what }
    }
}

/// What a server says beside its refusal.
pub async fn reason(mut answer: Response, silence: Duration) -> String {
    let name = answer.status().canonical_reason().unwrap_or("for a reason of its own").to_owned();
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = answer.chunk().await {
            text.extend_from_slice(&piece[..piece.len().min(MAX_REASON_BYTES - text.len())]);
            if text.len() == MAX_REASON_BYTES {
                break;
            }
        }
    };
    // What is there is better than nothing.
    let _ = tokio::time::timeout(silence.min(REASON_TIME), read).await;
    said::shown(&text).unwrap_or(name)
}

/// Why a server's certificate was not accepted, if that is what happened.
fn distrusted(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error does not count what it wraps among its causes.
        let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let tls = inner.map_or_else(|| error.downcast_ref(), |inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error @ rustls::Error::InvalidCertificate(_)) = tls {
            return Some(error.to_string());
        }
        cause = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}
