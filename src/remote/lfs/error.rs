//! Errors of LFS transfers with a remote.

use std::io;

use reqwest::StatusCode;

use gitferry_base::Kind;
use gitferry_git::lfs::LfsOid;

/// A request to an LFS server failed. `server` is the server's URL without credentials. Objects stored before the
/// failure stay; running the transfer again is safe.
#[derive(Debug, thiserror::Error)]
pub enum LfsError {
    /// The LFS URL derived from the repository's URL is invalid.
    #[error("{server}: not a valid URL of an LFS server: {reason}")]
    Unusable {
        /// The derived URL.
        server: String,
        /// Error of the URL parser.
        reason: String,
    },
    /// The configured source of credentials supplies none.
    #[error("{server}: cannot obtain credentials: {reason}")]
    Credentials {
        /// URL of the LFS server.
        server: String,
        /// Cause, without secrets.
        reason: String,
    },
    /// The server cannot be reached, did not answer in time, or the connection broke.
    #[error("{server}: {doing}: {reason}")]
    Connection {
        /// URL of the LFS server.
        server: String,
        /// Operation that failed.
        doing: &'static str,
        /// Cause of the failure.
        reason: String,
    },
    /// The server refused the request.
    #[error("{server}: {doing}: the LFS server answered {status}: {reason}")]
    Answer {
        /// URL of the LFS server.
        server: String,
        /// Operation that was refused.
        doing: &'static str,
        /// HTTP status of the answer, or error code of one object.
        status: u16,
        /// Message of the server, in one line.
        reason: String,
    },
    /// The answer does not follow the Batch API, or requires an unsupported feature.
    #[error("{server}: {reason}")]
    Protocol {
        /// URL of the LFS server.
        server: String,
        /// Violation or missing feature.
        reason: String,
    },
    /// The bytes of an object do not match its size or SHA-256. Nothing of the object was stored.
    #[error("LFS object {oid} is damaged where it comes from: {reason}")]
    Damaged {
        /// Object as named by its pointer.
        oid: LfsOid,
        /// Difference from the pointer.
        reason: String,
    },
    /// The body of an upload could not be read; the upload was truncated, so the server stored nothing.
    #[error("{server}: abandoned an upload, because its object cannot be read: {error}")]
    Source {
        /// URL of the LFS server.
        server: String,
        /// Error of the body.
        error: io::Error,
    },
}

impl LfsError {
    /// Classifies the error by what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            LfsError::Unusable { .. } => Kind::Usage,
            LfsError::Credentials { .. } | LfsError::Protocol { .. } => Kind::Refused,
            LfsError::Connection { .. } => Kind::Transient,
            // 501 Not Implemented: a retry cannot help.
            LfsError::Answer { status: 501, .. } => Kind::Refused,
            LfsError::Answer { status, .. } if is_transient(*status) => Kind::Transient,
            LfsError::Answer { status: 404, .. } => Kind::NotFound,
            LfsError::Answer { .. } => Kind::Refused,
            LfsError::Damaged { .. } => Kind::Corrupt,
            LfsError::Source { error, .. } => {
                let inner = error.get_ref().and_then(|error| error.downcast_ref::<LfsError>());
                inner.map_or_else(|| Kind::of_io(error), LfsError::kind)
            }
        }
    }

    /// Returns true if the server answered that the object or repository does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, LfsError::Answer { status, .. } if is_missing(*status))
    }

    /// Wraps the error in an [`io::Error`], from which it can be downcast.
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

/// Returns true if a request with this status may succeed later.
pub(super) fn is_transient(status: u16) -> bool {
    let timeouts = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status >= 500 || timeouts.iter().any(|known| known.as_u16() == status)
}

/// Returns true if the status means that the resource does not exist.
pub(super) fn is_missing(status: u16) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::GONE].iter().any(|known| known.as_u16() == status)
}
