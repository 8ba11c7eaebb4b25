//! Why a repository could not be carried to or from a Git server.

use gix::hash::Kind as Format;

use crate::Kind;
use crate::git::client::ClientError;
use crate::region::RegionError;
use crate::remote::RemoteError;
use crate::table::TableError;

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
    /// There is more to push than the target takes at once, and it could not be parted.
    #[error("{target_url} does not take so much in one push: {reason}")]
    TooLarge {
        /// Where the target is.
        target_url: String,
        /// What it says, or what the limit is.
        reason: String,
    },
    /// The region at one end failed, or refuses.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The objects of Git LFS are to be carried, and there is no way yet.
    #[error(
        "link {link} has lfs = \"copy\", which is not carried yet; the pointers alone would be of no use, so nothing was"
    )]
    Lfs {
        /// Which link.
        link: String,
    },
    /// A background task or thread failed.
    #[error("gitferry failed: {0}")]
    Internal(String),
}

fn count(refs: u64) -> String {
    if refs == 1 { "ref".into() } else { format!("{refs} refs") }
}

impl RemotesError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            RemotesError::Client(error) => error.kind(),
            RemotesError::Remote(error) => error.kind(),
            RemotesError::Table(error) => error.kind(),
            RemotesError::Formats { .. } | RemotesError::EmptySource { .. } => Kind::Refused,
            RemotesError::Unpack { .. } | RemotesError::TooLarge { .. } => Kind::Refused,
            RemotesError::Region(error) => error.kind(),
            RemotesError::Lfs { .. } => Kind::Usage,
            RemotesError::Moved { .. } => Kind::Conflict,
            RemotesError::Internal(_) => Kind::Internal,
        }
    }
}

impl From<std::io::Error> for RemotesError {
    fn from(error: std::io::Error) -> Self {
        RemotesError::Internal(error.to_string())
    }
}
