//! Classification of failed HTTP requests.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::{Response, StatusCode, Url};

use crate::server_text;
use gitferry_base::error::chain;
use gitferry_git::client::ClientError;

/// Most bytes of a refusal that are read.
const MAX_REASON_BYTES: usize = 4096;
/// Limit for reading the text of a refusal.
const REASON_TIMEOUT: Duration = Duration::from_secs(10);

/// Server and operation that an error names.
#[derive(Clone, Copy)]
pub struct FailureContext<'a> {
    pub server: &'a Url,
    pub doing: &'static str,
}

impl FailureContext<'_> {
    /// Error for a request without an answer.
    pub fn request(self, error: reqwest::Error) -> ClientError {
        let error = error.without_url();
        if let Some(reason) = distrusted(&error) {
            return ClientError::Untrusted { server: self.server.to_string(), reason };
        }
        let kind = if error.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        self.connection(io::Error::new(kind, chain(&error)))
    }

    /// Error for a broken connection.
    pub fn connection(self, error: io::Error) -> ClientError {
        ClientError::Connection { server: self.server.to_string(), doing: self.doing, error }
    }

    /// Error for the temporary file of a request. A full disk is [`ClientError::TooLarge`], as a smaller push may fit.
    pub fn spool(self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                let folder = std::env::temp_dir();
                self.too_large(format!("{}: no room in {}: {error}", self.doing, folder.display()))
            }
            _ => self.connection(error),
        }
    }

    /// Error for a request above a size limit.
    pub fn too_large(self, reason: String) -> ClientError {
        ClientError::TooLarge { server: self.server.to_string(), reason }
    }

    /// Error for a request without progress for `idle_timeout`.
    pub fn timed_out(self, idle_timeout: Duration) -> ClientError {
        self.connection(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the server did not answer for {idle_timeout:?}"),
        ))
    }

    /// Error for an unsuccessful status.
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

    /// Error for a server that lacks what `what` names, worded to follow "the server cannot".
    pub fn unsupported(self, what: String) -> ClientError {
        ClientError::Unsupported { server: self.server.to_string(), what }
    }
}

/// Reads the text of a refusal, or else returns the name of its HTTP status.
pub async fn reason(mut answer: Response, idle_timeout: Duration) -> String {
    let name = answer.status().canonical_reason().unwrap_or("no reason given").to_owned();
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = answer.chunk().await {
            text.extend_from_slice(&piece[..piece.len().min(MAX_REASON_BYTES - text.len())]);
            if text.len() == MAX_REASON_BYTES {
                break;
            }
        }
    };
    // After a timeout, the part that arrived is used.
    let _ = tokio::time::timeout(idle_timeout.min(REASON_TIMEOUT), read).await;
    server_text::one_line(&text).unwrap_or(name)
}

/// Returns the reason if the error stems from a certificate that was not accepted.
fn distrusted(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // `io::Error::source` skips the error that it wraps.
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
