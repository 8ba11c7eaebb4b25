//! The embedded object store: each object is a read-only file at `root/key`.
//!
//! Unfinished files are in `root/.staging/`, which no key can name. Once the bytes of an object are on disk, one rename
//! that never replaces a file makes the object visible, and its directory is synced. A key cannot be both an object and
//! a folder. Any number of processes of one machine may share a root.

mod direct;
mod error;
mod inner;
mod listing;
mod open_upload;
mod part_list;
mod publish;
mod read;
mod stale;
mod upload;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempPath;
use tokio::sync::Semaphore;

use self::inner::{Inner, STAGING};
use self::open_upload::OpenUploads;
use super::{Crc64, ListPage, MAX_PUT_BYTES, ObjectError, ObjectMeta, ObjectStore, Part, Upload, parts};

/// Most concurrent operations of one handle on blocking threads; further ones wait.
pub const MAX_OPERATIONS: usize = 32;

/// An object store in a directory. Share it behind an `Arc`.
#[derive(Debug)]
pub struct FilesystemStore {
    inner: Arc<Inner>,
    operations: Arc<Semaphore>,
}

impl FilesystemStore {
    /// Opens the store in `root`, and creates a missing `root` and its parents. `name` identifies the store in errors.
    /// A read-only store opens, too; writes then fail with [`ObjectError::Environment`].
    pub fn open(root: impl Into<PathBuf>, name: impl Into<String>) -> Result<Self, ObjectError> {
        FilesystemStore::open_root(root.into(), name.into(), true)
    }

    /// Opens the store in `root`, which must exist.
    pub fn open_existing(root: impl Into<PathBuf>, name: impl Into<String>) -> Result<Self, ObjectError> {
        FilesystemStore::open_root(root.into(), name.into(), false)
    }

    fn open_root(root: PathBuf, name: String, create: bool) -> Result<Self, ObjectError> {
        let root = std::path::absolute(&root).unwrap_or(root);
        let staging = root.join(STAGING);
        let inner = Arc::new(Inner { name, root, staging, uploads: OpenUploads::default() });
        inner.create(create).map_err(|error| {
            let store = inner.name.clone();
            let key = inner.root.display().to_string();
            let reason = format!("its folder cannot be used: {error}; name a folder that this user may make and write");
            ObjectError::Environment { store, key, reason }
        })?;
        Ok(FilesystemStore { inner, operations: Arc::new(Semaphore::new(MAX_OPERATIONS)) })
    }

    /// Directory of the store.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Runs `work` on a blocking thread. Dropping the future does not cancel `work`.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        write: bool,
        work: impl FnOnce(&Inner) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let stopped = |ambiguous| ObjectError::Unavailable {
            store: self.inner.name.clone(),
            key: key.to_owned(),
            reason: "the runtime is shutting down".to_owned(),
            ambiguous,
        };
        let permit = Arc::clone(&self.operations).acquire_owned().await.map_err(|_| stopped(false))?;
        let inner = Arc::clone(&self.inner);
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&inner);
            drop(inner);
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|_| Err(stopped(write)))
    }
}

#[async_trait]
impl ObjectStore for FilesystemStore {
    fn name(&self) -> &str {
        &self.inner.name
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
        if bytes.len() as u64 > MAX_PUT_BYTES {
            let reason = format!("a put has {} bytes; at most {MAX_PUT_BYTES} are allowed", bytes.len());
            return Err(self.inner.invalid(key, reason));
        }
        let owned = key.to_owned();
        self.blocking(key, true, move |store| store.put(&owned, &bytes)).await
    }

    async fn put_file(&self, key: &str, file: TempPath) -> Result<ObjectMeta, ObjectError> {
        let owned = key.to_owned();
        self.blocking(key, true, move |store| store.put_file(&owned, file)).await
    }

    fn spool_dir(&self) -> Option<PathBuf> {
        Some(self.inner.staging.clone())
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        if range.start > range.end || range.end - range.start > MAX_PUT_BYTES {
            let reason = format!("invalid range {range:?}; at most {MAX_PUT_BYTES} bytes can be read at once");
            return Err(self.inner.invalid(key, reason));
        }
        let owned = key.to_owned();
        self.blocking(key, false, move |store| store.get(&owned, range)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        let owned = key.to_owned();
        self.blocking(key, false, move |store| store.head(&owned)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError> {
        let owned = prefix.to_owned();
        let after = after.map(str::to_owned);
        self.blocking(prefix, false, move |store| store.list(&owned, after.as_deref(), limit)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let owned = key.to_owned();
        self.blocking(key, true, move |store| store.delete(&owned)).await
    }

    async fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        let owned = key.to_owned();
        self.blocking(key, true, move |store| store.begin(&owned)).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError> {
        parts::check_part(number, bytes.len()).map_err(|reason| self.inner.invalid(&upload.key, reason))?;
        let owned = upload.clone();
        self.blocking(&upload.key, true, move |store| store.put_part(&owned, number, &bytes)).await
    }

    async fn put_part_from(
        &self,
        upload: &Upload,
        number: u32,
        size: u64,
        source: &dyn ObjectStore,
        source_key: &str,
    ) -> Result<Option<Part>, ObjectError> {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        parts::check_part(number, length).map_err(|reason| self.inner.invalid(&upload.key, reason))?;
        let Some(from) = source.concrete().and_then(|store| store.downcast_ref::<FilesystemStore>()) else {
            return Ok(None);
        };
        let path = from.inner.path(source_key)?;
        let owned = upload.clone();
        self.blocking(&upload.key, true, move |store| store.put_part_from(&owned, number, size, &path)).await
    }

    /// Keeps uploads that a process has open, regardless of their age.
    async fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        self.blocking(STAGING, false, move |store| store.remove_stale(temporary, uploads)).await
    }

    fn concrete(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        let owned = upload.clone();
        self.blocking(&upload.key, false, move |store| store.parts(&owned)).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        let owned = upload.clone();
        let parts = parts.to_vec();
        self.blocking(&upload.key, true, move |store| store.complete(&owned, &parts, size, crc64)).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError> {
        let owned = upload.clone();
        self.blocking(&upload.key, true, move |store| store.abort(&owned)).await
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.path(key).ok()
    }
}
