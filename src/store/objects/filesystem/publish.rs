//! Publishes finished files under their keys: sync the file, rename without replacing, sync the directory. Removes them.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use super::error;
use super::inner::{Inner, meta};
use crate::objects::{ObjectError, ObjectMeta};
use gitferry_base::durable;

/// Mode of object files, which are never modified.
const OBJECT_MODE: u32 = 0o444;
/// Most attempts at a rename whose target directory another process keeps pruning.
const MAX_RENAMES: usize = 100;

/// Outcome of publishing a file.
#[derive(Debug)]
pub(super) enum Published {
    /// The object is visible and durable.
    Done,
    /// The key is taken. The file is unchanged and remains the caller's.
    Taken,
    /// The file is on another file system and cannot be renamed.
    OtherDisk,
}

impl Inner {
    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<ObjectMeta, ObjectError> {
        let path = self.path(key)?;
        // An early check saves the write; the rename decides.
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

    /// Stores a copy of a file from another file system.
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

    /// Renames a sealed file to its key. After an error the file is unchanged, unless the error is ambiguous.
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
                    // Another process pruned the directory again.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    other => other.map_err(|e| self.failed_write(key, e))?,
                },
                _ => return Err(self.failed_write(key, error)),
            }
        }
        let reason = format!("{} or {} keeps disappearing", folder.display(), file.display());
        Err(ObjectError::Unavailable { store: self.name.clone(), key: key.to_owned(), reason, ambiguous: false })
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.path(key)?;
        let remove = || -> io::Result<()> {
            if !fs::symlink_metadata(&path)?.is_file() {
                return Ok(());
            }
            fs::remove_file(&path)?;
            sync_and_prune(&self.root, &path)
        };
        match remove() {
            Err(e) if error::is_absent(&e) => Ok(()),
            other => other.map_err(|e| self.failed(key, "delete", e)),
        }
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        self.make_staging()?;
        tempfile::Builder::new().prefix("put-").tempfile_in(&self.staging)
    }

    /// Error for a key that is taken by an object or a folder. Makes the existing object durable first.
    pub(super) fn taken(&self, key: &str, path: &Path) -> ObjectError {
        if path.is_dir() {
            return self.invalid(key, "the key is a folder of other objects".to_owned());
        }
        // The process that published the object may have died before the sync, and callers rely on its durability.
        match durable::sync_dir(path.parent().unwrap_or(&self.root)) {
            Ok(()) => ObjectError::Exists { store: self.name.clone(), key: key.to_owned() },
            Err(e) => self.unknown(key, "sync the directory of", &e),
        }
    }

    pub(super) fn failed_write(&self, key: &str, error: io::Error) -> ObjectError {
        match error.kind() {
            ErrorKind::NotADirectory => self.invalid(key, "a folder of the key is an object".to_owned()),
            // The staged file is missing, not the object.
            ErrorKind::NotFound => self.failed(key, "write", io::Error::other(error)),
            _ => self.failed(key, "write", error),
        }
    }

    /// Error for an object that is visible but may not be durable.
    fn unknown(&self, key: &str, doing: &str, error: &io::Error) -> ObjectError {
        let reason = format!("cannot {doing} the object: {error}");
        ObjectError::Unavailable { store: self.name.clone(), key: key.to_owned(), reason, ambiguous: true }
    }
}

/// Renames by one system call if the file system supports that, else by a link and a removal.
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    TempPath::try_from_path(from)?.persist_noclobber(to).map_err(|failed| {
        // Dropping the path would remove the file.
        let _ = failed.path.keep();
        failed.error
    })
}

/// Makes a finished file read-only and syncs it.
pub(super) fn seal(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(OBJECT_MODE))?;
    file.sync_all()
}

/// Makes a removal durable, and removes directories that became empty.
fn sync_and_prune(root: &Path, path: &Path) -> io::Result<()> {
    let mut folder = path.parent();
    while let Some(at) = folder.filter(|at| *at != root && at.starts_with(root)) {
        if fs::remove_dir(at).is_err() {
            return durable::sync_dir(at);
        }
        folder = at.parent();
    }
    durable::sync_dir(root)
}
