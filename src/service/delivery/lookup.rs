//! Results of looking an announced change up on a link.

use gix::ObjectId;

use super::job::PendingJob;
use crate::events::codecommit::{ReferenceEvent, Rejection, StateChange};
use gitferry_base::Kind;
use gitferry_replication::ReplicationError;
use gitferry_replication::mirror::checkpoint::Hint;

/// An announced change, compared with the target of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The target may lack the change.
    Pending(PendingJob),
    /// The target has the change already, which one read has shown, or two.
    Current,
    /// The link does not carry the repository.
    NotCarried,
}

/// Reason why an event did not become a job.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The event cannot be acted on, now or later.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A region or the table of the link failed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
}

impl LookupError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            LookupError::Rejected(rejection) => rejection.kind(),
            LookupError::Replication(error) => error.kind(),
        }
    }
}

/// The new value of a ref, where the event says one thing about one ref.
pub fn hint_of(change: &StateChange) -> Option<Hint> {
    let reference = change.reference.as_deref()?.into();
    let new = match change.events.as_slice() {
        [ReferenceEvent::Created | ReferenceEvent::Updated] => {
            Some(ObjectId::from_hex(change.commit.as_ref()?.as_bytes()).ok()?)
        }
        [ReferenceEvent::Deleted] => None,
        _ => return None,
    };
    Some(Hint { reference, new })
}
