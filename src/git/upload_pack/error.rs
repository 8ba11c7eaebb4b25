//! Why a request was not answered.

use std::io;

use gix::ObjectId;
use gix::bstr::BString;

use crate::pack::{Fault, PackError};
use crate::protocol::ProtocolError;
use gitferry_base::Kind;

/// Why a request was not answered, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client is gone or does not read.
    #[error("cannot send to the client: {0}")]
    Client(#[source] io::Error),
    /// The client broke the protocol, or asked for what is not offered.
    #[error("upload-pack: {0}")]
    Protocol(#[from] ProtocolError),
    /// A wanted object is not reachable from refs.
    #[error("upload-pack: not our ref {0}")]
    NotOurs(ObjectId),
    /// A wanted ref is not there.
    #[error("unknown ref {0}")]
    UnknownRef(BString),
    /// A ref to leave out is not there.
    #[error("upload-pack: ambiguous deepen-not: {0}")]
    UnknownExclusion(BString),
    /// The blob that a filter names as a list of sparse patterns cannot be used.
    #[error("upload-pack: filter sparse:oid={name}: {reason}")]
    Sparse {
        /// The blob, as the client names it.
        name: BString,
        /// The problem with it.
        reason: &'static str,
    },
    /// Deciding about the request has read more objects, or has taken longer, than one request may.
    #[error(
        "upload-pack: finding out whether refs reach what is asked for takes more work than one request may cause; \
         ask for branches and tags, or for less at a time"
    )]
    TooMuchWork,
    /// A shallow request that no commit fulfils.
    #[error("no commits selected for shallow requests")]
    NothingSelected,
    /// Something that is named as a commit is none.
    #[error("object {id} is a {found}, not a commit")]
    NotACommit {
        /// The object.
        id: ObjectId,
        /// What it is.
        found: gix::objs::Kind,
    },
    /// An object that is needed is in no pack.
    #[error("object {id} is missing{}", by.map(|by| format!("; {by} needs it")).unwrap_or_default())]
    Missing {
        /// The object.
        id: ObjectId,
        /// What names it.
        by: Option<ObjectId>,
    },
    /// An object whose links cannot be told.
    #[error("object {id} cannot be read: {reason}")]
    Unreadable {
        /// The object.
        id: ObjectId,
        /// Why not.
        reason: &'static str,
    },
    /// A pack cannot be read.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// More objects than one pack can have.
    #[error("{0} objects are too many for one pack")]
    TooManyObjects(u64),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl ServeError {
    /// What the caller should do.
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

    /// What the client is told; paths of this machine are not its business. `None` if it cannot be told.
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
