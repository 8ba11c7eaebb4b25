//! Files and folders that are for their owner alone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Users of other groups may read it.
const OTHERS_READ: u32 = 0o004;

/// Makes a folder in one that exists.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(dir)
}

/// Makes an empty file unless there is one.
pub fn create_file(file: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Warns of a secret that every user of this machine can read.
pub fn warn_if_others_read(what: &str, file: &Path) {
    if fs::metadata(file).is_ok_and(|data| data.permissions().mode() & OTHERS_READ != 0) {
        let file = file.display();
        tracing::warn!(%file, "every user of this machine can read {what}; `chmod 600 {file}` ends that");
    }
}
