//! Why a repository could not be replicated.

use super::remotes::RemotesError;
use gitferry_base::Kind;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::region::RegionError;
use gitferry_engine::region::fold::FoldError;
use gitferry_store::objects::ObjectError;
use gitferry_store::table::TableError;

/// Why a repository could not be replicated. A target that is a region is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// Source and target hold different histories.
    #[error("{repository}: fork: {reason}; nothing was overwritten")]
    Fork {
        /// Which repository.
        repository: String,
        /// How they differ.
        reason: String,
    },
    /// Another active link delivers this repository.
    #[error(
        "{repository}: link {other} delivers it to {target} already; declare this one mode = \"standby\" or narrow its repositories"
    )]
    TwoLinks {
        /// Which repository.
        repository: String,
        /// The link that came first.
        other: String,
        /// The target region.
        target: String,
    },
    /// A copy does not have the checksum that the change promises.
    #[error("{repository}: {what} in {region} is damaged: {reason}")]
    BadObject {
        /// Which repository.
        repository: String,
        /// Which pack, index or change.
        what: String,
        /// The region it was read from.
        region: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A change contradicts the state it applies to.
    #[error("{repository}: change {seq} does not fit the target's state: {reason}")]
    BadChange {
        /// Which repository.
        repository: String,
        /// The number of the change.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The source no longer has the changes that the target lacks.
    #[error("{repository}: the target is at change {target}, the source has only those above {floor}")]
    BelowFloor {
        /// Which repository.
        repository: String,
        /// The last change that the target has.
        target: u64,
        /// The source's floor.
        floor: u64,
    },
    /// There is no such repository on the link.
    #[error("there is no repository {name} in {region} that link {link} carries")]
    NotOnLink {
        /// The name asked for.
        name: String,
        /// The source region.
        region: String,
        /// Which link.
        link: String,
    },
    /// A link from a remote names no repository in full and has carried none, and none was asked for.
    #[error(
        "link {link} names no repository in full and has carried none, and remote {remote} cannot be listed: say which ones"
    )]
    NoNames {
        /// Which link.
        link: String,
        /// The remote that is its source.
        remote: String,
    },
    /// A repository could not be carried to or from a Git server.
    #[error("{repository}: {error}")]
    Remotes {
        /// Which repository.
        repository: String,
        /// Why.
        error: RemotesError,
    },
    /// A region failed.
    #[error("{region}: {error}")]
    Region {
        /// Which region.
        region: String,
        /// Why.
        error: RegionError,
    },
}

impl ReplicationError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            ReplicationError::Fork { .. } | ReplicationError::TwoLinks { .. } | ReplicationError::BelowFloor { .. } => {
                Kind::Refused
            }
            ReplicationError::BadObject { .. } | ReplicationError::BadChange { .. } => Kind::Corrupt,
            ReplicationError::NotOnLink { .. } => Kind::NotFound,
            ReplicationError::NoNames { .. } => Kind::Usage,
            ReplicationError::Remotes { error, .. } => error.kind(),
            ReplicationError::Region { error, .. } => error.kind(),
        }
    }
}

impl ReplicationError {
    /// Whether nothing failed, but another pass carries the repository at the moment.
    pub fn is_under_way(&self) -> bool {
        matches!(self, ReplicationError::Remotes { error: RemotesError::UnderWay, .. })
    }

    /// A change of `repository`, read from `region`, that does not fold.
    pub(super) fn of_fold(error: FoldError, repository: &str, region: &str) -> Self {
        match error {
            FoldError::Misfit { seq, reason } => {
                ReplicationError::BadChange { repository: repository.into(), seq, reason }
            }
            FoldError::Ledger(error) | FoldError::Before(error) => {
                let error = RegionError::from(error).locate(region, repository);
                ReplicationError::Region { region: region.into(), error }
            }
        }
    }
}

/// Says in which region an error happened.
pub trait InRegion<T> {
    /// Adds the region.
    fn in_region(self, region: &gitferry_engine::region::Region) -> Result<T, ReplicationError>;
}

impl<T, E: IntoRegionError> InRegion<T> for Result<T, E> {
    fn in_region(self, region: &gitferry_engine::region::Region) -> Result<T, ReplicationError> {
        self.map_err(|error| ReplicationError::Region { region: region.name.clone(), error: error.into_region_error() })
    }
}

/// Errors of the layers below a region.
pub trait IntoRegionError {
    /// As the region's error.
    fn into_region_error(self) -> RegionError;
}

macro_rules! into_region_error {
    ($($error:ty),*) => { $(
        impl IntoRegionError for $error {
            fn into_region_error(self) -> RegionError {
                self.into()
            }
        }
    )* };
}

into_region_error!(RegionError, LedgerError, ObjectError, TableError, std::io::Error);
