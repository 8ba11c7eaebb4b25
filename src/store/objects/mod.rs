//! The object store: immutable files under keys, created once and never overwritten.
//!
//! Shaped after S3 (conditional put, multipart upload, ranged get). `tests/stores/conformance` holds the one
//! suite that every implementation passes.

pub mod filesystem;
pub mod key;
pub mod parts;
pub mod reader;
pub mod s3;
mod stale;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

pub use filesystem::FilesystemStore;
use gitferry_base::Kind;
pub use gitferry_base::checksum::{Crc64, Crc64Hasher};
pub use s3::{S3Options, S3Store};

/// Most bytes that [`ObjectStore::put`] takes, and most that one [`ObjectStore::get`] returns.
pub const MAX_PUT_BYTES: u64 = 64 * 1024 * 1024;
/// Every part of an upload but the last has exactly this size.
pub const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Most keys that one page of a listing returns.
pub const MAX_LIST_KEYS: usize = 1_000;

/// What is known about a stored object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum, where the store keeps one (the embedded store does not).
    pub crc64: Option<Crc64>,
    /// When it was stored, by the store's own clock; told by [`ObjectStore::head`] and [`ObjectStore::list`]. Only
    /// compared with other times of the same store. An object that came in parts may say when its upload began.
    pub modified: Option<Timestamp>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// In the order of the keys' bytes.
    pub objects: Vec<ObjectMeta>,
    /// Pass as `after` to read on; `None` at the end.
    pub next: Option<String>,
}

/// A part of an upload that the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Counted from 0; covers the bytes from `number * PART_BYTES`.
    pub number: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum.
    pub crc64: Crc64,
    /// What the store needs to find it again (an ETag); empty where it needs nothing.
    pub tag: String,
}

/// An upload in progress. Plain data: written down, it lets another process go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key that it will have.
    pub key: String,
    /// The store's own name for it.
    pub token: String,
}

/// Why an object store operation failed. Nothing has become visible under the key, except after
/// [`ObjectError::Unavailable`] with `ambiguous`, where it may have.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object (or upload).
    #[error("{store}: there is no object {key}")]
    NotFound {
        /// Which store.
        store: String,
        /// Which object.
        key: String,
    },
    /// There is one already; the first stays.
    #[error("{store}: there is an object {key} already")]
    Exists {
        /// Which store.
        store: String,
        /// Which object.
        key: String,
    },
    /// The request is larger than a store allows or its key is not allowed.
    #[error("{store}: not a valid request for object {key}: {reason}")]
    Invalid {
        /// Which store.
        store: String,
        /// Which object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not those that were promised.
    #[error("{store}: object {key} is damaged: {reason}")]
    Corrupt {
        /// Which store.
        store: String,
        /// Which object.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The store needs a hand: full disk, permissions, read-only.
    #[error("{store}: cannot use object {key}: {reason}")]
    Environment {
        /// Which store.
        store: String,
        /// Which object.
        key: String,
        /// What happened.
        reason: String,
    },
    /// The store could not be reached or failed for now.
    #[error("{store}: object {key} is not available: {reason}")]
    Unavailable {
        /// Which store.
        store: String,
        /// Which object.
        key: String,
        /// What happened.
        reason: String,
        /// The write may have happened all the same: read back before deciding.
        ambiguous: bool,
    },
}

impl ObjectError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            ObjectError::NotFound { .. } => Kind::Missing,
            ObjectError::Exists { .. } => Kind::Conflict,
            ObjectError::Invalid { .. } => Kind::Internal,
            ObjectError::Corrupt { .. } => Kind::Corrupt,
            ObjectError::Environment { .. } => Kind::Environment,
            ObjectError::Unavailable { .. } => Kind::Transient,
        }
    }
}

/// Immutable objects under keys. Keys are `/`-separated segments of `[A-Za-z0-9._-]`, none of them
/// empty or starting with a dot, of at most 255 bytes, at most 512 bytes in all (see [`key`]). No key may
/// name a folder of others: not both `a` and `a/b`.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// Names the store in errors and logs.
    fn name(&self) -> &str;

    /// Stores at most [`MAX_PUT_BYTES`] under a key that is not taken yet, durably.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError>;

    /// Stores a local file under a key that is not taken yet, durably. The file is the store's from now
    /// on: an embedded store may move it into place instead of copying it.
    async fn put_file(&self, key: &str, file: tempfile::TempPath) -> Result<ObjectMeta, ObjectError>;

    /// Where to make temporary files that [`ObjectStore::put_file`] can take over cheaply.
    fn spool_dir(&self) -> Option<PathBuf>;

    /// Reads a range of at most [`MAX_PUT_BYTES`]; a range that reaches past the end is cut there.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError>;

    /// Looks an object up without reading it.
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError>;

    /// Lists keys that start with `prefix` (whole segments or not), behind `after`, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError>;

    /// Removes an object; removing what is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// Starts an upload in parts. Nothing is visible under the key before [`ObjectStore::complete`].
    async fn begin(&self, key: &str) -> Result<Upload, ObjectError>;

    /// Stores one part; storing the same part again replaces it.
    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError>;

    /// Stores one part of `size` bytes from the same place in an object of another store, without its bytes
    /// passing through the caller. `Ok(None)` where the two stores cannot, or the source does not give the
    /// bytes: the caller then reads them itself, and learns what is wrong with them.
    async fn put_part_from(
        &self,
        upload: &Upload,
        number: u32,
        size: u64,
        source: &dyn ObjectStore,
        source_key: &str,
    ) -> Result<Option<Part>, ObjectError> {
        let _ = (upload, number, size, source, source_key);
        Ok(None)
    }

    /// The parts that an upload holds intact, by number: what need not be sent again.
    /// [`ObjectError::NotFound`] when the upload is gone.
    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError>;

    /// Makes the object visible, durably, if the key is not taken and size and checksum of the whole
    /// are the expected ones ([`ObjectError::Corrupt`] otherwise).
    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError>;

    /// Forgets an upload and its parts; one that is gone is no error.
    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError>;

    /// Copies an object here from another store without its bytes passing through this process.
    /// `Ok(None)` where the two stores cannot: the caller then copies part by part.
    async fn copy_from(
        &self,
        source: &dyn ObjectStore,
        source_key: &str,
        key: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<Option<ObjectMeta>, ObjectError> {
        let _ = (source, source_key, key, size, crc64);
        Ok(None)
    }

    /// Removes what killed processes left unfinished in the store itself: temporary files of this machine that no
    /// process has touched for `temporary`, and uploads that began before `uploads`, a time of the store. Returns how
    /// many went. Stores that do this by a rule of their own have nothing to do here.
    async fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        let _ = (temporary, uploads);
        Ok(0)
    }

    /// The store itself, for one of its own kind that copies from it directly. Decorators have none, so
    /// that no byte passes them by.
    fn concrete(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Where the object lies as a local file, for stores that keep it so. Read it, never write it.
    fn local_path(&self, key: &str) -> Option<PathBuf>;
}
