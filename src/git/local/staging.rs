//! A directory beside the place where something is to appear, for building it out of sight.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::export_error::ExportError;

/// The file whose lock says that the builder still lives.
const LOCK_FILE: &str = "lock";

/// A directory that is removed when dropped, or, after a crash, by the next builder of the same name.
#[derive(Debug)]
pub(super) struct Staging {
    directory: tempfile::TempDir,
    _lock: File,
}

impl Staging {
    /// Makes one in `parent` for a thing called `name`.
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

    /// Where to build. The directory does not exist yet, so that it gets the usual permissions.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("repository")
    }
}

/// Removes what crashed builders of the same name left. Only tidying: an error here stops no one.
fn remove_abandoned(parent: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            continue;
        }
        // Without a lock file it is about to get one; with a held lock it is in use.
        if let Ok(lock) = File::open(entry.path().join(LOCK_FILE))
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
