//! How a finished file gets its key: bytes to disk, rename without replacing, directory to disk.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use super::{Inner, meta};
use crate::objects::{ObjectError, ObjectMeta};
use gitferry_base::durable;

/// Objects are never written again.
const OBJECT_MODE: u32 = 0o444;
/// How often a rename is tried again because another process pruned the empty directory in between.
const MAX_RENAMES: usize = 100;

/// What came of giving a file its key.
#[derive(Debug)]
pub(super) enum Published {
    /// The object is there, durably.
    Done,
    /// The key was taken. The file is still where it was, for the caller to keep or drop.
    Taken,
    /// The file lies on another disk, from where it cannot be renamed.
    OtherDisk,
}

impl Inner {
    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<ObjectMeta, ObjectError> {
        let path = self.path(key)?;
        // Cheaper than writing it all first; the rename decides.
        if fs::symlink_metadata(&path).is_ok() {
            return Err(self.taken(key, &path));
        }
        let write = || -> io::Result<NamedTempFile> {
            let mut file = self.temporary()?;
            file.write_all(bytes)?;
            seal(file.as_file())?;
            Ok(file)
        };
        let file = write().map_err(|e| self.failed_write(key, e))?;
        self.publish_temporary(key, &path, file.into_temp_path(), bytes.len() as u64)
    }

    pub(super) fn put_file(&self, key: &str, file: TempPath) -> Result<ObjectMeta, ObjectError> {
        let path = self.path(key)?;
        if fs::symlink_metadata(&path).is_ok() {
            return Err(self.taken(key, &path));
        }
        let prepare = || -> io::Result<(bool, u64)> {
            let source = File::open(&file)?;
            let metadata = source.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other(format!("{} is not a regular file", file.display())));
            }
            let same_disk = metadata.dev() == fs::metadata(&self.root)?.dev();
            if same_disk {
                seal(&source)?;
            }
            Ok((same_disk, metadata.len()))
        };
        let (same_disk, size) = prepare().map_err(|e| self.failed_write(key, e))?;
        if !same_disk {
            return self.put_copy(key, &path, &file);
        }
        match self.publish(key, &path, &file)? {
            Published::Done => {
                let _ = file.keep();
                Ok(meta(key, size))
            }
            Published::Taken => Err(self.taken(key, &path)),
            Published::OtherDisk => self.put_copy(key, &path, &file),
        }
    }

    /// Stores a copy of a file from another disk.
    fn put_copy(&self, key: &str, path: &Path, source: &Path) -> Result<ObjectMeta, ObjectError> {
        let copy = || -> io::Result<(NamedTempFile, u64)> {
            let mut copy = self.temporary()?;
            let size = io::copy(&mut File::open(source)?, &mut copy)?;
            seal(copy.as_file())?;
            Ok((copy, size))
        };
        let (copy, size) = copy().map_err(|e| self.failed_write(key, e))?;
        self.publish_temporary(key, path, copy.into_temp_path(), size)
    }

    fn publish_temporary(&self, key: &str, path: &Path, file: TempPath, size: u64) -> Result<ObjectMeta, ObjectError> {
        match self.publish(key, path, &file)? {
            Published::Done => {
                let _ = file.keep();
                Ok(meta(key, size))
            }
            Published::Taken => Err(self.taken(key, path)),
            Published::OtherDisk => Err(self.failed_write(key, ErrorKind::CrossesDevices.into())),
        }
    }

    /// Renames a sealed file to its key. If it fails the file is where it was, except when the error is
    /// ambiguous.
    pub(super) fn publish(&self, key: &str, path: &Path, file: &Path) -> Result<Published, ObjectError> {
        let folder = path.parent().unwrap_or(&self.root);
        for _ in 0..MAX_RENAMES {
            let Err(error) = rename_no_replace(file, path) else {
                return durable::sync_dir(folder)
                    .map(|()| Published::Done)
                    .map_err(|e| self.unknown(key, "sync the directory of", &e));
            };
            match error.kind() {
                ErrorKind::AlreadyExists => return Ok(Published::Taken),
                ErrorKind::CrossesDevices => return Ok(Published::OtherDisk),
                ErrorKind::NotFound => match self.check_root().and_then(|()| durable::create_dir_all(folder)) {
                    // Pruned again meanwhile.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    other => other.map_err(|e| self.failed_write(key, e))?,
                },
                _ => return Err(self.failed_write(key, error)),
            }
        }
        let reason = format!("{} or {} keeps vanishing", folder.display(), file.display());
        Err(ObjectError::Unavailable { store: self.name.clone(), key: key.to_owned(), reason, ambiguous: false })
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        self.make_staging()?;
        tempfile::Builder::new().prefix("put-").tempfile_in(&self.staging)
    }

    /// The error for a key that is taken by an object, or by a folder.
    pub(super) fn taken(&self, key: &str, path: &Path) -> ObjectError {
        if path.is_dir() {
            return self.invalid(key, "there are objects below it, so it cannot be one itself".to_owned());
        }
        // Who put it may have died before this; callers take "it is there" for "it stays there".
        match durable::sync_dir(path.parent().unwrap_or(&self.root)) {
            Ok(()) => ObjectError::Exists { store: self.name.clone(), key: key.to_owned() },
            Err(e) => self.unknown(key, "sync the directory of", &e),
        }
    }

    pub(super) fn failed_write(&self, key: &str, error: io::Error) -> ObjectError {
        match error.kind() {
            ErrorKind::NotADirectory => self.invalid(key, "a part of its path is an object itself".to_owned()),
            // Not the object is missing, but what was to become it.
            ErrorKind::NotFound => self.failed(key, "write", io::Error::other(error)),
            _ => self.failed(key, "write", error),
        }
    }

    /// The object is visible but perhaps not durable.
    fn unknown(&self, key: &str, doing: &str, error: &io::Error) -> ObjectError {
        let reason = format!("cannot {doing} it: {error}");
        ObjectError::Unavailable { store: self.name.clone(), key: key.to_owned(), reason, ambiguous: true }
    }
}

/// By one system call where the file system can, else by a link and a removal.
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    TempPath::try_from_path(from)?.persist_noclobber(to).map_err(|failed| {
        // Dropped, it would remove the file.
        let _ = failed.path.keep();
        failed.error
    })
}

/// Brings a finished file to disk, read-only.
pub(super) fn seal(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(OBJECT_MODE))?;
    file.sync_all()
}

/// After a removal: makes it durable, and drops directories that became empty by it.
pub(super) fn sync_and_prune(root: &Path, path: &Path) -> io::Result<()> {
    let mut folder = path.parent();
    while let Some(at) = folder.filter(|at| *at != root && at.starts_with(root)) {
        if fs::remove_dir(at).is_err() {
            return durable::sync_dir(at);
        }
        folder = at.parent();
    }
    durable::sync_dir(root)
}
