//! What killed processes left in the staging folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::upload::LIST;
use super::{Inner, STAGING, error};
use crate::objects::ObjectError;

/// Folders below each other in the staging folder: what lies deeper is nobody's that is known here.
const MAX_DEPTH: usize = 8;

impl Inner {
    /// Removes files, folders and uploads that nobody has touched for so long. Returns how many went.
    pub(super) fn remove_stale(&self, temporary: Duration, uploads: Duration) -> Result<u64, ObjectError> {
        // Compared with file times, which are the machine's.
        #[allow(clippy::disallowed_methods)]
        let now = SystemTime::now();
        let before = |age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let (temporary, uploads) = (before(temporary), before(uploads));
        let sweep = || -> io::Result<u64> {
            let mut removed = 0;
            for entry in fs::read_dir(&self.staging)? {
                let path = entry?.path();
                let limit = if is_upload(&path) { uploads } else { temporary };
                removed += u64::from(remove_if_stale(&path, limit)?);
            }
            Ok(removed)
        };
        match sweep() {
            Err(e) if error::is_absent(&e) => Ok(0),
            other => other.map_err(|e| self.failed(STAGING, "clean up", e)),
        }
    }
}

/// Whether it belongs to an upload: those are named by their tokens.
fn is_upload(path: &Path) -> bool {
    path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| Uuid::try_parse(name).is_ok())
}

/// Removes what is old and no process has locked.
fn remove_if_stale(path: &Path, limit: SystemTime) -> io::Result<bool> {
    let removed = || -> io::Result<bool> {
        // The list of an upload's parts goes when the upload is gone, whose lock covers both.
        if path.extension().is_some_and(|e| e == LIST) && path.with_extension("").exists() {
            return Ok(false);
        }
        if touched_since(path, limit, MAX_DEPTH)? {
            return Ok(false);
        }
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_dir() {
            return fs::remove_dir_all(path).map(|()| true);
        }
        if !metadata.is_file() || File::open(path)?.try_lock().is_err() {
            return Ok(false);
        }
        fs::remove_file(path).map(|()| true)
    };
    match removed() {
        Err(e) if error::is_absent(&e) => Ok(false),
        other => other,
    }
}

/// Whether a file, or anything in a folder, was written later than that. Links are not followed.
fn touched_since(path: &Path, limit: SystemTime, depth: usize) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.modified()? > limit {
        return Ok(true);
    }
    if metadata.is_dir() {
        let Some(depth) = depth.checked_sub(1) else { return Ok(true) };
        for entry in fs::read_dir(path)? {
            if touched_since(&entry?.path(), limit, depth)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
