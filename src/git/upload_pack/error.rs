//! [`ServeError`]: failures of upload-pack.

use std::io;

use gix::ObjectId;
use gix::bstr::BString;

use crate::pack::{Fault, PackError};
use crate::protocol::ProtocolError;
use gitferry_base::Kind;

/// A request could not be served, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client disconnected or stopped reading.
    #[error("cannot send to the client: {0}")]
    Client(#[source] io::Error),
    /// The client violated the protocol, or used a capability that was not advertised.
    #[error("upload-pack: {0}")]
    Protocol(#[from] ProtocolError),
    /// No visible ref reaches a wanted object, or the object does not exist.
    #[error("upload-pack: not our ref {0}")]
    NotOurs(ObjectId),
    /// A wanted ref does not exist.
    #[error("unknown ref {0}")]
    UnknownRef(BString),
    /// A `deepen-not` ref does not exist.
    #[error("upload-pack: ambiguous deepen-not: {0}")]
    UnknownExclusion(BString),
    /// A `sparse:oid` filter names no usable blob.
    #[error("upload-pack: filter sparse:oid={name}: {reason}")]
    Sparse {
        /// Blob as the client named it: an id, a ref or `<ref or id>:<path>`.
        name: BString,
        /// Reason for the refusal.
        reason: &'static str,
    },
    /// Reachability checks exceeded the limits of [`WorkLimits`](super::WorkLimits).
    #[error(
        "upload-pack: checking whether refs reach the wanted objects takes more work than one request may cause; \
         fetch branches and tags by name, or fewer objects at a time"
    )]
    TooMuchWork,
    /// No commit satisfies a `deepen-since` or `deepen-not` request.
    #[error("no commits selected for shallow requests")]
    NothingSelected,
    /// An object of another kind was named where a commit is required.
    #[error("object {id} is a {found}, not a commit")]
    NotACommit {
        /// Object named as a commit.
        id: ObjectId,
        /// Actual kind of the object.
        found: gix::objs::Kind,
    },
    /// A required object is in no pack: the repository is damaged.
    #[error("object {id} is missing{}", by.map(|by| format!("; {by} needs it")).unwrap_or_default())]
    Missing {
        /// Missing object.
        id: ObjectId,
        /// Object that refers to the missing one; `None` for a ref.
        by: Option<ObjectId>,
    },
    /// The links of an object cannot be parsed.
    #[error("object {id} cannot be read: {reason}")]
    Unreadable {
        /// Malformed object.
        id: ObjectId,
        /// Description of the defect.
        reason: &'static str,
    },
    /// A pack cannot be read.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The selection exceeds the 2³² − 1 objects that one pack can hold.
    #[error("{0} objects are too many for one pack")]
    TooManyObjects(u64),
    /// The caller set the `cancel` flag.
    #[error("cancelled")]
    Cancelled,
}

/// Attributes an I/O error to the client connection.
pub(super) fn client<T>(result: io::Result<T>) -> Result<T, ServeError> {
    result.map_err(ServeError::Client)
}

impl ServeError {
    /// Classifies the error by what the caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            ServeError::Client(_) | ServeError::Cancelled => Kind::Transient,
            ServeError::Protocol(error) => error.kind(),
            ServeError::NotOurs(_) | ServeError::UnknownRef(_) | ServeError::UnknownExclusion(_) => Kind::NotFound,
            ServeError::NothingSelected | ServeError::NotACommit { .. } | ServeError::Sparse { .. } => Kind::Usage,
            ServeError::Missing { .. } | ServeError::Unreadable { .. } => Kind::Corrupt,
            ServeError::TooManyObjects(_) | ServeError::TooMuchWork => Kind::Refused,
            ServeError::Pack(error) => error.kind(),
        }
    }

    /// Returns the message for the client, without paths of this machine; `None` if the connection is broken.
    pub fn for_client(&self) -> Option<String> {
        match self {
            ServeError::Client(_) => None,
            ServeError::Protocol(error) if !error.is_for_client() => None,
            ServeError::Pack(PackError { fault: Fault::Io { .. }, .. }) => Some("cannot read a pack".into()),
            ServeError::Pack(error) => Some(format!("a pack is damaged: {}", error.fault)),
            ServeError::Cancelled => Some("the server is stopping; try again".into()),
            other => Some(other.to_string()),
        }
    }
}
