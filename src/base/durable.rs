//! Directories that are still there after a power failure.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::private;

/// Makes what was created, renamed or removed in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a directory and its missing parents, each durable in its own parent. Costs one `stat` when it
/// is there already; it is then taken to be durable: a directory that another process has made but not yet
/// synced becomes so with the first sync inside it, on every journalled file system.
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
