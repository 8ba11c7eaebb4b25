//! Errors of replication.

use super::mirror::MirrorError;
use gitferry_base::Kind;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::region::RegionError;
use gitferry_engine::region::fold::FoldError;
use gitferry_store::objects::ObjectError;
use gitferry_store::table::TableError;

/// Reason why a repository could not be replicated. A target that is a region is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// Source and target hold different histories.
    #[error("{repository}: fork: {reason}; nothing was overwritten")]
    Fork {
        /// Name of the repository.
        repository: String,
        /// Difference between the two histories, in words.
        reason: String,
    },
    /// Another active link delivers this repository.
    #[error(
        "{repository}: link {other} already delivers it to {target}; set mode = \"standby\" for this link or narrow its repositories"
    )]
    TwoLinks {
        /// Name of the repository.
        repository: String,
        /// The link that delivers it.
        other: String,
        /// The target region.
        target: String,
    },
    /// A copy does not have the size or checksum that the change records.
    #[error("{repository}: {what} in {region} is damaged: {reason}")]
    BadObject {
        /// Name of the repository.
        repository: String,
        /// Pack, index, LFS object or change, for example `pack 4b1f…`.
        what: String,
        /// Region that the object was read from.
        region: String,
        /// Damage, in words.
        reason: String,
    },
    /// A change contradicts the state it applies to.
    #[error("{repository}: change {seq} does not fit the target's state: {reason}")]
    BadChange {
        /// Name of the repository.
        repository: String,
        /// Seq of the change.
        seq: u64,
        /// Contradiction, in words.
        reason: String,
    },
    /// The source no longer has the changes that the target lacks.
    #[error("{repository}: the target is at change {target}, the source has only changes above {floor}")]
    BelowFloor {
        /// Name of the repository.
        repository: String,
        /// Seq of the target's last change.
        target: u64,
        /// Floor of the source: the oldest seq that it still has.
        floor: u64,
    },
    /// The link carries no repository of this name.
    #[error("there is no repository {name} in {region} that link {link} carries")]
    NotOnLink {
        /// Requested name.
        name: String,
        /// Source region.
        region: String,
        /// Name of the link.
        link: String,
    },
    /// A link from a remote, which cannot be listed, names no repository in full, has carried none, and none was
    /// requested.
    #[error(
        "link {link} names no repository in full and has carried none, and remote {remote} cannot be listed: name the repositories"
    )]
    NoNames {
        /// Name of the link.
        link: String,
        /// Remote that is the link's source.
        remote: String,
    },
    /// A repository could not be carried to or from a Git server.
    #[error("{repository}: {error}")]
    Mirror {
        /// Name of the repository.
        repository: String,
        /// Cause.
        error: MirrorError,
    },
    /// A region failed.
    #[error("{region}: {error}")]
    Region {
        /// Name of the region.
        region: String,
        /// Cause.
        error: RegionError,
    },
}

impl ReplicationError {
    /// Class of the error, which decides on retry, exit code and hint.
    pub fn kind(&self) -> Kind {
        match self {
            ReplicationError::Fork { .. } | ReplicationError::TwoLinks { .. } | ReplicationError::BelowFloor { .. } => {
                Kind::Refused
            }
            ReplicationError::BadObject { .. } | ReplicationError::BadChange { .. } => Kind::Corrupt,
            ReplicationError::NotOnLink { .. } => Kind::NotFound,
            ReplicationError::NoNames { .. } => Kind::Usage,
            ReplicationError::Mirror { error, .. } => error.kind(),
            ReplicationError::Region { error, .. } => error.kind(),
        }
    }
}

impl ReplicationError {
    /// Returns true if another pass carries the repository at the moment: nothing failed.
    pub fn is_under_way(&self) -> bool {
        matches!(self, ReplicationError::Mirror { error: MirrorError::LeaseHeld, .. })
    }

    /// Error for changes of `repository`, read from `region`, that do not fold.
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

/// Adds the region to an error of the layers below.
pub trait InRegion<T> {
    /// Wraps the error in [`ReplicationError::Region`].
    fn in_region(self, region: &gitferry_engine::region::Region) -> Result<T, ReplicationError>;
}

impl<T, E: IntoRegionError> InRegion<T> for Result<T, E> {
    fn in_region(self, region: &gitferry_engine::region::Region) -> Result<T, ReplicationError> {
        self.map_err(|error| ReplicationError::Region {
            region: region.name().to_owned(),
            error: error.into_region_error(),
        })
    }
}

/// Errors that a region's error can represent.
pub trait IntoRegionError {
    /// Converts to the region's error.
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
