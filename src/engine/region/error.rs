//! Errors of operations on a region.

use crate::ledger::LedgerError;
use crate::ledger::head::{RepositoryId, State};
use gitferry_base::Kind;
use gitferry_store::aws::KeyFault;
use gitferry_store::objects::ObjectError;
use gitferry_store::table::TableError;

/// Result of an operation on a region.
pub type Result<T> = std::result::Result<T, RegionError>;

/// An operation on a region failed. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// No repository has this name or id.
    #[error("there is no repository {name} in {region}")]
    NoRepository {
        /// Name or id in the request.
        name: String,
        /// Name of the region.
        region: String,
    },
    /// Another repository has this name.
    #[error("there is a repository {name} in {region} already")]
    NameTaken {
        /// Requested name.
        name: String,
        /// Name of the region.
        region: String,
    },
    /// The repository of a request no longer has the name that the request used.
    #[error(
        "{name} in {region} is no longer repository {id}, with which this request began: it was deleted, renamed or \
         replaced meanwhile; nothing was changed; fetch to see the repository that has the name now"
    )]
    Replaced {
        /// Name that the request used.
        name: String,
        /// Name of the region.
        region: String,
        /// Repository that had this name when the request began.
        id: RepositoryId,
    },
    /// The repository is a replica; only replication writes it.
    #[error("{name} in {region} is a replica: it is written in {primary}")]
    Replica {
        /// Name of the repository.
        name: String,
        /// Name of the region.
        region: String,
        /// Region that accepts writes for this repository.
        primary: String,
    },
    /// The repository is frozen or deleted.
    #[error("{name} in {region} is {state} and takes no changes")]
    NotActive {
        /// Name of the repository.
        name: String,
        /// Name of the region.
        region: String,
        /// State that refuses changes.
        state: State,
    },
    /// A rule of the repository or region refuses the request.
    #[error("{repository}: {reason}")]
    Refused {
        /// Name of the repository.
        repository: String,
        /// The rule, and the way out.
        reason: String,
    },
    /// Objects below refs are missing.
    #[error("{repository}: {}", missing_text(.missing, *.more))]
    MissingObjects {
        /// Name of the repository.
        repository: String,
        /// First missing objects, each with the object or ref that needs it.
        missing: Vec<String>,
        /// True if more objects are missing than are named.
        more: bool,
    },
    /// The head or manifest moved between two reads: read both again.
    #[error("{repository} was changed by other writers at the same time; nothing was written, try again")]
    Moved {
        /// Name of the repository.
        repository: String,
    },
    /// A pack that was uploaded for a change was, or may be, removed before the commit: upload it again.
    #[error(
        "{repository}: its upload {key} can no longer be committed: {reason}; nothing was changed, upload it again"
    )]
    UploadGone {
        /// Name of the repository.
        repository: String,
        /// Object key of the pack.
        key: String,
        /// Evidence that the upload cannot be used.
        reason: String,
    },
    /// The manifest lists the maximum number of packs; consolidation makes room.
    #[error("{repository} has {packs} packs, which consolidation has yet to merge; try again in a minute")]
    Full {
        /// Name of the repository.
        repository: String,
        /// Number of listed packs.
        packs: u64,
    },
    /// A store ignores preconditions or lacks object times, on which correctness rests.
    #[error("the store {store} must not be used: {reason}; use one that honours preconditions, as S3 and DynamoDB do")]
    BrokenPromise {
        /// Name of the store.
        store: String,
        /// Observed violation.
        reason: String,
    },
    /// A store of the region is missing, empty, of another region, or was rolled back to an older state.
    #[error("region {region} cannot be used: {reason}")]
    WrongStore {
        /// Name of the region.
        region: String,
        /// The mismatch, and the way out.
        reason: String,
    },
    /// Stored state violates an invariant or cannot be parsed.
    #[error("{repository} in {region} is damaged: {reason}")]
    Corrupt {
        /// Name of the repository.
        repository: String,
        /// Name of the region.
        region: String,
        /// The damage.
        reason: String,
    },
    /// A pack in the manifest is missing or damaged.
    #[error(transparent)]
    BadPack(Box<BadPack>),
    /// The name breaks Git's or gitferry's naming rules.
    #[error(transparent)]
    Name(#[from] gitferry_git::refname::NameError),
    /// Reading or advancing the ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A table request failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An object store request failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The local source repository cannot be imported.
    #[error(transparent)]
    Source(#[from] gitferry_git::local::SourceError),
    /// Writing an exported repository failed.
    #[error(transparent)]
    Export(#[from] gitferry_git::local::ExportError),
    /// A pack failed its checks.
    #[error(transparent)]
    Pack(#[from] gitferry_git::pack::PackError),
    /// A temporary or local file failed.
    #[error("a temporary or local file failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A pack of a manifest that is missing or damaged.
#[derive(Debug, thiserror::Error)]
#[error(
    "{repository} in {region}: pack {key} is {}: {reason}; `gitferry repair {repository} --region {region} --from \
     OTHER` copies it from another region",
    if *.missing { "missing" } else { "damaged" }
)]
pub struct BadPack {
    /// Name of the repository.
    pub repository: String,
    /// Name of the region.
    pub region: String,
    /// Object key of the pack.
    pub key: String,
    /// True if the pack or its index is absent; false if it is damaged.
    pub missing: bool,
    /// The damage.
    pub reason: String,
}

fn missing_text(missing: &[String], more: bool) -> String {
    let more = if more { " (and more)" } else { "" };
    format!("objects are missing: {}{more}", missing.join("; "))
}

impl RegionError {
    /// Reports damage in the stored state of a repository.
    pub fn corrupt(region: &str, repository: &str, reason: impl Into<String>) -> Self {
        RegionError::Corrupt { repository: repository.into(), region: region.into(), reason: reason.into() }
    }

    /// Adds repository and region to an error about a damaged ledger.
    pub fn locate(self, region: &str, repository: &str) -> Self {
        match self {
            RegionError::Ledger(LedgerError::Corrupt(reason)) => RegionError::corrupt(region, repository, reason),
            error => error,
        }
    }

    /// Returns true if the failed change neither is visible nor can become visible; see
    /// [`LedgerError::proves_nothing_happened`].
    pub fn proves_nothing_happened(&self) -> bool {
        match self {
            RegionError::Ledger(error) => error.proves_nothing_happened(),
            RegionError::Table(error) => !matches!(error, TableError::Unavailable { ambiguous: true, .. }),
            RegionError::NoRepository { .. }
            | RegionError::NameTaken { .. }
            | RegionError::Replaced { .. }
            | RegionError::Replica { .. }
            | RegionError::NotActive { .. }
            | RegionError::WrongStore { .. }
            | RegionError::Refused { .. }
            | RegionError::MissingObjects { .. }
            | RegionError::Moved { .. }
            | RegionError::UploadGone { .. }
            | RegionError::Full { .. }
            | RegionError::BrokenPromise { .. }
            | RegionError::Corrupt { .. }
            | RegionError::BadPack(_)
            | RegionError::Name(_)
            | RegionError::Objects(_)
            | RegionError::Source(_)
            | RegionError::Export(_)
            | RegionError::Pack(_)
            | RegionError::Io(_) => true,
        }
    }

    /// Reason for which a KMS key of the repository cannot be used, if that is the cause of the error.
    pub fn key_fault(&self) -> Option<KeyFault> {
        match self {
            RegionError::Objects(ObjectError::KmsKey { fault, .. })
            | RegionError::Ledger(LedgerError::Objects(ObjectError::KmsKey { fault, .. })) => Some(*fault),
            _ => None,
        }
    }

    /// Returns the class of the error, from which exit codes, HTTP status and retries follow.
    pub fn kind(&self) -> Kind {
        match self {
            RegionError::NoRepository { .. } => Kind::NotFound,
            RegionError::NameTaken { .. }
            | RegionError::Replaced { .. }
            | RegionError::Replica { .. }
            | RegionError::NotActive { .. }
            | RegionError::WrongStore { .. }
            | RegionError::Refused { .. } => Kind::Refused,
            RegionError::Moved { .. } | RegionError::Full { .. } => Kind::Conflict,
            RegionError::UploadGone { .. } => Kind::Transient,
            RegionError::BrokenPromise { .. } => Kind::Environment,
            RegionError::MissingObjects { .. } | RegionError::Corrupt { .. } => Kind::Corrupt,
            RegionError::BadPack(pack) => {
                if pack.missing {
                    Kind::Missing
                } else {
                    Kind::Corrupt
                }
            }
            RegionError::Name(error) => error.kind(),
            RegionError::Ledger(error) => error.kind(),
            RegionError::Table(error) => error.kind(),
            RegionError::Objects(error) => error.kind(),
            RegionError::Source(error) => error.kind(),
            RegionError::Export(error) => error.kind(),
            RegionError::Pack(error) => error.kind(),
            RegionError::Io(error) => Kind::of_io(error),
        }
    }
}
