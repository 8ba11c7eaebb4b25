//! Errors of conversations with a Git server.

use std::io;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use crate::protocol::ProtocolError;
use gitferry_base::Kind;

/// Error of the closure that writes the pack of a push.
pub type PackSourceError = Box<dyn std::error::Error + Send + Sync>;

/// Error of a conversation with a Git server. `server` is always a URL without credentials.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be reached, or the connection broke.
    #[error("{server}: {doing}: {error}")]
    Connection {
        /// URL of the server without credentials.
        server: String,
        /// Operation that failed, such as `fetching`.
        doing: &'static str,
        /// Error of the transport.
        error: io::Error,
    },
    /// The server rejects the credentials, or they do not permit the request.
    #[error("{server}: the server does not accept the credentials: {reason}")]
    Unauthorized {
        /// URL of the server without credentials.
        server: String,
        /// Text of the server's answer.
        reason: String,
    },
    /// The server's identity (certificate or host key) is not the expected one, so nothing was sent.
    #[error("{server}: the identity of the server is not the configured one, nothing was sent: {reason}")]
    Untrusted {
        /// URL of the server without credentials.
        server: String,
        /// Difference from the configured identity.
        reason: String,
    },
    /// The repository does not exist, or the credentials do not permit reading it.
    #[error("{server}: there is no such repository, or these credentials may not see it")]
    NotFound {
        /// URL of the server without credentials.
        server: String,
    },
    /// The server answered with a failure.
    #[error("{server}: the server answered {status}: {reason}")]
    Status {
        /// URL of the server without credentials.
        server: String,
        /// HTTP status code.
        status: u16,
        /// Text of the server's answer.
        reason: String,
    },
    /// The command on the SSH server failed.
    #[error("{server}: the remote command exited with status {status}: {reason}")]
    Exit {
        /// URL of the server without credentials.
        server: String,
        /// Exit status of the command.
        status: u32,
        /// Standard error of the command.
        reason: String,
    },
    /// A request exceeds a size limit of the server or the transport.
    #[error("{server}: {reason}")]
    TooLarge {
        /// URL of the server without credentials.
        server: String,
        /// The exceeded limit.
        reason: String,
    },
    /// The server reported an error in Git's protocol (`ERR` packet or band 3).
    #[error("{server}: the server says: {message}")]
    Remote {
        /// URL of the server without credentials.
        server: String,
        /// Text that the server sent.
        message: BString,
    },
    /// The server received a whole push and reported an error in Git's protocol.
    #[error("{server}: the server says: {message}")]
    Declined {
        /// URL of the server without credentials.
        server: String,
        /// Text that the server sent.
        message: BString,
    },
    /// The answer violates Git's protocol.
    #[error("{server}: {error}")]
    Protocol {
        /// URL of the server without credentials.
        server: String,
        /// The violation.
        error: ProtocolError,
    },
    /// The server lacks a capability that the request needs.
    #[error("{server}: the server cannot {what}")]
    Unsupported {
        /// URL of the server without credentials.
        server: String,
        /// The missing ability, as a continuation of "the server cannot".
        what: String,
    },
    /// A region that acts as an in-process server failed.
    #[error("{server}: {error}")]
    Region {
        /// URL of the region.
        server: String,
        /// Kind of the region's error.
        kind: Kind,
        /// Text of the region's error.
        error: String,
    },
    /// The repository is shallow and cannot supply whole histories.
    #[error("{server}: the repository is shallow, its history ends at {commit}: it cannot be a source")]
    Shallow {
        /// URL of the server without credentials.
        server: String,
        /// Commit whose parents are missing.
        commit: ObjectId,
    },
    /// The pack of a push could not be made or read. The push was cut off before its end, so that the server refuses
    /// it.
    #[error("{server}: the push was aborted, the pack for it cannot be written: {error}")]
    PackSource {
        /// URL of the target without credentials.
        server: String,
        /// Error of the pack's source.
        error: PackSourceError,
    },
    /// The server sent a damaged pack; none of its objects became visible.
    #[error("{server}: the server sent a damaged pack: {reason}")]
    BadPack {
        /// URL of the server without credentials.
        server: String,
        /// Damage that was found.
        reason: String,
    },
}

impl ClientError {
    /// Kind of the error: the caller's next step.
    pub fn kind(&self) -> Kind {
        match self {
            ClientError::Connection { .. } => Kind::Transient,
            ClientError::Unauthorized { .. } | ClientError::Untrusted { .. } => Kind::Refused,
            ClientError::NotFound { .. } => Kind::NotFound,
            ClientError::Status { status: 408 | 429 | 500.., .. } | ClientError::Exit { .. } => Kind::Transient,
            ClientError::TooLarge { .. } | ClientError::Declined { .. } => Kind::Refused,
            ClientError::Status { .. } | ClientError::Unsupported { .. } => Kind::Refused,
            ClientError::Shallow { .. } => Kind::Refused,
            ClientError::Protocol { error: ProtocolError::TooMany { .. }, .. } => Kind::Refused,
            ClientError::Remote { .. } => Kind::Transient,
            ClientError::Region { kind, .. } => *kind,
            ClientError::Protocol { .. } | ClientError::BadPack { .. } => Kind::Transient,
            ClientError::PackSource { error, .. } => kind_of_source(error.as_ref()),
        }
    }

    /// Turns [`ClientError::Remote`] after a whole push into [`ClientError::Declined`], unless the message announces a
    /// transient failure: the server has judged the push, and sending the same pack again gives the same answer.
    pub(super) fn after_push(self) -> Self {
        match self {
            ClientError::Remote { server, message } if !is_transient(&message) => {
                ClientError::Declined { server, message }
            }
            error => error,
        }
    }

    /// Unwraps the error from an [`io::Error`], as [`PackInput`](super::PackInput) and connections wrap theirs.
    pub fn from_io(error: io::Error) -> Result<ClientError, io::Error> {
        error.downcast()
    }

    /// Wraps the error in an [`io::Error`]; [`ClientError::from_io`] unwraps it.
    pub fn into_io(self) -> io::Error {
        let kind = match self {
            ClientError::BadPack { .. } | ClientError::Protocol { .. } => io::ErrorKind::InvalidData,
            ClientError::Connection { ref error, .. } => error.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// Phrases in messages of servers that may accept the same push later.
const TRANSIENT_PHRASES: [&str; 14] = [
    "for now",
    "shutting down",
    "try again",
    "retry",
    "temporar",
    "timeout",
    "timed out",
    "unavailable",
    "overload",
    "busy",
    "rate limit",
    "too many",
    "internal error",
    "internal server error",
];

fn is_transient(message: &[u8]) -> bool {
    let message = message.to_str_lossy().to_ascii_lowercase();
    TRANSIENT_PHRASES.iter().any(|phrase| message.contains(phrase))
}

fn kind_of_source(error: &(dyn std::error::Error + 'static)) -> Kind {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let client = error.downcast_ref::<ClientError>().or_else(|| within.and_then(|error| error.downcast_ref()));
    client.map_or(Kind::Transient, ClientError::kind)
}

/// Server and operation that an error message names.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'s> {
    pub server: &'s str,
    pub doing: &'static str,
}

impl At<'_> {
    /// Error of a read or write; a [`ClientError`] inside is unwrapped.
    pub fn io(self, error: io::Error) -> ClientError {
        ClientError::from_io(error).unwrap_or_else(|error| ClientError::Connection {
            server: self.server.into(),
            doing: self.doing,
            error,
        })
    }

    /// Error of an answer; a truncated answer counts as a broken connection.
    pub fn protocol(self, error: ProtocolError) -> ClientError {
        match error {
            ProtocolError::Io(error) => self.io(error),
            ProtocolError::Truncated(missing) => {
                let reason = format!("the server has hung up before it sent {missing}");
                self.io(io::Error::new(io::ErrorKind::UnexpectedEof, reason))
            }
            error => ClientError::Protocol { server: self.server.into(), error },
        }
    }

    /// Error that the server reports in Git's protocol.
    pub fn remote(self, message: &[u8]) -> ClientError {
        ClientError::Remote { server: self.server.into(), message: one_line(message).into() }
    }

    /// Error for an object format that gitferry does not know.
    pub fn unknown_format(self, name: &BStr) -> ClientError {
        self.unsupported(format!("be used: its object format is `{name}`, which gitferry does not know"))
    }

    pub fn unsupported(self, what: impl Into<String>) -> ClientError {
        ClientError::Unsupported { server: self.server.into(), what: what.into() }
    }

    pub fn bad_pack(self, reason: impl Into<String>) -> ClientError {
        ClientError::BadPack { server: self.server.into(), reason: reason.into() }
    }
}

/// Bytes of a server's text that are kept in a message.
const MAX_TEXT_BYTES: usize = 1000;

/// Formats at most [`MAX_TEXT_BYTES`] of a server's text as one line; control characters become spaces.
pub(super) fn one_line(text: &[u8]) -> String {
    let text = &text[..text.len().min(MAX_TEXT_BYTES)];
    let line: String = text.to_str_lossy().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().into()
}
