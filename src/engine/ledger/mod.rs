//! The ledger: a repository's hash-chained list of changes, the only truth about its refs.
//!
//! *Invariant:* every write to a head goes through [`advance::advance_head`], conditional on the head's revision.
//! *Invariant:* refs are never stored, they follow from the log ([`refs`]).

pub mod advance;
pub mod change;
pub mod hash;
pub mod head;
pub mod heads;
pub mod keys;
pub mod log;
pub mod metadata;
pub mod refs;
pub mod snapshot;

use gitferry_base::Kind;
use gitferry_store::objects::ObjectError;
use gitferry_store::table::TableError;
use head::{Frontier, RepositoryId};

/// Reading or advancing a ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another writer moved the head first.
    #[error("another writer changed repository {id} at the same time; nothing was written")]
    Lost {
        /// Id of the repository.
        id: RepositoryId,
    },
    /// Only the manifest or the claims have changed since they were read: apply the step to the newer ones.
    #[error("the manifest or the claims of repository {id} changed at the same time; nothing was written")]
    ManifestMoved {
        /// Id of the repository.
        id: RepositoryId,
    },
    /// The chain does not run through an expected state.
    #[error("the ledger of repository {id} does not contain state {at}")]
    Fork {
        /// Id of the repository.
        id: RepositoryId,
        /// State that is not on the chain.
        at: Frontier,
    },
    /// The step may have become visible, or may still: the answer was lost, and no read has settled the outcome.
    #[error("the answer to writing state {at} of repository {id} was lost, so the change may have happened: {source}")]
    MayHaveHappened {
        /// Id of the repository.
        id: RepositoryId,
        /// State to which the step leads.
        at: Frontier,
        /// Error that leaves the outcome open: of the write, or of the read that was to settle it.
        source: Box<LedgerError>,
    },
    /// Another repository holds the name.
    #[error("the name {name} is taken by another repository")]
    NameTaken {
        /// Requested name.
        name: String,
    },
    /// Stored bytes violate the format or do not match their hashes.
    #[error("the ledger is damaged: {0}")]
    Corrupt(String),
    /// The head of a repository is damaged, or missing although the region lists the repository. Other repositories are
    /// not affected.
    #[error("the head of repository {id}{} cannot be read: {reason}", in_brackets(.name.as_deref()))]
    BadHead {
        /// Id of the repository.
        id: RepositoryId,
        /// Name of the repository, if the head still shows one.
        name: Option<String>,
        /// The damage.
        reason: String,
    },
    /// A table request failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An object store request failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// A local file or a stream failed.
    #[error("reading or writing a file of the ledger failed: {0}")]
    Io(#[from] std::io::Error),
    /// An invariant of gitferry itself was violated: a bug. Nothing was written.
    #[error("internal error: {0}")]
    Internal(String),
}

fn in_brackets(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" ({})", name.escape_debug()))
}

impl LedgerError {
    /// Reports damage in a ledger.
    pub fn corrupt(what: impl Into<String>) -> Self {
        LedgerError::Corrupt(what.into())
    }

    /// Converts the error of a stream of data that the ledger names. Errors of the store pass through; any other one,
    /// and a missing object, is damage.
    pub(crate) fn of_stream(what: &str, error: std::io::Error) -> Self {
        match error.downcast::<ObjectError>() {
            Ok(error @ ObjectError::NotFound { .. }) => LedgerError::corrupt(format!("{what} is missing: {error}")),
            Ok(error) => LedgerError::Objects(error),
            Err(error) => LedgerError::corrupt(format!("{what}: {error}")),
        }
    }

    /// Returns true if the failed step neither is visible nor can become visible, so that uploads that only the step
    /// named may be removed.
    ///
    /// [`advance`] turns every failure that leaves the outcome open into [`LedgerError::MayHaveHappened`]; all others
    /// precede the write, or come from an answer that proves that nothing was written.
    pub fn proves_nothing_happened(&self) -> bool {
        match self {
            LedgerError::MayHaveHappened { .. } => false,
            LedgerError::Lost { .. }
            | LedgerError::ManifestMoved { .. }
            | LedgerError::Fork { .. }
            | LedgerError::NameTaken { .. }
            | LedgerError::Corrupt(_)
            | LedgerError::BadHead { .. }
            | LedgerError::Objects(_)
            | LedgerError::Io(_)
            | LedgerError::Internal(_) => true,
            LedgerError::Table(error) => !matches!(error, TableError::Unavailable { ambiguous: true, .. }),
        }
    }

    /// Returns the class of the error, from which exit codes, HTTP status and retries follow.
    pub fn kind(&self) -> Kind {
        match self {
            LedgerError::Lost { .. } | LedgerError::ManifestMoved { .. } => Kind::Conflict,
            LedgerError::MayHaveHappened { .. } => Kind::InDoubt,
            LedgerError::Fork { .. } | LedgerError::NameTaken { .. } => Kind::Refused,
            LedgerError::Corrupt(_) | LedgerError::BadHead { .. } => Kind::Corrupt,
            LedgerError::Table(error) => error.kind(),
            LedgerError::Objects(error) => error.kind(),
            LedgerError::Io(error) => Kind::of_io(error),
            LedgerError::Internal(_) => Kind::Internal,
        }
    }
}
