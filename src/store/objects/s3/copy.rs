//! Copies between buckets within S3, across regions and accounts, without passing the bytes through this process.
//!
//! Requests use the target's credentials. If S3 denies the copy, the caller transfers the bytes itself.

use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::ChecksumAlgorithm;

use super::bucket::Bucket;
use super::checksum::from_base64;
use super::copy_state::CopyState;
use super::create::{ABSENT, Settled, is_ours, settle};
use super::delete::delete;
use super::encryption::Encryption;
use super::error::Failure;
use super::multipart::{number_in_s3, tag};
use super::read::look_up;
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, ObjectError, ObjectMeta, Part, Reencrypted, Upload, parts};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;

/// Limit for one CopyObject. S3 answers only once the copy is complete.
pub const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Copies from a source bucket to a target bucket.
pub(super) struct Copies<'a> {
    target: &'a Bucket,
    source: &'a Bucket,
    /// Results of earlier copies to the target.
    state: &'a CopyState,
}

impl<'a> Copies<'a> {
    pub(super) fn new(target: &'a Bucket, source: &'a Bucket, state: &'a CopyState) -> Self {
        Copies { target, source, state }
    }

    /// Copies an object. Returns `None` if the caller has to transfer the bytes.
    pub(super) async fn copy_object(
        &self,
        source_key: &str,
        key: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<Option<ObjectMeta>, ObjectError> {
        self.target.full_key(key)?;
        self.source.full_key(source_key)?;
        if size > self.state.max_bytes() || !self.can_ask() {
            return Ok(None);
        }
        let encryption = self.target.encryption(key).await?;
        let sends = Sends::default();
        let mut conflicts = Attempts::default();
        loop {
            let source = copy_source(self.source, source_key);
            let sent = match send_copy(self.target, source, key, &encryption, Some(ABSENT), &sends).await {
                Ok(reported) => {
                    self.check_copy(key, size, crc64, reported).await?;
                    Ok(())
                }
                Err(failure) if self.falls_back_to_transfer(&failure) => return Ok(None),
                Err(failure) => Err(failure),
            };
            match settle(self.target, key, size, crc64, sent, sends.ambiguous()).await? {
                Settled::Done => return Ok(Some(ObjectMeta::created(key, size, crc64))),
                Settled::Again(_) if conflicts.again(Kind::Conflict).await => {}
                Settled::Again(reason) => return Err(self.target.failed(key, "copy", Failure::Busy(reason))),
            }
        }
    }

    /// Verifies that a copy has the expected bytes, by the checksum in the answer or else by that of the object.
    async fn check_copy(&self, key: &str, size: u64, crc64: Crc64, reported: Option<Crc64>) -> Result<(), ObjectError> {
        let intact = match reported {
            Some(reported) => reported == crc64,
            None => is_ours(self.target, key, size, crc64).await?,
        };
        if intact {
            return Ok(());
        }
        // A damaged copy must not be mistaken for the object later.
        delete(self.target, key).await?;
        let reason = format!("the copy does not have the announced {size} bytes with CRC-64/NVME {crc64}; removed it");
        Err(self.target.corrupt(key, reason))
    }

    /// Copies a part of an upload. Returns `None` if the caller has to transfer the bytes.
    pub(super) async fn copy_part(
        &self,
        upload: &Upload,
        number: u32,
        size: u64,
        source_key: &str,
    ) -> Result<Option<Part>, ObjectError> {
        let key = &upload.key;
        let full = self.target.full_key(key)?;
        self.source.full_key(source_key)?;
        if !self.can_ask() || self.state.lacks_part_checksums() {
            return Ok(None);
        }
        let start = parts::offset(number);
        let request = self
            .target
            .client()
            .upload_part_copy()
            .bucket(self.target.name())
            .key(full)
            .upload_id(&upload.token)
            .part_number(number_in_s3(number))
            .copy_source(copy_source(self.source, source_key))
            .copy_source_range(format!("bytes={start}-{}", start + size - 1));
        let answer = match request.send().await.map_err(|error| Failure::of_write(&error)) {
            Ok(answer) => answer.copy_part_result,
            // The missing upload is the target's, as a source needs none.
            Err(Failure::NoUpload) => return Err(self.target.not_found(key)),
            Err(failure) if self.falls_back_to_transfer(&failure) => return Ok(None),
            Err(failure) => return Err(self.target.failed(key, "copy a part of", failure)),
        };
        let crc64 = answer.as_ref().and_then(|result| from_base64(result.checksum_crc64_nvme.as_deref()?));
        let Some(crc64) = crc64 else {
            self.state.found_no_part_checksum();
            return Ok(None);
        };
        let tag = tag(answer.as_ref().and_then(|result| result.e_tag.as_deref()));
        let tag = tag.ok_or_else(|| self.target.unavailable(key, "S3 returned no ETag of a part".into(), false))?;
        Ok(Some(Part { number, size, crc64, tag }))
    }

    /// Returns true if S3 can copy between the buckets, and the source has not denied a copy recently.
    fn can_ask(&self) -> bool {
        self.target.can_copy_from(self.source) && !self.state.is_denied(self.source.name())
    }

    /// Returns true if the caller should transfer the bytes itself, which reveals errors of source and target.
    fn falls_back_to_transfer(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Taken | Failure::Busy(_) | Failure::Transient { .. } => false,
            Failure::Denied(reason) | Failure::Unsupported(reason) => {
                tracing::warn!(
                    store = self.target.store(),
                    source = self.source.store(),
                    reason,
                    "S3 denies the copy; transferring the bytes through this process, which costs time and traffic"
                );
                self.state.deny(self.source.name());
                true
            }
            failure => {
                tracing::debug!(
                    store = self.target.store(),
                    source = self.source.store(),
                    ?failure,
                    "S3 refused a copy"
                );
                true
            }
        }
    }
}

/// Copies an object onto itself, which S3 allows to change its encryption. Reads meanwhile get the same bytes.
pub(super) async fn copy_onto_itself(
    bucket: &Bucket,
    state: &CopyState,
    key: &str,
) -> Result<Reencrypted, ObjectError> {
    let Some(stored) = look_up(bucket, key).await? else { return Ok(Reencrypted::Gone) };
    if stored.size > state.max_bytes() {
        return Ok(Reencrypted::TooLarge);
    }
    let encryption = bucket.encryption(key).await?;
    let copied = match send_copy(bucket, copy_source(bucket, key), key, &encryption, None, &Sends::default()).await {
        Ok(copied) => copied,
        // A sweep has removed it meanwhile.
        Err(Failure::NoKey) => return Ok(Reencrypted::Gone),
        Err(failure) => return Err(bucket.failed(key, "encrypt", failure)),
    };
    match (copied, stored.crc64) {
        (Some(copied), Some(before)) if copied != before => {
            let reason = format!("it has CRC-64/NVME {copied} after it was encrypted anew, not {before}");
            Err(bucket.corrupt(key, reason))
        }
        _ => Ok(Reencrypted::Done),
    }
}

/// Sends one CopyObject, with a condition `If-None-Match`, and returns the checksum in its answer, if any.
async fn send_copy(
    target: &Bucket,
    source: String,
    key: &str,
    encryption: &Encryption,
    condition: Option<&str>,
    sends: &Sends,
) -> Result<Option<Crc64>, Failure> {
    // The default timeouts are for requests that transfer bytes.
    let timeouts = TimeoutConfig::builder().read_timeout(COPY_TIMEOUT).operation_attempt_timeout(COPY_TIMEOUT).build();
    let request = target
        .client()
        .copy_object()
        .bucket(target.name())
        .key(target.options().full_key(key))
        .copy_source(source)
        .set_if_none_match(condition.map(str::to_owned))
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .set_server_side_encryption(encryption.algorithm())
        .set_ssekms_key_id(encryption.key_id())
        .set_bucket_key_enabled(encryption.bucket_key())
        .set_storage_class(target.options().storage_class())
        .customize()
        .interceptor(sends.clone())
        .config_override(aws_sdk_s3::Config::builder().timeout_config(timeouts));
    let answer = request.send().await.map_err(|error| Failure::of_create(&error, sends))?;
    let Some(result) = answer.copy_object_result.filter(|result| result.e_tag.is_some()) else {
        let reason = "S3 answered CopyObject without a result".into();
        return Err(Failure::Transient { reason, ambiguous: true });
    };
    Ok(result.checksum_crc64_nvme.as_deref().and_then(from_base64))
}

/// Value of `x-amz-copy-source`. Keys, prefixes and bucket names need no escaping.
fn copy_source(bucket: &Bucket, key: &str) -> String {
    format!("{}/{}", bucket.name(), bucket.options().full_key(key))
}
