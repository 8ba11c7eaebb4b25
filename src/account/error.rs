//! Errors of an account's repository.

use gix::ObjectId;

use super::edit::EditError;
use gitferry_base::Kind;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Frontier, RepositoryId};
use gitferry_engine::region::RegionError;

/// Reading or opening an account's repository failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The region has no account.
    #[error(
        "region {region} has no account; `gitferry iam init --region {region}` makes one where its documents are written"
    )]
    Absent {
        /// Name of the region.
        region: String,
    },
    /// The region has an account already.
    #[error("region {region} has an account already, which stays as it is")]
    Exists {
        /// Name of the region.
        region: String,
    },
    /// The account's repository existed and is gone or deleted.
    #[error(
        "the account's repository {id} of region {region} is {gone}; it is not replaced by an empty account: copy it \
         back from another region with `gitferry replicate`, or restore the table"
    )]
    Gone {
        /// Name of the region.
        region: String,
        /// Id of the repository.
        id: RepositoryId,
        /// `missing` or `deleted`.
        gone: &'static str,
    },
    /// The replica of the account was detached from its region.
    #[error(
        "region {region} was detached from its account, which no longer counts there; a link that carries the account \
         brings it back, and `gitferry iam init --region {region}` founds another one, which hosts follow once they are \
         started again"
    )]
    Detached {
        /// Name of the region.
        region: String,
    },
    /// The repository is at a state that does not follow from the last one that was read.
    #[error(transparent)]
    Diverged(Box<Diverged>),
    /// A document or a folder is damaged or missing.
    #[error(
        "the account of region {region} is damaged: {what} {reason}; `gitferry verify --deep` and `gitferry repair` \
         find and mend what is damaged"
    )]
    Damaged {
        /// Name of the region.
        region: String,
        /// Path and object id of the damaged part, and the key of its pack if a pack lists it.
        what: String,
        /// The damage.
        reason: String,
    },
    /// The account exceeds a limit, so it is not read.
    #[error("the account of region {region} is not read: {what}")]
    TooLarge {
        /// Name of the region.
        region: String,
        /// The part and the limit that it exceeds.
        what: String,
    },
    /// The checks of a push refused the commit.
    #[error("the account of region {region} was not changed: {reason}")]
    Rejected {
        /// Name of the region.
        region: String,
        /// Reason of the refusal.
        reason: String,
    },
    /// The commit to restore is not in the history of the account.
    #[error("{commit} is not a commit in the history of the account of region {region}")]
    NoCommit {
        /// Name of the region.
        region: String,
        /// The commit.
        commit: ObjectId,
    },
    /// No answer came in time.
    #[error("the stores of region {region} did not answer within {seconds} s")]
    Timeout {
        /// Name of the region.
        region: String,
        /// Time limit in seconds.
        seconds: u64,
    },
    /// An operation on the region failed.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// A state of the account's repository that does not follow from an earlier one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the account's repository of region {region} is at {found}, which does not follow from {known}, the state that this \
     process has read: {reason}"
)]
pub struct Diverged {
    /// Name of the region.
    pub region: String,
    /// Newest state that was read before.
    pub known: Frontier,
    /// State of the repository now.
    pub found: Frontier,
    /// Likely cause, and the way out.
    pub reason: &'static str,
}

impl AccountError {
    /// Returns the class of the error, from which exit codes, HTTP status and retries follow.
    pub fn kind(&self) -> Kind {
        match self {
            AccountError::Absent { .. } | AccountError::NoCommit { .. } => Kind::NotFound,
            AccountError::Exists { .. } | AccountError::TooLarge { .. } | AccountError::Rejected { .. } => {
                Kind::Refused
            }
            AccountError::Gone { .. } | AccountError::Detached { .. } => Kind::Missing,
            AccountError::Diverged(_) | AccountError::Damaged { .. } => Kind::Corrupt,
            AccountError::Timeout { .. } => Kind::Transient,
            AccountError::Region(error) => error.kind(),
        }
    }
}

impl From<LedgerError> for AccountError {
    fn from(error: LedgerError) -> Self {
        AccountError::Region(error.into())
    }
}

impl From<std::io::Error> for AccountError {
    fn from(error: std::io::Error) -> Self {
        AccountError::Region(error.into())
    }
}

/// A change of the account failed. Unless the error is [`CommitError::MayHaveHappened`], nothing was changed, and nothing
/// will be.
#[derive(Debug, thiserror::Error)]
pub enum CommitError<E> {
    /// The caller's edit refused the state of the account.
    #[error(transparent)]
    Refused(E),
    /// The edit is not one that can be made.
    #[error(transparent)]
    Edit(EditError),
    /// The account could not be read or written.
    #[error(transparent)]
    Account(AccountError),
    /// Other changes came first each time. Running again is safe.
    #[error(
        "the account of region {region} was changed by others at the same time, {attempts} times in a row; nothing was \
         changed, try again"
    )]
    Conflict {
        /// Name of the region.
        region: String,
        /// Attempts that lost.
        attempts: u32,
    },
    /// The answer to the write was lost, and no read has settled the outcome. Running again is safe: the edit is asked
    /// on the state that is found then.
    #[error(
        "the change of the account of region {region} may have happened as commit {commit}: {cause}; read the account \
         to find out, and make the change again if it is not there"
    )]
    MayHaveHappened {
        /// Name of the region.
        region: String,
        /// The commit.
        commit: ObjectId,
        /// The last failure.
        cause: AccountError,
    },
}

impl<E> CommitError<E> {
    /// Returns the class of the error; `refused` classifies an error of the caller's own.
    pub fn kind(&self, refused: impl FnOnce(&E) -> Kind) -> Kind {
        match self {
            CommitError::Refused(error) => refused(error),
            CommitError::Edit(_) => Kind::Usage,
            CommitError::Account(error) => error.kind(),
            CommitError::Conflict { .. } => Kind::Conflict,
            CommitError::MayHaveHappened { .. } => Kind::InDoubt,
        }
    }
}

impl<E> From<AccountError> for CommitError<E> {
    fn from(error: AccountError) -> Self {
        CommitError::Account(error)
    }
}
