//! Why a conversation with a Git server failed.

use std::io;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};

use crate::protocol::ProtocolError;
use gitferry_base::Kind;

/// Why there is no pack to push: whatever the closure failed with that was to write it.
pub type PackSourceError = Box<dyn std::error::Error + Send + Sync>;

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
        /// The HTTP status.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// The command at the other end of SSH failed.
    #[error("{server}: the command there ended with {status}: {reason}")]
    Exit {
        /// Where.
        server: String,
        /// The exit status.
        status: u32,
        /// What it complains of.
        reason: String,
    },
    /// More was to be sent than can be sent at once.
    #[error("{server}: {reason}")]
    TooLarge {
        /// Where it was to go.
        server: String,
        /// What the limit is.
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
    /// The server has had all of a push, and told of an error in Git's own protocol.
    #[error("{server}: the server says: {message}")]
    Declined {
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
    /// Its history ends somewhere, so that it cannot give all of it.
    #[error("{server}: the repository there is shallow, its history ends at {commit}: it cannot be a source")]
    Shallow {
        /// Where.
        server: String,
        /// A commit whose parents are missing.
        commit: ObjectId,
    },
    /// The pack to be pushed could not be made or read. The push was cut off before its end, so that the server
    /// refuses it.
    #[error("{server}: the push was given up: {error}")]
    PackSource {
        /// Where the pack was to go.
        server: String,
        /// Why there is no pack.
        error: PackSourceError,
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

    /// What it means once a whole push has been sent: most that a server says then it says of the push, and to stream
    /// the same pack again would not change its mind.
    pub(super) fn of_push(self) -> Self {
        match self {
            ClientError::Remote { server, message } if !passes(&message) => ClientError::Declined { server, message },
            error => error,
        }
    }

    /// The error that went through an [`io::Error`], as [`PackInput`](super::PackInput) and connections wrap theirs.
    pub fn from_io(error: io::Error) -> Result<ClientError, io::Error> {
        error.downcast()
    }

    /// As an [`io::Error`], from which [`ClientError::from_io`] takes it again.
    pub fn into_io(self) -> io::Error {
        let kind = match self {
            ClientError::BadPack { .. } | ClientError::Protocol { .. } => io::ErrorKind::InvalidData,
            ClientError::Connection { ref error, .. } => error.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// What servers say that fail for now, and may take the same push later.
const PASSING_WORDS: [&str; 14] = [
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

fn passes(message: &[u8]) -> bool {
    let message = message.to_str_lossy().to_ascii_lowercase();
    PASSING_WORDS.iter().any(|words| message.contains(words))
}

fn kind_of_source(error: &(dyn std::error::Error + 'static)) -> Kind {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let client = error.downcast_ref::<ClientError>().or_else(|| within.and_then(|error| error.downcast_ref()));
    client.map_or(Kind::Transient, ClientError::kind)
}

/// Where and at what something failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'s> {
    pub server: &'s str,
    pub doing: &'static str,
}

impl At<'_> {
    /// What reading or writing failed with: an error of the transport comes out as it is.
    pub fn io(self, error: io::Error) -> ClientError {
        ClientError::from_io(error).unwrap_or_else(|error| ClientError::Connection {
            server: self.server.into(),
            doing: self.doing,
            error,
        })
    }

    /// What an answer failed with; one that ends early is a broken connection.
    pub fn protocol(self, error: ProtocolError) -> ClientError {
        match error {
            ProtocolError::Io(error) => self.io(error),
            ProtocolError::Truncated(missing) => {
                let reason = format!("the server has hung up: {missing} is missing");
                self.io(io::Error::new(io::ErrorKind::UnexpectedEof, reason))
            }
            error => ClientError::Protocol { server: self.server.into(), error },
        }
    }

    /// What the server says of itself that it failed with.
    pub fn remote(self, message: &[u8]) -> ClientError {
        ClientError::Remote { server: self.server.into(), message: one_line(message).into() }
    }

    pub fn unsupported(self, what: impl Into<String>) -> ClientError {
        ClientError::Unsupported { server: self.server.into(), what: what.into() }
    }

    pub fn bad_pack(self, reason: impl Into<String>) -> ClientError {
        ClientError::BadPack { server: self.server.into(), reason: reason.into() }
    }
}

/// Longest text of a server that is passed on at once.
const MAX_TEXT_BYTES: usize = 1000;

/// A server's words for people: on one line, not too long, without control characters.
pub(super) fn one_line(text: &[u8]) -> String {
    let text = &text[..text.len().min(MAX_TEXT_BYTES)];
    let line: String = text.to_str_lossy().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().into()
}
