//! Removal of files that killed processes left in a folder of unfinished work.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

/// Deepest nesting that is examined. An entry with deeper folders stays, as gitferry does not create such.
const MAX_DEPTH: usize = 8;

/// Removes entries of `folder` that were last modified before the time that `limit` returns and are not locked. An
/// entry stays if `limit` returns `None`. Returns the number of entries removed, 0 for an absent folder.
pub(super) fn remove_older(folder: &Path, limit: impl Fn(&Path) -> Option<SystemTime>) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(e) if is_absent(&e) => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let path = entry?.path();
        if let Some(limit) = limit(&path) {
            removed += u64::from(remove_if_stale(&path, limit)?);
        }
    }
    Ok(removed)
}

fn remove_if_stale(path: &Path, limit: SystemTime) -> io::Result<bool> {
    let removed = || -> io::Result<bool> {
        if modified_since(path, limit, MAX_DEPTH)? {
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
        Err(e) if is_absent(&e) => Ok(false),
        other => other,
    }
}

/// Returns true if a file, or anything in a folder, was modified after `limit`. Links are not followed.
fn modified_since(path: &Path, limit: SystemTime, depth: usize) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.modified()? > limit {
        return Ok(true);
    }
    if metadata.is_dir() {
        let Some(depth) = depth.checked_sub(1) else { return Ok(true) };
        for entry in fs::read_dir(path)? {
            if modified_since(&entry?.path(), limit, depth)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
