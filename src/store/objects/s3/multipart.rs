//! S3 multipart uploads, with a checksum of each part and of the whole.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::create::{ABSENT, Settled};
use super::error::Failure;
use super::{S3Store, from_base64, to_base64};
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, ObjectError, ObjectMeta, Part, Upload, parts};

/// Most parts of one page of a listing (S3's limit).
const MAX_LIST_PARTS: i32 = 1_000;

impl S3Store {
    pub(super) async fn begin_upload(&self, key: &str) -> Result<Upload, ObjectError> {
        let full = self.full_key(key)?;
        let encryption = self.encryption(key).await?;
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.options.bucket)
            .key(full)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .set_server_side_encryption(encryption.algorithm())
            .set_ssekms_key_id(encryption.key_id())
            .set_bucket_key_enabled(encryption.bucket_key())
            .set_storage_class(self.options.storage_class());
        let answer = request.send().await.map_err(|error| self.failed(key, "begin", Failure::of_write(&error)))?;
        match answer.upload_id {
            Some(token) if !token.is_empty() => Ok(Upload { key: key.to_owned(), token }),
            _ => Err(self.unavailable(key, "S3 returned no upload id".into(), false)),
        }
    }

    pub(super) async fn send_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError> {
        let key = &upload.key;
        let full = self.full_key(key)?;
        let size = bytes.len() as u64;
        let crc64 = Crc64::of(&bytes);
        let request = self
            .client
            .upload_part()
            .bucket(&self.options.bucket)
            .key(full)
            .upload_id(&upload.token)
            .part_number(number_in_s3(number))
            .checksum_crc64_nvme(to_base64(crc64))
            .body(bytes.into())
            .customize()
            .disable_payload_signing();
        let answer = request.send().await;
        let answer = answer.map_err(|error| self.failed(key, "send a part of", Failure::of_write(&error)))?;
        let tag = tag(answer.e_tag.as_deref());
        let tag = tag.ok_or_else(|| self.unavailable(key, "S3 returned no ETag of a part".into(), false))?;
        Ok(Part { number, size, crc64, tag })
    }

    pub(super) async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        let key = &upload.key;
        let full = self.full_key(key)?;
        let mut found = Vec::new();
        let mut marker = None;
        loop {
            let request = self
                .client
                .list_parts()
                .bucket(&self.options.bucket)
                .key(&full)
                .upload_id(&upload.token)
                .max_parts(MAX_LIST_PARTS)
                .set_part_number_marker(marker);
            let page = request.send().await;
            let page = page.map_err(|error| self.failed(key, "list the parts of", Failure::of_read(&error)))?;
            // A part without a checksum cannot be verified and is sent again.
            found.extend(page.parts().iter().filter_map(part_of));
            marker = page.next_part_number_marker.filter(|_| page.is_truncated == Some(true));
            if marker.is_none() {
                return Ok(found);
            }
        }
    }

    pub(super) async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        match self.try_complete(upload, parts, size, crc64).await? {
            Ok(meta) => Ok(meta),
            Err(conflict) => Err(self.failed(&upload.key, "complete", Failure::Busy(conflict))),
        }
    }

    /// Completes an upload. Returns `Ok(Err(reason))` if the upload conflicted with another write. S3 cannot complete
    /// such an upload any more, so it is aborted, and the next attempt must start a new one.
    pub(super) async fn try_complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<Result<ObjectMeta, String>, ObjectError> {
        let key = &upload.key;
        self.full_key(key)?;
        parts::check_complete(parts, size, crc64).map_err(|reason| self.corrupt(key, reason))?;
        if parts.is_empty() {
            // S3 cannot complete an upload without parts.
            let meta = self.put_bytes(key, Bytes::new()).await?;
            self.abort_upload(upload).await?;
            return Ok(Ok(meta));
        }
        let sends = Sends::default();
        let sent = self.send_complete(upload, parts, size, crc64, &sends).await;
        match self.settle(key, size, crc64, sent, sends.ambiguous()).await? {
            Settled::Done => Ok(Ok(ObjectMeta::created(key, size, crc64))),
            Settled::Again(reason) => {
                self.abort_upload(upload).await?;
                Ok(Err(format!("{reason}; the upload must be started again")))
            }
        }
    }

    /// Completes with the checksum of the whole. A server that supports only composite checksums refuses that; such a
    /// server has verified each part, and the checksums of the parts determine that of the whole.
    async fn send_complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
        sends: &Sends,
    ) -> Result<(), Failure> {
        if !self.composite_only.load(Ordering::Relaxed) {
            match self.send_complete_with(upload, parts, size, Some(crc64), sends).await {
                Err(Failure::Digest(reason)) => {
                    if self.has_full_object_checksum(upload).await? {
                        return Err(Failure::Digest(reason));
                    }
                    self.composite_only.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.send_complete_with(upload, parts, size, None, sends).await
    }

    async fn send_complete_with(
        &self,
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
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.options.bucket)
            .key(self.options.full_key(&upload.key))
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
    async fn has_full_object_checksum(&self, upload: &Upload) -> Result<bool, Failure> {
        let request = self
            .client
            .list_parts()
            .bucket(&self.options.bucket)
            .key(self.options.full_key(&upload.key))
            .upload_id(&upload.token)
            .max_parts(1);
        let page = request.send().await.map_err(|error| Failure::of_read(&error))?;
        Ok(page.checksum_type == Some(ChecksumType::FullObject))
    }

    pub(super) async fn abort_upload(&self, upload: &Upload) -> Result<(), ObjectError> {
        let full = self.full_key(&upload.key)?;
        let request = self.client.abort_multipart_upload().bucket(&self.options.bucket).key(full);
        match request.upload_id(&upload.token).send().await.map_err(|error| Failure::of_write(&error)) {
            Ok(_) | Err(Failure::NoUpload | Failure::NoKey) => Ok(()),
            Err(failure) => Err(self.failed(&upload.key, "abort the upload of", failure)),
        }
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
