//! Why a conversation with a Git server failed.

use std::io;

use gix::bstr::BString;

use crate::Kind;
use crate::git::protocol::ProtocolError;

/// Why a conversation with a Git server failed. `server` is always a URL without credentials.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be reached, or the connection broke.
    #[error("{server}: {doing}: {error}")]
    Connection {
        /// Where.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The server wants other credentials, or has none for what was asked.
    #[error("{server}: the server does not accept the credentials: {reason}")]
    Unauthorized {
        /// Where.
        server: String,
        /// What it says.
        reason: String,
    },
    /// Its identity is not the expected one, so nothing was sent.
    #[error("{server}: this is not the server that was configured: {reason}")]
    Untrusted {
        /// Where.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such repository, or not for these credentials.
    #[error("{server}: there is no such repository, or these credentials may not see it")]
    NotFound {
        /// Where.
        server: String,
    },
    /// The server answered with a failure.
    #[error("{server}: the server answered {status}: {reason}")]
    Status {
        /// Where.
        server: String,
        /// The HTTP status, or the exit status over SSH.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// The server told of an error in Git's own protocol (`ERR`, band 3).
    #[error("{server}: the server says: {message}")]
    Remote {
        /// Where.
        server: String,
        /// Its words.
        message: BString,
    },
    /// What it says is not Git's protocol.
    #[error("{server}: {error}")]
    Protocol {
        /// Where.
        server: String,
        /// What is wrong.
        error: ProtocolError,
    },
    /// It cannot do what is needed.
    #[error("{server}: the server cannot {what}")]
    Unsupported {
        /// Where.
        server: String,
        /// What is needed.
        what: String,
    },
    /// A region of this process that stands in for a server failed.
    #[error("{server}: {error}")]
    Region {
        /// Which.
        server: String,
        /// What the caller should do.
        kind: Kind,
        /// Why.
        error: String,
    },
    /// A pack is not what it should be; nothing of it became visible.
    #[error("{server}: the pack that it sent is damaged: {reason}")]
    BadPack {
        /// Where.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

impl ClientError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            ClientError::Connection { .. } => Kind::Transient,
            ClientError::Unauthorized { .. } | ClientError::Untrusted { .. } => Kind::Refused,
            ClientError::NotFound { .. } => Kind::NotFound,
            ClientError::Status { status, .. } if *status >= 500 || *status == 429 => Kind::Transient,
            ClientError::Status { .. } | ClientError::Unsupported { .. } => Kind::Refused,
            ClientError::Remote { .. } => Kind::Transient,
            ClientError::Region { kind, .. } => *kind,
            ClientError::Protocol { .. } | ClientError::BadPack { .. } => Kind::Transient,
        }
    }
}
