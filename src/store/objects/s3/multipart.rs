//! S3 multipart uploads, with a checksum of each part and of the whole.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::bucket::Bucket;
use super::checksum::{from_base64, to_base64};
use super::create::{ABSENT, Settled, put_bytes, settle};
use super::error::Failure;
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, ObjectError, ObjectMeta, Part, Upload, parts};

/// Most parts of one page of a listing (S3's limit).
const MAX_LIST_PARTS: i32 = 1_000;

pub(super) async fn begin_upload(bucket: &Bucket, key: &str) -> Result<Upload, ObjectError> {
    let full = bucket.full_key(key)?;
    let encryption = bucket.encryption(key).await?;
    let request = bucket
        .client()
        .create_multipart_upload()
        .bucket(bucket.name())
        .key(full)
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject)
        .set_server_side_encryption(encryption.algorithm())
        .set_ssekms_key_id(encryption.key_id())
        .set_bucket_key_enabled(encryption.bucket_key())
        .set_storage_class(bucket.options().storage_class());
    let answer = request.send().await.map_err(|error| bucket.failed(key, "begin", Failure::of_write(&error)))?;
    match answer.upload_id {
        Some(token) if !token.is_empty() => Ok(Upload { key: key.to_owned(), token }),
        _ => Err(bucket.unavailable(key, "S3 returned no upload id".into(), false)),
    }
}

pub(super) async fn send_part(
    bucket: &Bucket,
    upload: &Upload,
    number: u32,
    bytes: Bytes,
) -> Result<Part, ObjectError> {
    let key = &upload.key;
    parts::check_part(number, bytes.len()).map_err(|reason| bucket.invalid(key, reason))?;
    let full = bucket.full_key(key)?;
    let size = bytes.len() as u64;
    let crc64 = Crc64::of(&bytes);
    let request = bucket
        .client()
        .upload_part()
        .bucket(bucket.name())
        .key(full)
        .upload_id(&upload.token)
        .part_number(number_in_s3(number))
        .checksum_crc64_nvme(to_base64(crc64))
        .body(bytes.into())
        .customize()
        .disable_payload_signing();
    let answer = request.send().await;
    let answer = answer.map_err(|error| bucket.failed(key, "send a part of", Failure::of_write(&error)))?;
    let tag = tag(answer.e_tag.as_deref());
    let tag = tag.ok_or_else(|| bucket.unavailable(key, "S3 returned no ETag of a part".into(), false))?;
    Ok(Part { number, size, crc64, tag })
}

pub(super) async fn list_parts(bucket: &Bucket, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
    let key = &upload.key;
    let full = bucket.full_key(key)?;
    let mut found = Vec::new();
    let mut marker = None;
    loop {
        let request = bucket
            .client()
            .list_parts()
            .bucket(bucket.name())
            .key(&full)
            .upload_id(&upload.token)
            .max_parts(MAX_LIST_PARTS)
            .set_part_number_marker(marker);
        let page = request.send().await;
        let page = page.map_err(|error| bucket.failed(key, "list the parts of", Failure::of_read(&error)))?;
        // A part without a checksum cannot be verified and is sent again.
        found.extend(page.parts().iter().filter_map(part_of));
        marker = page.next_part_number_marker.filter(|_| page.is_truncated == Some(true));
        if marker.is_none() {
            return Ok(found);
        }
    }
}

pub(super) async fn complete_upload(
    bucket: &Bucket,
    upload: &Upload,
    parts: &[Part],
    size: u64,
    crc64: Crc64,
) -> Result<ObjectMeta, ObjectError> {
    match try_complete(bucket, upload, parts, size, crc64).await? {
        Ok(meta) => Ok(meta),
        Err(conflict) => Err(bucket.failed(&upload.key, "complete", Failure::Busy(conflict))),
    }
}

/// Completes an upload. Returns `Ok(Err(reason))` if the upload conflicted with another write. S3 cannot complete
/// such an upload any more, so it is aborted, and the next attempt must start a new one.
pub(super) async fn try_complete(
    bucket: &Bucket,
    upload: &Upload,
    parts: &[Part],
    size: u64,
    crc64: Crc64,
) -> Result<Result<ObjectMeta, String>, ObjectError> {
    let key = &upload.key;
    bucket.full_key(key)?;
    parts::check_complete(parts, size, crc64).map_err(|reason| bucket.corrupt(key, reason))?;
    if parts.is_empty() {
        // S3 cannot complete an upload without parts.
        let meta = put_bytes(bucket, key, Bytes::new()).await?;
        abort_upload(bucket, upload).await?;
        return Ok(Ok(meta));
    }
    let sends = Sends::default();
    let sent = send_complete(bucket, upload, parts, size, crc64, &sends).await;
    match settle(bucket, key, size, crc64, sent, sends.ambiguous()).await? {
        Settled::Done => Ok(Ok(ObjectMeta::created(key, size, crc64))),
        Settled::Again(reason) => {
            abort_upload(bucket, upload).await?;
            Ok(Err(format!("{reason}; the upload must be started again")))
        }
    }
}

/// Completes with the checksum of the whole. A server that supports only composite checksums refuses that; such a
/// server has verified each part, and the checksums of the parts determine that of the whole.
async fn send_complete(
    bucket: &Bucket,
    upload: &Upload,
    parts: &[Part],
    size: u64,
    crc64: Crc64,
    sends: &Sends,
) -> Result<(), Failure> {
    if !bucket.is_composite_only() {
        match send_complete_with(bucket, upload, parts, size, Some(crc64), sends).await {
            Err(Failure::Digest(reason)) => {
                if has_full_object_checksum(bucket, upload).await? {
                    return Err(Failure::Digest(reason));
                }
                bucket.found_composite_only();
            }
            result => return result,
        }
    }
    send_complete_with(bucket, upload, parts, size, None, sends).await
}

async fn send_complete_with(
    bucket: &Bucket,
    upload: &Upload,
    parts: &[Part],
    size: u64,
    whole: Option<Crc64>,
    sends: &Sends,
) -> Result<(), Failure> {
    let parts = parts.iter().map(|part| {
        CompletedPart::builder()
            .part_number(number_in_s3(part.number))
            .e_tag(&part.tag)
            .checksum_crc64_nvme(to_base64(part.crc64))
            .build()
    });
    let request = bucket
        .client()
        .complete_multipart_upload()
        .bucket(bucket.name())
        .key(bucket.options().full_key(&upload.key))
        .upload_id(&upload.token)
        .if_none_match(ABSENT)
        .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build())
        .set_mpu_object_size(i64::try_from(size).ok())
        .set_checksum_type(whole.map(|_| ChecksumType::FullObject))
        .set_checksum_crc64_nvme(whole.map(to_base64))
        .customize()
        .interceptor(sends.clone());
    let answer = request.send().await.map_err(|error| Failure::of_create(&error, sends))?;
    match answer.e_tag {
        Some(_) => Ok(()),
        None => {
            let reason = "S3 answered CompleteMultipartUpload without an ETag".into();
            Err(Failure::Transient { reason, ambiguous: true })
        }
    }
}

/// Returns true if the server computes a checksum of the whole for this upload.
async fn has_full_object_checksum(bucket: &Bucket, upload: &Upload) -> Result<bool, Failure> {
    let request = bucket
        .client()
        .list_parts()
        .bucket(bucket.name())
        .key(bucket.options().full_key(&upload.key))
        .upload_id(&upload.token)
        .max_parts(1);
    let page = request.send().await.map_err(|error| Failure::of_read(&error))?;
    Ok(page.checksum_type == Some(ChecksumType::FullObject))
}

pub(super) async fn abort_upload(bucket: &Bucket, upload: &Upload) -> Result<(), ObjectError> {
    let full = bucket.full_key(&upload.key)?;
    let request = bucket.client().abort_multipart_upload().bucket(bucket.name()).key(full);
    match request.upload_id(&upload.token).send().await.map_err(|error| Failure::of_write(&error)) {
        Ok(_) | Err(Failure::NoUpload | Failure::NoKey) => Ok(()),
        Err(failure) => Err(bucket.failed(&upload.key, "abort the upload of", failure)),
    }
}

/// Part number in S3, which counts from 1.
pub(super) fn number_in_s3(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX).saturating_add(1)
}

/// Strips the quotes of an ETag.
pub(super) fn tag(e_tag: Option<&str>) -> Option<String> {
    Some(e_tag?.trim_matches('"').to_owned())
}

fn part_of(part: &aws_sdk_s3::types::Part) -> Option<Part> {
    Some(Part {
        number: u32::try_from(part.part_number?.checked_sub(1)?).ok()?,
        size: u64::try_from(part.size?).ok()?,
        crc64: from_base64(part.checksum_crc64_nvme.as_deref()?)?,
        tag: tag(part.e_tag.as_deref())?,
    })
}
