//! [`ContentError`]: failures that every operation of this room shares.

use gix::ObjectId;
use gix::objs::Kind;

use gitferry_base::Kind as ErrorKind;
use gitferry_git::pack::PackError;

use crate::limits::Bound;

/// Failure to read what an operation needs, or the end of its budget. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Storage lacks an object that the operation needs.
    #[error("the repository lacks the {expected} {id}")]
    Missing {
        /// Id of the object.
        id: ObjectId,
        /// Kind that was expected.
        expected: Kind,
    },
    /// An object has another kind than the object that names it says.
    #[error("object {id} is a {found}, but a {expected} is needed")]
    WrongKind {
        /// Id of the object.
        id: ObjectId,
        /// Kind of the stored object.
        found: Kind,
        /// Kind that was expected.
        expected: Kind,
    },
    /// An object is malformed.
    #[error("the {kind} {id} is malformed: {reason}")]
    Malformed {
        /// Id of the object.
        id: ObjectId,
        /// Kind of the object.
        kind: Kind,
        /// Malformed part.
        reason: &'static str,
    },
    /// The request exceeds a limit.
    #[error("the request needs more than {0}")]
    Limit(Bound),
    /// The client left, or the host stops.
    #[error("the request was canceled")]
    Canceled,
    /// New bytes were crafted so that their SHA-1 collides with that of others.
    #[error("the bytes of a new {0} are part of a SHA-1 collision attack")]
    Collision(Kind),
    /// A pack cannot be read.
    #[error(transparent)]
    Storage(#[from] PackError),
}

impl ContentError {
    /// Kind of the error: the caller's next step.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ContentError::Missing { .. } => ErrorKind::Missing,
            ContentError::WrongKind { .. } | ContentError::Malformed { .. } => ErrorKind::Corrupt,
            ContentError::Limit(_) | ContentError::Collision(_) => ErrorKind::Refused,
            ContentError::Canceled => ErrorKind::Transient,
            ContentError::Storage(error) => error.kind(),
        }
    }
}
