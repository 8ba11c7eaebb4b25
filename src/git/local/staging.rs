//! Staging directory next to the target of an export.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::export_error::ExportError;

/// File that the exporting process keeps locked for as long as it runs.
const LOCK_FILE: &str = "lock";

/// Staging directory, removed when dropped or, after a crash, by the next export of the same name.
#[derive(Debug)]
pub(super) struct Staging {
    directory: tempfile::TempDir,
    _lock: File,
}

impl Staging {
    /// Creates a staging directory in `parent` for the target `name`.
    pub(super) fn new(parent: &Path, name: &OsStr) -> Result<Self, ExportError> {
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".export-");
        remove_abandoned(parent, &prefix);
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(ExportError::io(parent))?;
        let path = directory.path().join(LOCK_FILE);
        let lock = File::create_new(&path).map_err(ExportError::io(&path))?;
        lock.lock().map_err(ExportError::io(&path))?;
        Ok(Staging { directory, _lock: lock })
    }

    /// Path of the repository to build. The directory does not exist yet, so that it gets default permissions.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("repository")
    }
}

/// Removes staging directories of crashed exports of the same name. Errors are ignored.
fn remove_abandoned(parent: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            continue;
        }
        // A directory without a lock file is being created; one with a held lock is in use.
        if let Ok(lock) = File::open(entry.path().join(LOCK_FILE))
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
