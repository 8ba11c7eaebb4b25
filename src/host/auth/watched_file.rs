//! A file of secrets that is read again when it changes.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Largest file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Fingerprint of a file version: modification time, length and inode.
type Stamp = (SystemTime, u64, u64);

/// A file whose changes are noticed.
#[derive(Debug)]
pub struct WatchedFile {
    file: PathBuf,
    stamp: Mutex<Option<Stamp>>,
}

impl WatchedFile {
    /// A file that has not been read yet.
    pub fn new(file: &Path) -> Self {
        WatchedFile { file: file.into(), stamp: Mutex::new(None) }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Errors of the system; the file is larger than 16 MiB, or is not UTF-8.
    pub fn read(&self) -> io::Result<String> {
        // Taken before the content is read, so that a concurrent write leads to another reading.
        let stamp = self.stamp_now();
        let mut text = String::new();
        std::fs::File::open(&self.file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            let reason = format!("it has more than {MAX_FILE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        Ok(text)
    }

    /// Returns true if the file has changed since the last attempt to read it.
    pub fn has_changed(&self) -> bool {
        let now = self.stamp_now();
        now.is_some() && now != *self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp_now(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt as _;
        let data = std::fs::metadata(&self.file).ok()?;
        Some((data.modified().ok()?, data.len(), data.ino()))
    }
}
