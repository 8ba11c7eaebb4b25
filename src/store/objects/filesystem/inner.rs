//! Folder of a store: paths of keys and staged files, and the errors that name them.

use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::error;
use super::open_upload::OpenUploads;
use crate::objects::{ObjectError, ObjectMeta, key};
use gitferry_base::{durable, private};

/// Name of the folder of unfinished files, which no key can name.
pub(super) const STAGING: &str = ".staging";

/// State shared with blocking tasks.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) root: PathBuf,
    pub(super) staging: PathBuf,
    pub(super) uploads: OpenUploads,
}

impl Inner {
    pub(super) fn create(&self, root: bool) -> io::Result<()> {
        if root {
            durable::create_dir_all(&self.root)?;
        }
        match private::create_dir(&self.staging) {
            // On a read-only disk, the first write fails.
            Err(e) if matches!(e.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Fails if the root is gone. Creating the root again would look like an empty store.
    pub(super) fn check_root(&self) -> io::Result<()> {
        if self.root.try_exists()? {
            return Ok(());
        }
        Err(io::Error::other(format!("{} is gone: mount its disk, or restore it", self.root.display())))
    }

    /// Creates the staging folder if it is missing, but never the root.
    pub(super) fn make_staging(&self) -> io::Result<()> {
        match private::create_dir(&self.staging) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_root().and(Err(error)),
            other => other,
        }
    }

    /// Validates a key and returns the path of its object.
    pub(super) fn path(&self, key: &str) -> Result<PathBuf, ObjectError> {
        key::check(key).map_err(|reason| self.invalid(key, reason))?;
        Ok(self.root.join(key))
    }

    pub(super) fn invalid(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Invalid { store: self.name.clone(), key: key.to_owned(), reason }
    }

    pub(super) fn failed(&self, key: &str, doing: &str, error: io::Error) -> ObjectError {
        error::of_io(&self.name, key, doing, &error)
    }
}

/// Metadata of an object without a time. The store keeps no checksums.
pub(super) fn meta(key: &str, size: u64) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), size, crc64: None, modified: None, kms_key: None }
}

/// Metadata of an object from the attributes of its file.
pub(super) fn stored(key: &str, file: &fs::Metadata) -> ObjectMeta {
    let modified = file.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    ObjectMeta { modified, ..meta(key, file.len()) }
}
