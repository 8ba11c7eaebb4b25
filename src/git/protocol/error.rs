//! [`ProtocolError`]: protocol violations by a peer.

use std::io;

use gix::bstr::BString;

use gitferry_base::Kind;

/// Most bytes of a peer's line quoted in a message.
const SHOWN_BYTES: usize = 120;

/// The peer violated the protocol, or used a feature that was not advertised.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Reading from the peer failed.
    #[error("cannot read the request: {0}")]
    Io(#[from] io::Error),
    /// The four digits in front of a packet are no valid length.
    #[error("protocol error: bad line length {:?}", BString::from(&.0[..]))]
    Length([u8; 4]),
    /// The request ended too early.
    #[error("the request ends early: {0} is missing")]
    Truncated(&'static str),
    /// A line is invalid at its position.
    #[error("expected {expected}, got {line:?}")]
    Unexpected {
        /// Description of valid lines.
        expected: &'static str,
        /// Received line, truncated to 120 bytes.
        line: BString,
    },
    /// A request exceeds a limit.
    #[error("too many {what}: at most {limit} are accepted")]
    TooMany {
        /// Plural noun for the limited items.
        what: &'static str,
        /// Largest accepted number.
        limit: usize,
    },
    /// The process has too little memory left for the request at the moment. Safe to retry later.
    #[error("the request is too large for now: {0}")]
    Busy(#[from] crate::memory::Busy),
    /// The object formats of peer and repository differ.
    #[error("mismatched object format: server {server}; client {client}")]
    ObjectFormat {
        /// Object format of the repository.
        server: gix::hash::Kind,
        /// Object format that the client named.
        client: BString,
    },
    /// A filter is unsupported or malformed.
    #[error("filter {spec:?} is not supported: {reason}")]
    Filter {
        /// Filter specification, truncated to 120 bytes.
        spec: BString,
        /// Reason for the refusal.
        reason: &'static str,
    },
    /// Two arguments exclude each other.
    #[error("{0} cannot be used together")]
    Together(&'static str),
}

/// A compressed request exceeds the size limit of its kind. Body readers return this error inside an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the compressed request expands to more than {limit} bytes, the most that is accepted")]
pub struct BodyTooLarge {
    /// Largest accepted size in bytes, uncompressed.
    pub limit: u64,
}

impl ProtocolError {
    /// Returns true if the client can receive the error: its request was read, or too large to be read.
    pub(crate) fn is_for_client(&self) -> bool {
        match self {
            ProtocolError::Io(error) => error.get_ref().is_some_and(|source| source.is::<BodyTooLarge>()),
            _ => true,
        }
    }

    /// Classifies the error by what the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            ProtocolError::Io(_) if self.is_for_client() => Kind::Refused,
            ProtocolError::Io(error) => Kind::of_io(error),
            ProtocolError::TooMany { .. } => Kind::Refused,
            ProtocolError::Busy(_) => Kind::Transient,
            _ => Kind::Usage,
        }
    }

    pub(crate) fn unexpected(expected: &'static str, line: &[u8]) -> Self {
        ProtocolError::Unexpected { expected, line: line[..line.len().min(SHOWN_BYTES)].into() }
    }
}
