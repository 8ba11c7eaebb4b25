//! Directories that survive a power failure.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::private;

/// Syncs a directory, which makes creations, renames and removals in it durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a directory and its missing parents, each durable in its parent.
///
/// An existing directory costs one `stat` and counts as durable: if another process has created it without a sync, the
/// first sync inside it makes it durable on every journaling file system.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dir_all(parent)?;
    match private::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}
