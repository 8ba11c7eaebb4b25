//! The ledger: a repository's hash-chained list of changes, the only truth about its refs.
//!
//! *Invariant:* every write to a head goes through [`advance::advance_head`], conditional on the head's
//! revision. *Invariant:* refs are never stored, they follow from the log ([`refs`]).

pub mod advance;
pub mod change;
pub mod hash;
pub mod head;
pub mod keys;
pub mod log;
pub mod refs;
pub mod snapshot;

use gitferry_base::Kind;
use gitferry_store::objects::ObjectError;
use gitferry_store::table::TableError;
use head::{Frontier, RepositoryId};

/// Why a ledger could not be read or moved.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else moved the head first.
    #[error("somebody else changed repository {id} at the same time")]
    Lost {
        /// Which repository.
        id: RepositoryId,
    },
    /// Nothing but the manifest or the claims have changed since they were read: apply the step to the newer ones.
    #[error("the packs of repository {id} were changed at the same time")]
    ManifestMoved {
        /// Which repository.
        id: RepositoryId,
    },
    /// The chain does not run through a state that it should run through.
    #[error("the ledger of repository {id} does not contain state {at}")]
    Fork {
        /// Which repository.
        id: RepositoryId,
        /// The state that is not on the chain.
        at: Frontier,
    },
    /// The step may have become visible, or may still: its answer was lost, and no read has settled it.
    #[error("the answer to writing state {at} of repository {id} was lost, so it may have happened: {source}")]
    MayHaveHappened {
        /// Which repository.
        id: RepositoryId,
        /// The state that the step leads to.
        at: Frontier,
        /// The failure that leaves it open: of the read that was to settle it, or of the write.
        source: Box<LedgerError>,
    },
    /// The name belongs to another repository.
    #[error("the name {name} is taken by another repository")]
    NameTaken {
        /// Which name.
        name: String,
    },
    /// Stored bytes are not what they should be.
    #[error("the ledger is damaged: {0}")]
    Corrupt(String),
    /// The head of a repository is damaged, or missing although the region lists the repository. Other
    /// repositories are not affected.
    #[error("the head of repository {id}{} cannot be read: {reason}", in_brackets(.name.as_deref()))]
    BadHead {
        /// The repository.
        id: RepositoryId,
        /// Its name, where the head still shows one.
        name: Option<String>,
        /// The damage.
        reason: String,
    },
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// A local file or a stream failed.
    #[error("reading or writing the ledger failed: {0}")]
    Io(#[from] std::io::Error),
    /// gitferry broke a rule of its own.
    #[error("internal error: {0}")]
    Internal(String),
}

fn in_brackets(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" ({})", name.escape_debug()))
}

impl LedgerError {
    /// Damage in a ledger.
    pub fn corrupt(what: impl Into<String>) -> Self {
        LedgerError::Corrupt(what.into())
    }

    /// Why the stream of something that the ledger names broke off. Only what a store says of itself may
    /// pass by waiting; anything else is wrong with the bytes.
    pub(crate) fn of_stream(what: &str, error: std::io::Error) -> Self {
        match error.downcast::<ObjectError>() {
            Ok(error @ ObjectError::NotFound { .. }) => LedgerError::corrupt(format!("{what} is missing: {error}")),
            Ok(error) => LedgerError::Objects(error),
            Err(error) => LedgerError::corrupt(format!("{what}: {error}")),
        }
    }

    /// Whether a step that failed so neither is visible nor can become so: uploads that only it named may go.
    ///
    /// [`advance`] turns every failure that leaves this open into [`LedgerError::MayHaveHappened`]; all others come
    /// from before the write was sent, or from an answer that says that nothing was written.
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

    /// What the caller should do.
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
