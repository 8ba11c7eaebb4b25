//! Creation of objects from local files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;

use super::bucket::Bucket;
use super::create::put_bytes;
use super::error::Failure;
use super::multipart::{abort_upload, begin_upload, send_part, try_complete};
use super::read::look_up;
use crate::objects::{Crc64, ObjectError, ObjectMeta, PART_BYTES, Part, Upload};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;

/// Largest file that is sent in one request, in bytes. Larger files are sent in parts.
pub const MAX_SINGLE_PUT_BYTES: u64 = 2 * PART_BYTES;
/// Parts of one file that are sent concurrently.
pub const PARTS_IN_FLIGHT: usize = 4;
/// Most parts of files that one store buffers in memory: 6 × 8 MiB.
pub const PARTS_IN_MEMORY: usize = 6;
const _: () =
    assert!(MAX_SINGLE_PUT_BYTES / PART_BYTES <= PARTS_IN_MEMORY as u64, "a single put fits the memory for parts");

/// Stores a local file in one request, or in parts. `memory` has one permit for each part in memory.
pub(super) async fn put_file(
    bucket: &Bucket,
    memory: &Semaphore,
    key: &str,
    path: &Path,
) -> Result<ObjectMeta, ObjectError> {
    bucket.full_key(key)?;
    let opened = path.to_owned();
    let opened = on_disk(move || open(&opened)).await;
    let (file, size) = opened.map_err(|error| unreadable(bucket, key, path, &error))?;
    let local = LocalFile { bucket, memory, key, path, file, size };
    if size > MAX_SINGLE_PUT_BYTES { local.put_in_parts().await } else { local.put_whole().await }
}

fn open(path: &Path) -> io::Result<(Arc<File>, u64)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((Arc::new(file), metadata.len()))
}

/// File on its way to a bucket.
struct LocalFile<'a> {
    bucket: &'a Bucket,
    memory: &'a Semaphore,
    /// Key of the object that is created.
    key: &'a str,
    path: &'a Path,
    file: Arc<File>,
    /// Size in bytes.
    size: u64,
}

impl LocalFile<'_> {
    async fn put_whole(&self) -> Result<ObjectMeta, ObjectError> {
        let _permits = self.memory.acquire_many(part_count(self.size)).await;
        put_bytes(self.bucket, self.key, self.read(0, self.size).await?).await
    }

    async fn put_in_parts(&self) -> Result<ObjectMeta, ObjectError> {
        // An early check saves the transfer; the completion decides.
        if look_up(self.bucket, self.key).await?.is_some() {
            return Err(self.bucket.exists(self.key));
        }
        let mut attempts = Attempts::default();
        loop {
            match self.put_in_parts_once().await? {
                Ok(meta) => return Ok(meta),
                Err(_) if attempts.again(Kind::Conflict).await => {}
                Err(conflict) => return Err(self.bucket.failed(self.key, "create", Failure::Busy(conflict))),
            }
        }
    }

    /// Runs one multipart upload. Returns `Ok(Err(reason))` if it conflicted with another write.
    async fn put_in_parts_once(&self) -> Result<Result<ObjectMeta, String>, ObjectError> {
        let upload = begin_upload(self.bucket, self.key).await?;
        let parts = match self.send_parts(&upload).await {
            Ok(parts) => parts,
            // No completion was requested, so the upload can be aborted without doubt.
            Err(error) => {
                abort_failed(self.bucket, &upload).await;
                return Err(error);
            }
        };
        let crc64 = parts.iter().fold(Crc64::default(), |crc64, part| crc64.followed_by(part.crc64, part.size));
        let done = try_complete(self.bucket, &upload, &parts, self.size, crc64).await;
        if let Err(error) = &done
            && !matches!(error, ObjectError::Unavailable { ambiguous: true, .. })
        {
            abort_failed(self.bucket, &upload).await;
        }
        done
    }

    async fn send_parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        let parts: Vec<_> = (0..part_count(self.size)).map(|number| self.send_part(upload, number)).collect();
        stream::iter(parts).buffered(PARTS_IN_FLIGHT).try_collect().await
    }

    async fn send_part(&self, upload: &Upload, number: u32) -> Result<Part, ObjectError> {
        let _permit = self.memory.acquire().await;
        let start = u64::from(number) * PART_BYTES;
        let bytes = self.read(start, (self.size - start).min(PART_BYTES)).await?;
        send_part(self.bucket, upload, number, bytes).await
    }

    async fn read(&self, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let bytes = read_at(self.file.clone(), offset, length).await;
        bytes.map_err(|error| unreadable(self.bucket, self.key, self.path, &error))
    }
}

/// Aborts a failed upload. Failures are only logged, as a later sweep aborts stale uploads.
async fn abort_failed(bucket: &Bucket, upload: &Upload) {
    if let Err(error) = abort_upload(bucket, upload).await {
        tracing::warn!(%error, key = upload.key, "cannot abort a failed upload; a sweep aborts it later");
    }
}

fn unreadable(bucket: &Bucket, key: &str, path: &Path, error: &io::Error) -> ObjectError {
    bucket.environment(key, format!("cannot read {}: {error}", path.display()))
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
