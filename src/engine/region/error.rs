//! Why something in a region could not be done.

use crate::ledger::LedgerError;
use crate::ledger::head::{RepositoryId, State};
use gitferry_base::Kind;
use gitferry_store::objects::ObjectError;
use gitferry_store::table::TableError;

/// Why something in a region could not be done. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// There is no such repository.
    #[error("there is no repository {name} in {region}")]
    NoRepository {
        /// The name (or id) asked for.
        name: String,
        /// Where.
        region: String,
    },
    /// The name is taken.
    #[error("there is a repository {name} in {region} already")]
    NameTaken {
        /// Which name.
        name: String,
        /// Where.
        region: String,
    },
    /// The repository that a request began with no longer has the name that the request named it by.
    #[error(
        "{name} in {region} is no longer the repository {id} that this began with: that was deleted, renamed or replaced \
         meanwhile; nothing was changed; fetch again and see what is there now"
    )]
    Replaced {
        /// The name that the request used.
        name: String,
        /// Where.
        region: String,
        /// The repository that it stood for.
        id: RepositoryId,
    },
    /// Only replication writes here.
    #[error("{name} in {region} is a replica: it is written in {primary}")]
    Replica {
        /// Which repository.
        name: String,
        /// Where.
        region: String,
        /// The region that writes it.
        primary: String,
    },
    /// It takes no changes.
    #[error("{name} in {region} is {state} and takes no changes")]
    NotActive {
        /// Which repository.
        name: String,
        /// Where.
        region: String,
        /// Its state.
        state: State,
    },
    /// A rule forbids it.
    #[error("{repository}: {reason}")]
    Refused {
        /// Which repository.
        repository: String,
        /// Which rule, and the way out.
        reason: String,
    },
    /// Objects that refs need are not there.
    #[error("{repository}: {}", missing_text(.missing, *.more))]
    MissingObjects {
        /// Which repository.
        repository: String,
        /// The first of them, each with what needs it.
        missing: Vec<String>,
        /// Whether there are more than are named.
        more: bool,
    },
    /// The head moved between two reads; read again.
    #[error("{repository} was changed at the same time")]
    Moved {
        /// Which repository.
        repository: String,
    },
    /// A pack that was uploaded for a change cannot be named by it any more.
    #[error("{repository}: its upload {key} is of no use any more: {reason}; nothing was changed, upload it again")]
    UploadGone {
        /// Which repository.
        repository: String,
        /// The key of the pack.
        key: String,
        /// Why.
        reason: String,
    },
    /// Its manifest lists as many packs as it can; nothing was changed.
    #[error("{repository} has {packs} packs, which consolidation has yet to merge; try again in a minute")]
    Full {
        /// Which repository.
        repository: String,
        /// How many packs it has.
        packs: u64,
    },
    /// A store does not keep a promise that correctness rests on.
    #[error("the store {store} must not be used: {reason}; use one that keeps preconditions, as S3 and DynamoDB do")]
    BrokenPromise {
        /// Which store.
        store: String,
        /// What it did.
        reason: String,
    },
    /// A store of the region is missing, empty, of another region, or was set back.
    #[error("region {region} cannot be used: {reason}")]
    WrongStore {
        /// Which region.
        region: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Stored state is not what it should be.
    #[error("{repository} in {region} is damaged: {reason}")]
    Corrupt {
        /// Which repository.
        repository: String,
        /// Where.
        region: String,
        /// What is wrong.
        reason: String,
    },
    /// A pack that the manifest names is missing or damaged.
    #[error(transparent)]
    BadPack(Box<BadPack>),
    /// A name that is not allowed.
    #[error(transparent)]
    Name(#[from] gitferry_git::refname::NameError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// A local repository cannot be imported.
    #[error(transparent)]
    Source(#[from] gitferry_git::local::SourceError),
    /// An export failed.
    #[error(transparent)]
    Export(#[from] gitferry_git::local::ExportError),
    /// A pack is not what it should be.
    #[error(transparent)]
    Pack(#[from] gitferry_git::pack::PackError),
    /// A local file failed.
    #[error("a temporary or local file failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A pack that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{repository} in {region}: pack {key} is {}: {reason}; `gitferry repair {repository} --region {region} --from \
     OTHER` copies it from another region",
    if *.missing { "missing" } else { "damaged" }
)]
pub struct BadPack {
    /// The repository.
    pub repository: String,
    /// The region.
    pub region: String,
    /// The key of the pack in the region's object store.
    pub key: String,
    /// The pack or its index is not there at all.
    pub missing: bool,
    /// The damage.
    pub reason: String,
}

fn missing_text(missing: &[String], more: bool) -> String {
    let more = if more { " (and more)" } else { "" };
    format!("objects are missing: {}{more}", missing.join("; "))
}

impl RegionError {
    /// Damage in what a region keeps of a repository.
    pub fn corrupt(region: &str, repository: &str, reason: impl Into<String>) -> Self {
        RegionError::Corrupt { repository: repository.into(), region: region.into(), reason: reason.into() }
    }

    /// Says which repository's ledger is damaged, and where.
    pub fn locate(self, region: &str, repository: &str) -> Self {
        match self {
            RegionError::Ledger(LedgerError::Corrupt(reason)) => RegionError::corrupt(region, repository, reason),
            error => error,
        }
    }

    /// Whether a change that failed so neither is visible nor can become so; see
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

    /// What the caller should do.
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
