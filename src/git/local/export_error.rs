//! Why an export cannot be written.

use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::BString;

use gitferry_base::Kind;

/// Why a bare repository cannot be written. Nothing has appeared under its name.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is something under the name already.
    #[error("{} exists and is not an empty directory; choose another place or remove it", path.display())]
    Exists {
        /// Where the export was to go.
        path: PathBuf,
    },
    /// A pack or an index that does not belong to the pack's id.
    #[error("{what} of pack {pack} is not what it should be: {reason}")]
    WrongPack {
        /// The id that was announced.
        pack: ObjectId,
        /// `the pack file` or `the index`.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A ref came out of order, twice, or with an id of another object format.
    #[error("the ref {name} cannot be exported: {reason}")]
    BadRef {
        /// The ref.
        name: BString,
        /// What is wrong.
        reason: String,
    },
    /// The operating system would not write.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl ExportError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            ExportError::Exists { .. } => Kind::Refused,
            ExportError::WrongPack { .. } => Kind::Corrupt,
            ExportError::BadRef { .. } => Kind::Internal,
            ExportError::Io { source, .. } => match Kind::of_io(source) {
                Kind::Missing | Kind::Transient => Kind::Environment,
                kind => kind,
            },
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> ExportError + use<'_> {
        move |source| ExportError::Io { path: path.to_owned(), source }
    }
}
