//! What can be wrong with what a peer says.

use std::io;

use gix::bstr::BString;

use gitferry_base::Kind;

/// Longest part of a peer's line that is shown in a message.
const SHOWN_BYTES: usize = 120;

/// The peer does not keep to the protocol, or asks for what is not offered.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Reading from the peer failed.
    #[error("cannot read the request: {0}")]
    Io(#[from] io::Error),
    /// The four digits before a packet are no length that a packet may have.
    #[error("protocol error: bad line length {:?}", BString::from(&.0[..]))]
    Length([u8; 4]),
    /// The request ends in the middle.
    #[error("the request ends early: {0} is missing")]
    Truncated(&'static str),
    /// A line that has no place there.
    #[error("expected {expected}, got {line:?}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// The beginning of what came.
        line: BString,
    },
    /// More of something than is accepted at once.
    #[error("too many {what}: at most {limit} are accepted")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Other requests have taken the memory for it.
    #[error("the request is too large for now: {0}")]
    Busy(#[from] crate::memory::Busy),
    /// The peer names objects in another way than the repository.
    #[error("mismatched object format: server {server}; client {client}")]
    ObjectFormat {
        /// The repository's.
        server: gix::hash::Kind,
        /// The peer's.
        client: BString,
    },
    /// A filter that is not supported or not well formed.
    #[error("filter {spec:?} is not supported: {reason}")]
    Filter {
        /// The filter.
        spec: BString,
        /// What is wrong.
        reason: &'static str,
    },
    /// Two requests that exclude each other.
    #[error("{0} cannot be used together")]
    Together(&'static str),
}

/// A request came compressed and is larger than requests of its kind may be. The source of an [`io::Error`] of the
/// request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request came compressed and has more than {limit} bytes, the most that is accepted")]
pub struct BodyTooLarge {
    /// The limit in bytes.
    pub limit: u64,
}

impl ProtocolError {
    /// Whether the client can be told: the request could be read, or was too large to be.
    pub(crate) fn is_for_client(&self) -> bool {
        match self {
            ProtocolError::Io(error) => error.get_ref().is_some_and(|source| source.is::<BodyTooLarge>()),
            _ => true,
        }
    }

    /// What the caller should do.
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
