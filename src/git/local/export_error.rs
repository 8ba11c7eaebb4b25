//! Errors of writing an export.

use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::BString;

use gitferry_base::Kind;

/// Error of writing a bare repository. Nothing has appeared under its name.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The target exists.
    #[error("{} exists and is not an empty directory; choose another path or remove it", path.display())]
    Exists {
        /// Target of the export.
        path: PathBuf,
    },
    /// Pack or index that does not match the pack's id.
    #[error("{what} of pack {pack} does not match its id: {reason}")]
    WrongPack {
        /// Id of the pack.
        pack: ObjectId,
        /// `the pack file` or `the index`.
        what: &'static str,
        /// Mismatch that was found.
        reason: String,
    },
    /// Ref out of order, repeated, or with an id of another object format.
    #[error("the ref {name} cannot be exported: {reason}")]
    BadRef {
        /// Name of the ref.
        name: BString,
        /// Reason why the ref cannot be exported.
        reason: String,
    },
    /// The operating system failed to write.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl ExportError {
    /// Kind of the error: the caller's next step.
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
