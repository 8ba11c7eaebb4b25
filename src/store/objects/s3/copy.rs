//! Copies between buckets within S3, across regions and accounts, without passing the bytes through this process.
//!
//! Requests use the target's credentials. If S3 denies the copy, the caller transfers the bytes itself.

use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::ChecksumAlgorithm;

use super::create::{ABSENT, Settled};
use super::encryption::Encryption;
use super::error::Failure;
use super::multipart::{number_in_s3, tag};
use super::{S3Store, from_base64};
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, ObjectError, ObjectMeta, ObjectStore as _, Part, Reencrypted, Upload, parts};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;

/// Limit for one CopyObject. S3 answers only once the copy is complete.
pub const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

impl S3Store {
    pub(super) async fn copy_object(
        &self,
        source: &S3Store,
        source_key: &str,
        key: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<Option<ObjectMeta>, ObjectError> {
        self.full_key(key)?;
        source.full_key(source_key)?;
        if size > self.max_copy || !self.can_ask(source) {
            return Ok(None);
        }
        let encryption = self.encryption(key).await?;
        let sends = Sends::default();
        let mut conflicts = Attempts::default();
        loop {
            let sent = match self.send_copy(source, source_key, key, &encryption, Some(ABSENT), &sends).await {
                Ok(reported) => {
                    if !self.is_intact_copy(key, size, crc64, reported).await? {
                        // A damaged copy must not be mistaken for the object later.
                        self.delete(key).await?;
                        let reason = format!(
                            "the copy does not have the announced {size} bytes with CRC-64/NVME {crc64}; removed it"
                        );
                        return Err(self.corrupt(key, reason));
                    }
                    Ok(())
                }
                Err(failure) if self.falls_back_to_transfer(source, &failure) => return Ok(None),
                Err(failure) => Err(failure),
            };
            match self.settle(key, size, crc64, sent, sends.ambiguous()).await? {
                Settled::Done => {
                    return Ok(Some(ObjectMeta::created(key, size, crc64)));
                }
                Settled::Again(_) if conflicts.again(Kind::Conflict).await => {}
                Settled::Again(reason) => return Err(self.failed(key, "copy", Failure::Busy(reason))),
            }
        }
    }

    /// Sends one CopyObject, with a condition `If-None-Match`, and returns the checksum in its answer, if any.
    async fn send_copy(
        &self,
        source: &S3Store,
        source_key: &str,
        key: &str,
        encryption: &Encryption,
        condition: Option<&str>,
        sends: &Sends,
    ) -> Result<Option<Crc64>, Failure> {
        // The default timeouts are for requests that transfer bytes.
        let timeouts =
            TimeoutConfig::builder().read_timeout(COPY_TIMEOUT).operation_attempt_timeout(COPY_TIMEOUT).build();
        let request = self
            .client
            .copy_object()
            .bucket(&self.options.bucket)
            .key(self.options.full_key(key))
            .copy_source(source.copy_source(source_key))
            .set_if_none_match(condition.map(str::to_owned))
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .set_server_side_encryption(encryption.algorithm())
            .set_ssekms_key_id(encryption.key_id())
            .set_bucket_key_enabled(encryption.bucket_key())
            .set_storage_class(self.options.storage_class())
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

    /// Returns true if the copy has the expected bytes, by the checksum in the answer or else by that of the object.
    async fn is_intact_copy(
        &self,
        key: &str,
        size: u64,
        crc64: Crc64,
        reported: Option<Crc64>,
    ) -> Result<bool, ObjectError> {
        match reported {
            Some(reported) => Ok(reported == crc64),
            None => self.is_ours(key, size, crc64).await,
        }
    }

    /// Copies an object onto itself, which S3 allows to change its encryption. Reads meanwhile get the same bytes.
    pub(super) async fn copy_onto_itself(&self, key: &str) -> Result<Reencrypted, ObjectError> {
        let Some(stored) = self.look_up(key).await? else { return Ok(Reencrypted::Gone) };
        if stored.size > self.max_copy {
            return Ok(Reencrypted::TooLarge);
        }
        let encryption = self.encryption(key).await?;
        let copied = match self.send_copy(self, key, key, &encryption, None, &Sends::default()).await {
            Ok(copied) => copied,
            // A sweep has removed it meanwhile.
            Err(Failure::NoKey) => return Ok(Reencrypted::Gone),
            Err(failure) => return Err(self.failed(key, "encrypt", failure)),
        };
        match (copied, stored.crc64) {
            (Some(copied), Some(before)) if copied != before => {
                Err(self.corrupt(key, format!("it has CRC-64/NVME {copied} after it was encrypted anew, not {before}")))
            }
            _ => Ok(Reencrypted::Done),
        }
    }

    pub(super) async fn copy_part(
        &self,
        upload: &Upload,
        number: u32,
        size: u64,
        source: &S3Store,
        source_key: &str,
    ) -> Result<Option<Part>, ObjectError> {
        let key = &upload.key;
        let full = self.full_key(key)?;
        source.full_key(source_key)?;
        if !self.can_ask(source) || self.copies.lacks_part_checksums() {
            return Ok(None);
        }
        let start = parts::offset(number);
        let request = self
            .client
            .upload_part_copy()
            .bucket(&self.options.bucket)
            .key(full)
            .upload_id(&upload.token)
            .part_number(number_in_s3(number))
            .copy_source(source.copy_source(source_key))
            .copy_source_range(format!("bytes={start}-{}", start + size - 1));
        let answer = match request.send().await.map_err(|error| Failure::of_write(&error)) {
            Ok(answer) => answer.copy_part_result,
            // The missing upload is the target's, as a source needs none.
            Err(Failure::NoUpload) => return Err(self.not_found(key)),
            Err(failure) if self.falls_back_to_transfer(source, &failure) => return Ok(None),
            Err(failure) => return Err(self.failed(key, "copy a part of", failure)),
        };
        let crc64 = answer.as_ref().and_then(|result| from_base64(result.checksum_crc64_nvme.as_deref()?));
        let Some(crc64) = crc64 else {
            self.copies.found_no_part_checksum();
            return Ok(None);
        };
        let tag = tag(answer.as_ref().and_then(|result| result.e_tag.as_deref()));
        let tag = tag.ok_or_else(|| self.unavailable(key, "S3 returned no ETag of a part".into(), false))?;
        Ok(Some(Part { number, size, crc64, tag }))
    }

    /// Returns true if both stores are at one endpoint and AWS partition, and the source has not denied a copy
    /// recently.
    fn can_ask(&self, source: &S3Store) -> bool {
        self.endpoint == source.endpoint
            && partition(self.region.as_deref()) == partition(source.region.as_deref())
            && !self.copies.is_denied(&source.options.bucket)
    }

    /// Returns true if the caller should transfer the bytes itself, which reveals errors of source and target.
    fn falls_back_to_transfer(&self, source: &S3Store, failure: &Failure) -> bool {
        match failure {
            Failure::Taken | Failure::Busy(_) | Failure::Transient { .. } => false,
            Failure::Denied(reason) | Failure::Unsupported(reason) => {
                tracing::warn!(
                    store = self.name,
                    source = source.name,
                    reason,
                    "S3 denies the copy; transferring the bytes through this process, which costs time and traffic"
                );
                self.copies.deny(&source.options.bucket);
                true
            }
            failure => {
                tracing::debug!(store = self.name, source = source.name, ?failure, "S3 refused a copy");
                true
            }
        }
    }

    /// Value of `x-amz-copy-source`. Keys, prefixes and bucket names need no escaping.
    fn copy_source(&self, key: &str) -> String {
        format!("{}/{}", self.options.bucket, self.options.full_key(key))
    }
}

/// AWS partition of a region. S3 cannot copy between partitions.
fn partition(region: Option<&str>) -> &'static str {
    match region.unwrap_or_default() {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        region if region.starts_with("us-iso") || region.starts_with("eu-isoe-") => "aws-iso",
        region if region.starts_with("eusc-") => "aws-eusc",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions() {
        assert_eq!(partition(Some("eu-west-1")), partition(Some("us-east-1")));
        assert_ne!(partition(Some("eu-west-1")), partition(Some("cn-north-1")));
        assert_ne!(partition(Some("us-east-1")), partition(Some("us-gov-west-1")));
    }
}
