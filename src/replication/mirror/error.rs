//! Errors of mirroring.

use gix::hash::Kind as Format;

use gitferry_base::Kind;
use gitferry_engine::region::RegionError;
use gitferry_git::client::ClientError;
use gitferry_git::lfs::LfsOid;
use gitferry_remote::RemoteError;
use gitferry_remote::lfs::LfsError;
use gitferry_store::table::TableError;

/// Failure of a pass over one repository. Refs that were pushed and confirmed before the failure stay; running the pass
/// again is safe and goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A connection to a server failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A remote cannot be used as it is configured.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The link's table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Source and target have different object formats.
    #[error(
        "{source_url} has {source_format} objects and {target_url} has {target_format}: Git does not push between object formats"
    )]
    Formats {
        /// URL of the source.
        source_url: String,
        /// Object format of the source.
        source_format: Format,
        /// URL of the target.
        target_url: String,
        /// Object format of the target.
        target_format: Format,
    },
    /// The source has no ref that the link mirrors, and every such ref of the target would be deleted.
    #[error("{source_url} has no refs that the link mirrors; the {} of {target_url} stay", count(*.refs))]
    EmptySource {
        /// URL of the source.
        source_url: String,
        /// URL of the target.
        target_url: String,
        /// Number of refs that would be deleted.
        refs: u64,
    },
    /// The target refuses the pack.
    #[error("{target_url} refused the pack: {reason}")]
    Unpack {
        /// URL of the target.
        target_url: String,
        /// Reason that the target gives.
        reason: String,
    },
    /// Another client has moved refs of the target during the pass.
    #[error("{target_url}: another client has moved {refs} during the pass; it is safe to run again")]
    Moved {
        /// URL of the target.
        target_url: String,
        /// Name of one ref, and the number of further ones.
        refs: String,
    },
    /// The source lacks objects that the checkpoint confirms. The refs concerned have not moved; the pass starts over
    /// without trust in the checkpoint.
    #[error("{source_url} no longer has {object}, which the last pass read from it")]
    SourceRegressed {
        /// URL of the source.
        source_url: String,
        /// One missing object.
        object: gix::ObjectId,
    },
    /// Another process holds the lease of the repository.
    #[error("another pass over this repository is under way")]
    LeaseHeld,
    /// The lease was lost or the pass was cancelled, so the refs that it has listed may be out of date.
    #[error("the pass lost its lease or was cancelled, and pushed no more; it is safe to run again")]
    LeaseLost,
    /// The pack is larger than the target accepts in one push, and could not be split further.
    #[error("the pack is too large for {target_url}: {reason}")]
    TooLarge {
        /// URL of the target.
        target_url: String,
        /// Reason that the target gives, or the limit.
        reason: String,
    },
    /// The pack is larger than the target accepts in one push, and the source cannot split its history.
    #[error("the pack is too large for {target_url}: {reason}; and the source cannot split its history")]
    CannotSplit {
        /// URL of the target.
        target_url: String,
        /// Reason that the target gives, or the limit.
        reason: String,
    },
    /// The region of a detour refuses the objects.
    #[error("region {region}, the detour of the pass, refuses the objects: {reason}")]
    Via {
        /// Name of the region.
        region: String,
        /// Reason that the region gives.
        reason: String,
    },
    /// The region at one end failed.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// An LFS server failed. No ref has moved.
    #[error(transparent)]
    LfsServer(Box<LfsError>),
    /// LFS pointers cannot be found before refs move.
    #[error("{server}: the server cannot {what}, which `lfs = \"copy\"` needs to find LFS objects; no ref was moved")]
    LfsUnsupported {
        /// URL of the source.
        server: String,
        /// Missing capability.
        what: String,
    },
    /// The objects in which LFS pointers are searched for are too many, or damaged. No ref has moved.
    #[error("cannot search the new objects for LFS pointers: {reason}; no ref was moved")]
    LfsSearch {
        /// Kind of the failure.
        kind: Kind,
        /// Description of the failure.
        reason: String,
    },
    /// The source lacks LFS objects that the refs need. No ref has moved.
    #[error("{source_url} does not have {}, so no ref was moved: {objects}", lfs_count(*.count))]
    LfsMissing {
        /// URL of the source's LFS server, or name of its region.
        source_url: String,
        /// Number of objects.
        count: u64,
        /// First of the objects.
        objects: String,
    },
    /// The target refuses LFS objects that the refs need. No ref has moved.
    #[error("{target_url} does not take {}, so no ref was moved: {objects}", lfs_count(*.count))]
    LfsRefused {
        /// URL of the target's LFS server, or name of its region.
        target_url: String,
        /// Number of objects.
        count: u64,
        /// First of the objects, with reasons.
        objects: String,
    },
    /// The target has accepted an LFS object, and reports afterwards that the object is missing.
    #[error("{target_url} has taken LFS object {oid} and says that it does not have it")]
    LfsLost {
        /// URL of the target's LFS server, or name of its region.
        target_url: String,
        /// Id of the object.
        oid: LfsOid,
    },
    /// A background task or thread failed.
    #[error("internal error: {0}")]
    Internal(String),
}

fn count(refs: u64) -> String {
    if refs == 1 { "ref".into() } else { format!("{refs} refs") }
}

fn lfs_count(objects: u64) -> String {
    if objects == 1 { "an LFS object".into() } else { format!("{objects} LFS objects") }
}

impl MirrorError {
    /// Returns true if the target refuses a batch, and might accept other refs.
    pub(super) fn is_batch_refusal(&self) -> bool {
        matches!(self, MirrorError::Unpack { .. } | MirrorError::TooLarge { .. } | MirrorError::CannotSplit { .. })
    }

    /// Kind of the failure, which says if a retry may help.
    pub fn kind(&self) -> Kind {
        match self {
            MirrorError::Client(error) => error.kind(),
            MirrorError::Remote(error) => error.kind(),
            MirrorError::Table(error) => error.kind(),
            MirrorError::Formats { .. } | MirrorError::EmptySource { .. } => Kind::Refused,
            MirrorError::Unpack { .. } | MirrorError::TooLarge { .. } | MirrorError::CannotSplit { .. } => {
                Kind::Refused
            }
            MirrorError::Via { .. } => Kind::Refused,
            MirrorError::Region(error) => error.kind(),
            MirrorError::LfsServer(error) => error.kind(),
            MirrorError::LfsSearch { kind, .. } => *kind,
            MirrorError::LfsUnsupported { .. } | MirrorError::LfsMissing { .. } | MirrorError::LfsRefused { .. } => {
                Kind::Refused
            }
            MirrorError::LfsLost { .. } | MirrorError::LeaseLost => Kind::Transient,
            MirrorError::Moved { .. } | MirrorError::LeaseHeld | MirrorError::SourceRegressed { .. } => Kind::Conflict,
            MirrorError::Internal(_) => Kind::Internal,
        }
    }
}

impl From<LfsError> for MirrorError {
    fn from(error: LfsError) -> Self {
        MirrorError::LfsServer(Box::new(error))
    }
}

impl From<std::io::Error> for MirrorError {
    fn from(error: std::io::Error) -> Self {
        MirrorError::Internal(error.to_string())
    }
}
