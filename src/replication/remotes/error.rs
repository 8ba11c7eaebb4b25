//! Why a repository could not be carried to or from a Git server.

use gix::hash::Kind as Format;

use gitferry_base::Kind;
use gitferry_engine::region::RegionError;
use gitferry_git::client::ClientError;
use gitferry_git::lfs::LfsOid;
use gitferry_remote::RemoteError;
use gitferry_remote::lfs::LfsError;
use gitferry_store::table::TableError;

/// Why a repository could not be carried to or from a Git server. Refs that were pushed and confirmed before stay; a
/// pass that runs again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RemotesError {
    /// A conversation with a server failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A remote cannot be used as it is configured.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The link's table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Source and target name objects in different ways.
    #[error(
        "{source_url} has {source_format} objects and {target_url} has {target_format}: one cannot be pushed to the other"
    )]
    Formats {
        /// Where the source is.
        source_url: String,
        /// How it names objects.
        source_format: Format,
        /// Where the target is.
        target_url: String,
        /// How it names objects.
        target_format: Format,
    },
    /// The source has none of the refs that the link carries, and the target has some.
    #[error("{source_url} has no refs that the link carries; the {} that {target_url} has were not deleted", count(*.refs))]
    EmptySource {
        /// Where the source is.
        source_url: String,
        /// Where the target is.
        target_url: String,
        /// How many would have been deleted.
        refs: u64,
    },
    /// The target does not take the objects.
    #[error("{target_url} refused the pack: {reason}")]
    Unpack {
        /// Where the target is.
        target_url: String,
        /// What it says.
        reason: String,
    },
    /// Somebody else moved refs of the target meanwhile.
    #[error("{target_url}: somebody else has moved {refs} meanwhile")]
    Moved {
        /// Where the target is.
        target_url: String,
        /// One or some of the refs.
        refs: String,
    },
    /// The source does not have what the last pass took from it. Nothing of the refs concerned has moved: the pass looks
    /// again, and asks about each.
    #[error("{source_url} no longer has {object}, which it had when the last pass was done")]
    Forgotten {
        /// Where the source is.
        source_url: String,
        /// One such object.
        object: gix::ObjectId,
    },
    /// Somebody else carries the repository at the moment.
    #[error("another pass over this repository is under way")]
    UnderWay,
    /// The pass was cut off, or somebody else has taken its turn: what it has seen of both sides is old.
    #[error("the pass was cut off before it was done; nothing more was pushed")]
    Over,
    /// There is more to push than the target takes at once, and it could not be parted.
    #[error("{target_url} does not take so much in one push: {reason}")]
    TooLarge {
        /// Where the target is.
        target_url: String,
        /// What it says, or what the limit is.
        reason: String,
    },
    /// There is more to push than the target takes at once, and the source cannot give it in parts.
    #[error("{target_url} does not take so much in one push: {reason}; and the source gives histories only as a whole")]
    Whole {
        /// Where the target is.
        target_url: String,
        /// What it says, or what the limit is.
        reason: String,
    },
    /// The region on the way does not take what both sides have.
    #[error("region {region}, through which the pass was to go, does not take the objects: {reason}")]
    Via {
        /// The region.
        region: String,
        /// What it says.
        reason: String,
    },
    /// The region at one end failed, or refuses.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// An LFS server failed, or refuses. No ref has moved.
    #[error(transparent)]
    LfsServer(Box<LfsError>),
    /// The pointers of Git LFS cannot be found before the refs move.
    #[error(
        "{server}: the server cannot {what}, which `lfs = \"copy\"` needs to find the LFS objects; nothing was moved"
    )]
    LfsUnsupported {
        /// Where.
        server: String,
        /// What it cannot do.
        what: String,
    },
    /// What was fetched to find pointers is too much, or damaged. No ref has moved.
    #[error("LFS objects could not be looked for among what is new: {reason}; nothing was moved")]
    LfsSearch {
        /// What the caller should do.
        kind: Kind,
        /// What is wrong.
        reason: String,
    },
    /// The source does not have LFS objects that the refs need. No ref has moved.
    #[error("{source_url} does not have {}, so no ref was moved: {objects}", lfs_count(*.count))]
    LfsMissing {
        /// Where the source's objects are.
        source_url: String,
        /// How many.
        count: u64,
        /// The first of them.
        objects: String,
    },
    /// The target does not take LFS objects that the refs need. No ref has moved.
    #[error("{target_url} does not take {}, so no ref was moved: {objects}", lfs_count(*.count))]
    LfsRefused {
        /// Where the target's objects are.
        target_url: String,
        /// How many.
        count: u64,
        /// The first of them, and why.
        objects: String,
    },
    /// The target has taken an LFS object and says that it lacks it.
    #[error("{target_url} has taken LFS object {oid} and says that it does not have it")]
    LfsLost {
        /// Where the target's objects are.
        target_url: String,
        /// Which.
        oid: LfsOid,
    },
    /// A background task or thread failed.
    #[error("gitferry failed: {0}")]
    Internal(String),
}

fn count(refs: u64) -> String {
    if refs == 1 { "ref".into() } else { format!("{refs} refs") }
}

fn lfs_count(objects: u64) -> String {
    if objects == 1 { "an LFS object".into() } else { format!("{objects} LFS objects") }
}

impl RemotesError {
    /// Whether the target does not take what some refs need, and might take others.
    pub(super) fn is_of_some_refs(&self) -> bool {
        matches!(self, RemotesError::Unpack { .. } | RemotesError::TooLarge { .. } | RemotesError::Whole { .. })
    }

    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            RemotesError::Client(error) => error.kind(),
            RemotesError::Remote(error) => error.kind(),
            RemotesError::Table(error) => error.kind(),
            RemotesError::Formats { .. } | RemotesError::EmptySource { .. } => Kind::Refused,
            RemotesError::Unpack { .. } | RemotesError::TooLarge { .. } | RemotesError::Whole { .. } => Kind::Refused,
            RemotesError::Via { .. } => Kind::Refused,
            RemotesError::Region(error) => error.kind(),
            RemotesError::LfsServer(error) => error.kind(),
            RemotesError::LfsSearch { kind, .. } => *kind,
            RemotesError::LfsUnsupported { .. } | RemotesError::LfsMissing { .. } | RemotesError::LfsRefused { .. } => {
                Kind::Refused
            }
            RemotesError::LfsLost { .. } | RemotesError::Over => Kind::Transient,
            RemotesError::Moved { .. } | RemotesError::UnderWay | RemotesError::Forgotten { .. } => Kind::Conflict,
            RemotesError::Internal(_) => Kind::Internal,
        }
    }
}

impl From<LfsError> for RemotesError {
    fn from(error: LfsError) -> Self {
        RemotesError::LfsServer(Box::new(error))
    }
}

impl From<std::io::Error> for RemotesError {
    fn from(error: std::io::Error) -> Self {
        RemotesError::Internal(error.to_string())
    }
}
