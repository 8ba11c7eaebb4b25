//! Creation of objects, and resolution of requests whose answer is lost.

use bytes::Bytes;

use super::bucket::Bucket;
use super::checksum::to_base64;
use super::error::Failure;
use super::read::{look_up, read};
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, Crc64Hasher, ObjectError, ObjectMeta, PART_BYTES};
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

/// Creates an object in one request, and retries while S3 reports a conflicting one.
pub(super) async fn put_bytes(bucket: &Bucket, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
    let full = bucket.full_key(key)?;
    let size = bytes.len() as u64;
    let crc64 = Crc64::of(&bytes);
    let encryption = bucket.encryption(key).await?;
    let sends = Sends::default();
    let mut conflicts = Attempts::default();
    loop {
        let request = bucket
            .client()
            .put_object()
            .bucket(bucket.name())
            .key(&full)
            .if_none_match(ABSENT)
            .checksum_crc64_nvme(to_base64(crc64))
            .set_server_side_encryption(encryption.algorithm())
            .set_ssekms_key_id(encryption.key_id())
            .set_bucket_key_enabled(encryption.bucket_key())
            .set_storage_class(bucket.options().storage_class())
            .body(bytes.clone().into())
            .customize()
            .interceptor(sends.clone())
            // The signed checksum header already protects the body; a SHA-256 would cost more than the transfer.
            .disable_payload_signing();
        let sent = request.send().await.map(drop).map_err(|error| Failure::of_create(&error, &sends));
        match settle(bucket, key, size, crc64, sent, sends.ambiguous()).await? {
            Settled::Done => {
                return Ok(ObjectMeta::created(key, size, crc64));
            }
            Settled::Again(_) if conflicts.again(Kind::Conflict).await => {}
            Settled::Again(reason) => return Err(bucket.failed(key, "create", Failure::Busy(reason))),
        }
    }
}

/// Determines the outcome of a request to create an object. After an ambiguous failure the object is read back.
pub(super) async fn settle(
    bucket: &Bucket,
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
        match is_ours(bucket, key, size, crc64).await {
            Ok(true) => return Ok(Settled::Done),
            Ok(false) => {}
            Err(error) => {
                let reason = format!("the object may have been created, and cannot be read back: {error}");
                return Err(bucket.unavailable(key, reason, true));
            }
        }
    }
    Err(bucket.failed(key, "create", failure))
}

/// Returns true if the object at the key has this size and checksum.
pub(super) async fn is_ours(bucket: &Bucket, key: &str, size: u64, crc64: Crc64) -> Result<bool, ObjectError> {
    let Some(found) = look_up(bucket, key).await?.filter(|found| found.size == size) else { return Ok(false) };
    match found.crc64 {
        Some(found) => Ok(found == crc64),
        None => Ok(read_checksum(bucket, key, size).await? == Some(crc64)),
    }
}

/// Computes the checksum of an object on servers that store none. Returns `None` if the object ends early.
async fn read_checksum(bucket: &Bucket, key: &str, size: u64) -> Result<Option<Crc64>, ObjectError> {
    let mut hasher = Crc64Hasher::default();
    let mut at = 0;
    while at < size {
        let bytes = read(bucket, key, at..(at + PART_BYTES).min(size)).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(Some(hasher.finish()))
}
