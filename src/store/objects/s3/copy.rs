//! Copies from one bucket to another within S3, between regions and accounts, without a byte passing here.
//!
//! The target's credentials ask for it. Where S3 does not let them, the caller carries the bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::ChecksumAlgorithm;
use tokio::time::Instant;

use super::create::{ABSENT, Settled};
use super::error::Failure;
use super::multipart::{number_in_s3, tag};
use super::{S3Store, from_base64};
use crate::aws::failure::Attempts as Sends;
use crate::objects::{Crc64, ObjectError, ObjectMeta, ObjectStore as _, Part, Upload, parts};
use gitferry_base::Kind;
use gitferry_base::retry::Attempts;

/// Largest object that one CopyObject takes (S3's limit); larger ones are copied in parts.
pub const MAX_COPY_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// How long one CopyObject may take: S3 answers only when it is done.
pub const COPY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a source that may not be copied from is not asked again.
pub const DENIED_FOR: Duration = Duration::from_secs(5 * 60);
/// Most sources that are remembered as such.
const MAX_DENIED: usize = 1_000;

/// What is known about copies to a store.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Buckets that it may not be copied from, and until when that is believed.
    denied: Mutex<HashMap<String, Instant>>,
    /// The server does not tell the checksums of copied parts (S3 does).
    parts_untold: AtomicBool,
}

impl Memory {
    fn is_denied(&self, bucket: &str) -> bool {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.get(bucket).is_some_and(|until| Instant::now() < *until)
    }

    fn deny(&self, bucket: &str) {
        let now = Instant::now();
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|_, until| now < *until);
        if denied.len() < MAX_DENIED {
            denied.insert(bucket.to_owned(), now + DENIED_FOR);
        }
    }
}

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
        let sends = Sends::default();
        let mut conflicts = Attempts::default();
        loop {
            let sent = match self.send_copy(source, source_key, key, &sends).await {
                Ok(told) => match self.check_copy(key, size, crc64, told).await? {
                    true => Ok(()),
                    // Left as they are, wrong bytes would be taken for ours.
                    false => {
                        self.delete(key).await?;
                        let reason = format!("its copy has not the {size} bytes with CRC-64/NVME {crc64} announced");
                        return Err(self.corrupt(key, reason));
                    }
                },
                Err(failure) if self.leaves_it_to_the_caller(source, &failure) => return Ok(None),
                Err(failure) => Err(failure),
            };
            match self.settle(key, size, crc64, sent, sends.ambiguous()).await? {
                Settled::Done => {
                    return Ok(Some(ObjectMeta { key: key.to_owned(), size, crc64: Some(crc64), modified: None }));
                }
                Settled::Again(_) if conflicts.again(Kind::Conflict).await => {}
                Settled::Again(reason) => return Err(self.failed(key, "copy", Failure::Busy(reason))),
            }
        }
    }

    /// One request; the checksum that the answer tells.
    async fn send_copy(
        &self,
        source: &S3Store,
        source_key: &str,
        key: &str,
        sends: &Sends,
    ) -> Result<Option<Crc64>, Failure> {
        // The region's own limit for an attempt is for requests that carry bytes.
        let patience =
            TimeoutConfig::builder().read_timeout(COPY_TIMEOUT).operation_attempt_timeout(COPY_TIMEOUT).build();
        let request = self
            .client
            .copy_object()
            .bucket(&self.options.bucket)
            .key(self.options.full_key(key))
            .copy_source(source.copy_source(source_key))
            .if_none_match(ABSENT)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .set_server_side_encryption(self.options.encryption())
            .set_ssekms_key_id(self.options.kms_key.clone())
            .set_bucket_key_enabled(self.options.bucket_key())
            .set_storage_class(self.options.storage_class())
            .customize()
            .interceptor(sends.clone())
            .config_override(aws_sdk_s3::Config::builder().timeout_config(patience));
        let answer = request.send().await.map_err(|error| Failure::of_create(&error, sends))?;
        let Some(result) = answer.copy_object_result.filter(|result| result.e_tag.is_some()) else {
            return Err(Failure::Transient { reason: "the answer says nothing of a copy".into(), ambiguous: true });
        };
        Ok(result.checksum_crc64_nvme.as_deref().and_then(from_base64))
    }

    /// Whether a copy is what was to be copied. S3 tells its checksum with the answer; else the object is asked.
    async fn check_copy(&self, key: &str, size: u64, crc64: Crc64, told: Option<Crc64>) -> Result<bool, ObjectError> {
        match told {
            Some(told) => Ok(told == crc64),
            None => self.is_ours(key, size, crc64).await,
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
        if !self.can_ask(source) || self.copies.parts_untold.load(Ordering::Relaxed) {
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
            // Not the source's: that knows no uploads.
            Err(Failure::NoUpload) => return Err(self.not_found(key)),
            Err(failure) if self.leaves_it_to_the_caller(source, &failure) => return Ok(None),
            Err(failure) => return Err(self.failed(key, "copy a part of", failure)),
        };
        let crc64 = answer.as_ref().and_then(|result| from_base64(result.checksum_crc64_nvme.as_deref()?));
        let Some(crc64) = crc64 else {
            self.copies.parts_untold.store(true, Ordering::Relaxed);
            return Ok(None);
        };
        let tag = tag(answer.as_ref().and_then(|result| result.e_tag.as_deref()));
        Ok(Some(Part { number, size, crc64, tag }))
    }

    /// Whether the server of this store knows the source's bucket, and may have what is in it.
    fn can_ask(&self, source: &S3Store) -> bool {
        self.endpoint == source.endpoint
            && partition(self.region.as_deref()) == partition(source.region.as_deref())
            && !self.copies.is_denied(&source.options.bucket)
    }

    /// Whether the caller has to read the bytes itself, and learns there what is wrong with them or here.
    fn leaves_it_to_the_caller(&self, source: &S3Store, failure: &Failure) -> bool {
        match failure {
            Failure::Taken | Failure::Busy(_) | Failure::Transient { .. } => false,
            Failure::Denied(reason) | Failure::Unsupported(reason) => {
                tracing::warn!(
                    store = self.name,
                    source = source.name,
                    reason,
                    "not allowed to copy within S3; the bytes are carried, which costs time and traffic"
                );
                self.copies.deny(&source.options.bucket);
                true
            }
            failure => {
                tracing::debug!(store = self.name, source = source.name, ?failure, "a copy within S3 was refused");
                true
            }
        }
    }

    /// What CopyObject calls an object. Nothing in keys, prefixes and bucket names has to be escaped.
    fn copy_source(&self, key: &str) -> String {
        format!("{}/{}", self.options.bucket, self.options.full_key(key))
    }
}

/// AWS's partitions know nothing of each other.
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

    #[tokio::test(start_paused = true)]
    async fn what_was_denied_is_asked_again_later() {
        let memory = Memory::default();
        memory.deny("source");
        assert!(memory.is_denied("source") && !memory.is_denied("other"));
        tokio::time::advance(DENIED_FOR).await;
        assert!(!memory.is_denied("source"));
    }
}
