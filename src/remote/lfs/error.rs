//! Why the LFS server of a repository did not do what was asked.

use std::io;

use reqwest::StatusCode;

use gitferry_base::Kind;
use gitferry_git::lfs::LfsOid;

/// Why the LFS server of a repository did not do what was asked. `server` is its URL, without credentials. Whatever
/// was stored before stays; asking again is safe.
#[derive(Debug, thiserror::Error)]
pub enum LfsError {
    /// There cannot be an LFS server where the repository is.
    #[error("{server}: there is no LFS server at such a URL: {reason}")]
    Unusable {
        /// Where.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// There are no credentials.
    #[error("{server}: there are no credentials: {reason}")]
    Credentials {
        /// Where.
        server: String,
        /// Why.
        reason: String,
    },
    /// It cannot be reached, or the connection broke.
    #[error("{server}: {doing}: {reason}")]
    Connection {
        /// Where.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// It says no.
    #[error("{server}: {doing}: the LFS server answered {status}: {reason}")]
    Answer {
        /// Where.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// The HTTP status, or the code of one object.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// What it says is not the Batch API, or asks for what gitferry does not do.
    #[error("{server}: {reason}")]
    Protocol {
        /// Where.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// An object's bytes are not those that its name stands for. Nothing of it was stored.
    #[error("LFS object {oid} is damaged where it comes from: {reason}")]
    Damaged {
        /// Which object.
        oid: LfsOid,
        /// What is wrong.
        reason: String,
    },
    /// The body of an upload could not be read; the upload was cut off, so that nothing was stored.
    #[error("{server}: an upload was given up: {error}")]
    Source {
        /// Where it was to go.
        server: String,
        /// Why there is no more.
        error: io::Error,
    },
}

impl LfsError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            LfsError::Unusable { .. } => Kind::Usage,
            LfsError::Credentials { .. } | LfsError::Protocol { .. } => Kind::Refused,
            LfsError::Connection { .. } => Kind::Transient,
            // Not made for LFS, and no LFS server: neither passes by itself.
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

    /// Whether it says that there is no such object.
    pub fn is_missing(&self) -> bool {
        matches!(self, LfsError::Answer { status, .. } if is_missing(*status))
    }

    /// As an [`io::Error`], from which it can be downcast again.
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

/// Whether an answer may be another one later.
pub(super) fn is_transient(status: u16) -> bool {
    let timeouts = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status >= 500 || timeouts.iter().any(|known| known.as_u16() == status)
}

/// Whether an answer says that there is no such thing.
pub(super) fn is_missing(status: u16) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::GONE].iter().any(|known| known.as_u16() == status)
}
