//! Conversion of I/O errors to [`ObjectError`].

use std::io::{self, ErrorKind};

use crate::objects::ObjectError;
use gitferry_base::Kind;

/// Returns true if the file does not exist, or if a folder of its path is a file.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Converts an error of the operation `doing`, such as "read", that made nothing visible.
pub(super) fn of_io(store: &str, key: &str, doing: &str, error: &io::Error) -> ObjectError {
    let store = store.to_owned();
    let key = key.to_owned();
    if is_absent(error) {
        return ObjectError::NotFound { store, key };
    }
    let reason = match hint(error.kind()) {
        Some(hint) => format!("cannot {doing}: {error}; {hint}"),
        None => format!("cannot {doing}: {error}"),
    };
    match Kind::of_io(error) {
        Kind::Environment => ObjectError::Environment { store, key, reason },
        Kind::Corrupt => ObjectError::Corrupt { store, key, reason },
        _ => ObjectError::Unavailable { store, key, reason, ambiguous: false },
    }
}

/// Remedy for the error message.
fn hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::StorageFull => "make room on the disk and run again",
        ErrorKind::QuotaExceeded => "raise the quota of this user or make room, and run again",
        ErrorKind::ReadOnlyFilesystem => "remount the disk writable and run again",
        ErrorKind::PermissionDenied => "give this user access to the store's directory and run again",
        ErrorKind::FileTooLarge => "raise the limit on file sizes (ulimit -f) or use another file system",
        _ => return None,
    })
}
