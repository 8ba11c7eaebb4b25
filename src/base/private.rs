//! Files and directories that only their owner may access.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Write permission of the group and of all other users.
const OTHERS_WRITE: u32 = 0o022;
/// Read permission of all other users.
const OTHERS_READ: u32 = 0o004;

/// Creates a directory in an existing one.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(dir)
}

/// Creates an empty file unless it exists.
pub fn create_file(file: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Logs a warning if other users than the owner of `file` may change it.
pub fn warn_if_others_write(what: &str, file: &Path) {
    if fs::metadata(file).is_ok_and(|data| data.permissions().mode() & OTHERS_WRITE != 0) {
        let file = file.display();
        tracing::warn!(%file, "other users of this machine can change {what}; run `chmod 600 {file}`");
    }
}

/// Logs a warning if every user of this machine can read the secret in `file`.
pub fn warn_if_others_read(what: &str, file: &Path) {
    if fs::metadata(file).is_ok_and(|data| data.permissions().mode() & OTHERS_READ != 0) {
        let file = file.display();
        tracing::warn!(%file, "every user of this machine can read {what}; run `chmod 600 {file}`");
    }
}
