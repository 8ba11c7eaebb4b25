//! Reads of ranges, metadata and listings.

use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::bucket::Bucket;
use super::checksum::from_base64;
use super::error::Failure;
use crate::objects::{ListPage, MAX_LIST_KEYS, MAX_PUT_BYTES, ObjectError, ObjectMeta, key};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;

/// Largest offset in an object: S3 uses signed 64-bit integers.
const MAX_OBJECT_BYTES: u64 = i64::MAX as u64;

pub(super) async fn read(bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
    bucket.full_key(key)?;
    if range.start > range.end || range.end - range.start > MAX_PUT_BYTES {
        let reason = format!("invalid range {range:?}; at most {MAX_PUT_BYTES} bytes can be read at once");
        return Err(bucket.invalid(key, reason));
    }
    if range.is_empty() || range.start >= MAX_OBJECT_BYTES {
        // An empty read must still fail for an absent object.
        return match look_up(bucket, key).await? {
            Some(_) => Ok(Bytes::new()),
            None => Err(bucket.not_found(key)),
        };
    }
    let mut attempts = Attempts::default();
    loop {
        match read_once(bucket, key, &range).await {
            Ok(bytes) => return Ok(bytes),
            // The SDK retries requests, but not answers that end early.
            Err(ReadFailure::Body(reason)) if attempts.again(Kind::Transient).await => {
                tracing::debug!(key, reason, "retrying a read that ended early");
            }
            Err(ReadFailure::Body(reason)) => return Err(bucket.unavailable(key, reason, false)),
            Err(ReadFailure::Request(Failure::Range)) => return Ok(Bytes::new()),
            Err(ReadFailure::Request(failure)) => return Err(bucket.failed(key, "read", failure)),
        }
    }
}

async fn read_once(bucket: &Bucket, key: &str, range: &Range<u64>) -> Result<Bytes, ReadFailure> {
    let request = bucket
        .client()
        .get_object()
        .bucket(bucket.name())
        .key(bucket.options().full_key(key))
        .range(format!("bytes={}-{}", range.start, range.end - 1));
    let answer = request.send().await.map_err(|error| ReadFailure::Request(Failure::of_read(&error)))?;
    collect(answer, range.end - range.start).await.map_err(ReadFailure::Body)
}

pub(super) async fn look_up(bucket: &Bucket, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
    let full = bucket.full_key(key)?;
    let request = bucket.client().head_object().bucket(bucket.name()).key(full);
    let answer = request.checksum_mode(ChecksumMode::Enabled).send().await;
    match answer.map_err(|error| Failure::of_read(&error)) {
        Ok(answer) => {
            let size = answer.content_length.and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| bucket.unavailable(key, "S3 returned no size".into(), false))?;
            let crc64 = answer.checksum_crc64_nvme.as_deref().and_then(from_base64);
            let modified = answer.last_modified.as_ref().and_then(timestamp);
            Ok(Some(ObjectMeta { key: key.to_owned(), size, crc64, modified, kms_key: answer.ssekms_key_id }))
        }
        Err(Failure::NoKey) => Ok(None),
        Err(failure) => Err(bucket.failed(key, "look up", explain(bucket, key, failure).await)),
    }
}

/// An answer to HEAD has no body that says why. A KMS key that cannot be used is what a read of one byte tells.
async fn explain(bucket: &Bucket, key: &str, failure: Failure) -> Failure {
    if !failure.is_unexplained() {
        return failure;
    }
    match read_once(bucket, key, &(0..1)).await {
        Err(ReadFailure::Request(cause @ Failure::KmsKey { .. })) => cause,
        _ => failure,
    }
}

pub(super) async fn list_page(
    bucket: &Bucket,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<ListPage, ObjectError> {
    key::check_prefix(prefix).map_err(|reason| bucket.invalid(prefix, reason))?;
    if limit == 0 {
        return Err(bucket.invalid(prefix, "a listing has a limit of 0 keys".to_owned()));
    }
    let request = bucket
        .client()
        .list_objects_v2()
        .bucket(bucket.name())
        .prefix(bucket.options().full_key(prefix))
        .set_start_after(after.filter(|after| !after.is_empty()).map(|after| bucket.options().full_key(after)))
        .max_keys(i32::try_from(limit.min(MAX_LIST_KEYS)).unwrap_or(i32::MAX));
    let page = request.send().await.map_err(|error| bucket.failed(prefix, "list", Failure::of_read(&error)))?;
    let mut listed = ListPage::default();
    for object in page.contents() {
        // Without it, the object would count as absent.
        let incomplete = || bucket.unavailable(prefix, "S3 listed an object without its key or size".into(), false);
        let full = object.key().ok_or_else(incomplete)?;
        listed.next = bucket.options().without_prefix(full).map(str::to_owned);
        // Skips foreign objects, whose names are no keys.
        let Some(key) = bucket.options().own_key(full) else { continue };
        let size = object.size.and_then(|size| u64::try_from(size).ok()).ok_or_else(incomplete)?;
        let modified = object.last_modified.as_ref().and_then(timestamp);
        listed.objects.push(ObjectMeta { key: key.to_owned(), size, crc64: None, modified, kms_key: None });
    }
    if page.is_truncated != Some(true) {
        listed.next = None;
    }
    Ok(listed)
}

fn timestamp(time: &aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// Failure of a read.
enum ReadFailure {
    /// Failure of the request.
    Request(Failure),
    /// The answer was truncated or malformed.
    Body(String),
}

/// Collects the body of an answer, of at most `limit` bytes.
async fn collect(mut answer: GetObjectOutput, limit: u64) -> Result<Bytes, String> {
    let announced = answer.content_length.and_then(|length| u64::try_from(length).ok());
    let length = announced.ok_or("the answer has no Content-Length")?;
    if length > limit {
        return Err(format!("the answer has {length} bytes, more than the {limit} requested"));
    }
    let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
    while let Some(chunk) = answer.body.try_next().await.map_err(|error| format!("the answer ended early: {error}"))? {
        if (bytes.len() + chunk.len()) as u64 > length {
            return Err(format!("the answer exceeds its announced {length} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() as u64 != length {
        return Err(format!("the answer ended after {} of {length} bytes", bytes.len()));
    }
    Ok(bytes.freeze())
}
