//! The object store: immutable objects under keys, created once and never overwritten.
//!
//! The model is S3's: conditional put, multipart upload, ranged get. Every implementation passes the suite in
//! `tests/stores/conformance`.

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

use crate::aws::KeyFault;
pub use filesystem::FilesystemStore;
use gitferry_base::Kind;
pub use gitferry_base::checksum::{Crc64, Crc64Hasher};
pub use s3::{KmsKeys, S3Options, S3Store};

/// Most bytes of one [`ObjectStore::put`] and of one [`ObjectStore::get`].
pub const MAX_PUT_BYTES: u64 = 64 * 1024 * 1024;
/// Size in bytes of every part of an upload except the last.
pub const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Most keys of one page of a listing.
pub const MAX_LIST_KEYS: usize = 1_000;

/// Metadata of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Key of the object.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Checksum of the whole object; `None` if the store keeps none, such as the embedded one.
    pub crc64: Option<Crc64>,
    /// Time of creation by the store's clock, set by [`ObjectStore::head`] and [`ObjectStore::list`]. Comparable only
    /// with other times of the same store. For a multipart upload, the time may be that of the upload's start.
    pub modified: Option<Timestamp>,
    /// ARN of the KMS key under which the object is encrypted, set by [`ObjectStore::head`]; `None` without one.
    pub kms_key: Option<String>,
}

impl ObjectMeta {
    /// Metadata of an object that was just created.
    fn created(key: &str, size: u64, crc64: Crc64) -> Self {
        ObjectMeta { key: key.to_owned(), size, crc64: Some(crc64), modified: None, kms_key: None }
    }
}

/// Outcome of [`ObjectStore::reencrypt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reencrypted {
    /// The object is encrypted under its key.
    Done,
    /// There is no such object (any more).
    Gone,
    /// The object is larger than the store copies at once (S3: 5 GiB), and is as it was.
    TooLarge,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Objects in bytewise order of their keys.
    pub objects: Vec<ObjectMeta>,
    /// Value of `after` for the next page; `None` on the last page.
    pub next: Option<String>,
}

/// A stored part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number from 0; the part starts at the byte `number * PART_BYTES`.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// Checksum of the part.
    pub crc64: Crc64,
    /// ETag that the store needs to complete the upload; empty if the store needs none.
    pub tag: String,
}

/// Identity of an upload in progress. Another process can resume the upload with this value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Key of the object after completion.
    pub key: String,
    /// Identifier of the upload in the store.
    pub token: String,
}

/// Error of an object store operation. Nothing has become visible under the key, except that it may have after
/// [`ObjectError::Unavailable`] with `ambiguous`.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object or upload does not exist.
    #[error("{store}: there is no object {key}")]
    NotFound {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
    },
    /// The key is taken; the existing object is unchanged.
    #[error("{store}: there is an object {key} already")]
    Exists {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
    },
    /// The request exceeds a limit, or the key is invalid: a bug of the caller.
    #[error("{store}: invalid request for object {key}: {reason}")]
    Invalid {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
        /// Rule that the request violates.
        reason: String,
    },
    /// The bytes do not match the announced size or checksum.
    #[error("{store}: object {key} is damaged: {reason}")]
    Corrupt {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
        /// Expected and actual values.
        reason: String,
    },
    /// The store needs an operator: missing bucket, full disk, permissions, credentials.
    #[error("{store}: cannot use object {key}: {reason}")]
    Environment {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
        /// Cause and remedy.
        reason: String,
    },
    /// The KMS key of the object cannot be used.
    #[error("{store}: cannot use object {key}: {fault}: {reason}; {}", .fault.remedy())]
    KmsKey {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
        /// Reason by what an operator can do.
        fault: KeyFault,
        /// Message of the service.
        reason: String,
    },
    /// The store cannot be reached or failed temporarily. Trying again may succeed.
    #[error("{store}: object {key} is not available: {reason}")]
    Unavailable {
        /// Name of the store.
        store: String,
        /// Key of the object.
        key: String,
        /// Message of the service or operating system.
        reason: String,
        /// True if the write may have taken effect: the caller must read back before it decides.
        ambiguous: bool,
    },
}

impl ObjectError {
    /// Classifies the error by what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            ObjectError::NotFound { .. } => Kind::Missing,
            ObjectError::Exists { .. } => Kind::Conflict,
            ObjectError::Invalid { .. } => Kind::Internal,
            ObjectError::Corrupt { .. } => Kind::Corrupt,
            ObjectError::Environment { .. } | ObjectError::KmsKey { .. } => Kind::Environment,
            ObjectError::Unavailable { .. } => Kind::Transient,
        }
    }
}

/// A store of immutable objects. Keys are `/`-separated segments of `[A-Za-z0-9._-]` of at most 255 bytes, none empty
/// or starting with a dot, and at most 512 bytes in total (see [`key`]). A key must not be a folder of another: `a` and
/// `a/b` exclude each other.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// Name of the store in errors and logs.
    fn name(&self) -> &str;

    /// Stores at most [`MAX_PUT_BYTES`] under a free key, durably.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError>;

    /// Stores a local file under a free key, durably. The store takes ownership of the file: an embedded store may
    /// rename it into place instead of copying it.
    async fn put_file(&self, key: &str, file: tempfile::TempPath) -> Result<ObjectMeta, ObjectError>;

    /// Directory for temporary files that [`ObjectStore::put_file`] can take over cheaply; `None` for the system's.
    fn spool_dir(&self) -> Option<PathBuf>;

    /// Reads a range of at most [`MAX_PUT_BYTES`], truncated at the end of the object.
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError>;

    /// Returns the metadata of an object, or `None` if it does not exist.
    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError>;

    /// Lists at most `limit` keys after `after` that start with `prefix`, which may end within a segment.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError>;

    /// Removes an object. Removing an absent object succeeds.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// Starts a multipart upload. The key stays free until [`ObjectStore::complete`].
    async fn begin(&self, key: &str) -> Result<Upload, ObjectError>;

    /// Stores a part, and replaces an earlier one with the same number.
    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError>;

    /// Stores a part of `size` bytes from the same offset of an object in another store, without passing the bytes
    /// through the caller. Returns `Ok(None)` if the two stores cannot do that or the source fails: the caller then
    /// reads the bytes itself and gets the source's error.
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

    /// Lists the intact parts of an upload by number, which need not be sent again. Fails with
    /// [`ObjectError::NotFound`] if the upload is gone.
    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError>;

    /// Makes the object visible, durably, if the key is free. Fails with [`ObjectError::Corrupt`] if the whole does not
    /// have the expected size and checksum.
    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError>;

    /// Removes an upload and its parts. Aborting an absent upload succeeds.
    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError>;

    /// Copies an object from another store without passing the bytes through this process. Returns `Ok(None)` if the
    /// two stores cannot: the caller then copies part by part.
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

    /// Removes unfinished work of killed processes: temporary files of this machine that were not modified for
    /// `temporary`, and uploads that began before `uploads` by the store's clock. Returns the number of files and
    /// uploads removed. Stores that expire unfinished work themselves do nothing.
    async fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        let _ = (temporary, uploads);
        Ok(0)
    }

    /// Returns the KMS key under which a new object of this key is encrypted; `None` if the store does not choose one.
    async fn kms_key(&self, key: &str) -> Result<Option<String>, ObjectError> {
        let _ = key;
        Ok(None)
    }

    /// Encrypts an existing object under the KMS key of [`ObjectStore::kms_key`], without passing its bytes through
    /// this process. The bytes stay the same; the time of creation is that of the call. A store without keys does
    /// nothing.
    async fn reencrypt(&self, key: &str) -> Result<Reencrypted, ObjectError> {
        let _ = key;
        Ok(Reencrypted::Done)
    }

    /// Returns the store for downcasting, so that another store of the same type can copy from it directly. Decorators
    /// return `None`, so that no byte bypasses them.
    fn concrete(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Path of the object as a local file, if the store keeps objects as files. The file must not be modified.
    fn local_path(&self, key: &str) -> Option<PathBuf>;
}
