//! Creation of objects, and resolution of requests whose answer is lost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::error::Failure;
use super::{MAX_SINGLE_PUT_BYTES, PARTS_IN_FLIGHT, S3Store, to_base64};
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, Crc64Hasher, ObjectError, ObjectMeta, ObjectStore as _, PART_BYTES, Part, Upload};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;

/// Value of `If-None-Match` with which S3 creates an object only if the key is free.
pub(super) const ABSENT: &str = "*";

/// Outcome of a request to create an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The object exists with the requested bytes.
    Done,
    /// A concurrent write conflicted; the request must be sent again. The text is S3's reason.
    Again(String),
}

impl S3Store {
    /// Creates an object in one request, and retries while S3 reports a conflicting one.
    pub(super) async fn put_bytes(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
        let full = self.full_key(key)?;
        let size = bytes.len() as u64;
        let crc64 = Crc64::of(&bytes);
        let encryption = self.encryption(key).await?;
        let sends = Sends::default();
        let mut conflicts = Attempts::default();
        loop {
            let request = self
                .client
                .put_object()
                .bucket(&self.options.bucket)
                .key(&full)
                .if_none_match(ABSENT)
                .checksum_crc64_nvme(to_base64(crc64))
                .set_server_side_encryption(encryption.algorithm())
                .set_ssekms_key_id(encryption.key_id())
                .set_bucket_key_enabled(encryption.bucket_key())
                .set_storage_class(self.options.storage_class())
                .body(bytes.clone().into())
                .customize()
                .interceptor(sends.clone())
                // The signed checksum header already protects the body; a SHA-256 would cost more than the transfer.
                .disable_payload_signing();
            let sent = request.send().await.map(drop).map_err(|error| Failure::of_create(&error, &sends));
            match self.settle(key, size, crc64, sent, sends.ambiguous()).await? {
                Settled::Done => {
                    return Ok(ObjectMeta::created(key, size, crc64));
                }
                Settled::Again(_) if conflicts.again(Kind::Conflict).await => {}
                Settled::Again(reason) => return Err(self.failed(key, "create", Failure::Busy(reason))),
            }
        }
    }

    /// Determines the outcome of a request to create an object. After an ambiguous failure the object is read back.
    pub(super) async fn settle(
        &self,
        key: &str,
        size: u64,
        crc64: Crc64,
        sent: Result<(), Failure>,
        in_doubt: bool,
    ) -> Result<Settled, ObjectError> {
        let Err(failure) = sent else { return Ok(Settled::Done) };
        let may_be_ours = match &failure {
            Failure::Busy(reason) => return Ok(Settled::Again(reason.clone())),
            Failure::Taken | Failure::NoUpload => in_doubt,
            Failure::Transient { ambiguous, .. } => *ambiguous || in_doubt,
            _ => false,
        };
        if may_be_ours {
            match self.is_ours(key, size, crc64).await {
                Ok(true) => return Ok(Settled::Done),
                Ok(false) => {}
                Err(error) => {
                    let reason = format!("the object may have been created, and cannot be read back: {error}");
                    return Err(self.unavailable(key, reason, true));
                }
            }
        }
        Err(self.failed(key, "create", failure))
    }

    /// Returns true if the object at the key has this size and checksum.
    pub(super) async fn is_ours(&self, key: &str, size: u64, crc64: Crc64) -> Result<bool, ObjectError> {
        let Some(found) = self.look_up(key).await?.filter(|found| found.size == size) else { return Ok(false) };
        match found.crc64 {
            Some(found) => Ok(found == crc64),
            None => Ok(self.read_checksum(key, size).await? == Some(crc64)),
        }
    }

    /// Computes the checksum of an object on servers that store none. Returns `None` if the object ends early.
    async fn read_checksum(&self, key: &str, size: u64) -> Result<Option<Crc64>, ObjectError> {
        let mut hasher = Crc64Hasher::default();
        let mut at = 0;
        while at < size {
            let bytes = self.read(key, at..(at + PART_BYTES).min(size)).await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            hasher.update(&bytes);
            at += bytes.len() as u64;
        }
        Ok(Some(hasher.finish()))
    }

    /// Stores a local file in one request, or in parts of which at most `PARTS_IN_MEMORY` are in memory.
    pub(super) async fn put_path(&self, key: &str, path: &Path) -> Result<ObjectMeta, ObjectError> {
        self.full_key(key)?;
        let opened = path.to_owned();
        let opened = on_disk(move || {
            let file = File::open(&opened)?;
            let metadata = file.metadata()?;
            let is_file = if metadata.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) };
            is_file.map(|()| (Arc::new(file), metadata.len()))
        });
        let (file, size) = opened.await.map_err(|error| self.unreadable(key, path, &error))?;
        if size > MAX_SINGLE_PUT_BYTES {
            return self.put_in_parts(key, path, file, size).await;
        }
        let permits = part_count(size);
        let _permits = self.memory.acquire_many(permits).await;
        let bytes = read_at(file, 0, size).await.map_err(|error| self.unreadable(key, path, &error))?;
        self.put_bytes(key, bytes).await
    }

    async fn put_in_parts(
        &self,
        key: &str,
        path: &Path,
        file: Arc<File>,
        size: u64,
    ) -> Result<ObjectMeta, ObjectError> {
        // An early check saves the transfer; the completion decides.
        if self.look_up(key).await?.is_some() {
            return Err(self.exists(key));
        }
        let mut attempts = Attempts::default();
        loop {
            match self.put_in_parts_once(key, path, file.clone(), size).await? {
                Ok(meta) => return Ok(meta),
                Err(_) if attempts.again(Kind::Conflict).await => {}
                Err(conflict) => return Err(self.failed(key, "create", Failure::Busy(conflict))),
            }
        }
    }

    /// Runs one multipart upload. Returns `Ok(Err(reason))` if it conflicted with another write.
    async fn put_in_parts_once(
        &self,
        key: &str,
        path: &Path,
        file: Arc<File>,
        size: u64,
    ) -> Result<Result<ObjectMeta, String>, ObjectError> {
        let upload = self.begin(key).await?;
        let parts = match self.send_parts(&upload, path, file, size).await {
            Ok(parts) => parts,
            // No completion was requested, so the upload can be aborted without doubt.
            Err(error) => {
                self.abort_failed(&upload).await;
                return Err(error);
            }
        };
        let crc64 = parts.iter().fold(Crc64::default(), |crc64, part| crc64.followed_by(part.crc64, part.size));
        let done = self.try_complete(&upload, &parts, size, crc64).await;
        if let Err(error) = &done
            && !matches!(error, ObjectError::Unavailable { ambiguous: true, .. })
        {
            self.abort_failed(&upload).await;
        }
        done
    }

    /// Aborts a failed upload. Failures are only logged, as a later sweep aborts stale uploads.
    async fn abort_failed(&self, upload: &Upload) {
        if let Err(error) = self.abort(upload).await {
            tracing::warn!(%error, key = upload.key, "cannot abort a failed upload; a sweep aborts it later");
        }
    }

    async fn send_parts(
        &self,
        upload: &Upload,
        path: &Path,
        file: Arc<File>,
        size: u64,
    ) -> Result<Vec<Part>, ObjectError> {
        let pieces: Vec<_> =
            (0..part_count(size)).map(|number| self.send_piece(upload, number, path, file.clone(), size)).collect();
        stream::iter(pieces).buffered(PARTS_IN_FLIGHT).try_collect().await
    }

    async fn send_piece(
        &self,
        upload: &Upload,
        number: u32,
        path: &Path,
        file: Arc<File>,
        size: u64,
    ) -> Result<Part, ObjectError> {
        let _permit = self.memory.acquire().await;
        let start = u64::from(number) * PART_BYTES;
        let bytes = read_at(file, start, (size - start).min(PART_BYTES)).await;
        self.put_part(upload, number, bytes.map_err(|error| self.unreadable(&upload.key, path, &error))?).await
    }

    fn unreadable(&self, key: &str, path: &Path, error: &io::Error) -> ObjectError {
        let reason = format!("cannot read {}: {error}", path.display());
        ObjectError::Environment { store: self.name.clone(), key: key.to_owned(), reason }
    }
}

/// Number of parts of a file of `size` bytes.
fn part_count(size: u64) -> u32 {
    let Ok(count) = u32::try_from(size.div_ceil(PART_BYTES)) else { unreachable!("no file has {size} bytes") };
    count
}

/// Reads exactly `length` bytes of a file.
async fn read_at(file: Arc<File>, offset: u64, length: u64) -> io::Result<Bytes> {
    on_disk(move || {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    })
    .await
}

pub(super) async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::other("the runtime is shutting down")),
    }
}
