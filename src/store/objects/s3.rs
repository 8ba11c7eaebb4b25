//! The object store on Amazon S3.
//!
//! An object is created by a conditional request, which S3 refuses if the key is taken, with a CRC-64/NVME of the whole
//! that S3 verifies before the object becomes visible. If the answer to such a request is lost, the object is read back
//! before the outcome is reported.

mod copy;
mod copy_state;
mod create;
mod encryption;
mod error;
mod multipart;
mod options;
mod read;
mod stale;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempPath;
use tokio::sync::Semaphore;

use super::{
    Crc64, ListPage, MAX_PUT_BYTES, ObjectError, ObjectMeta, ObjectStore, PART_BYTES, Part, Reencrypted, Upload, key,
    parts,
};
use crate::aws::attempts::CountAttempts;
pub use copy::COPY_TIMEOUT;
use copy_state::CopyState;
pub use copy_state::{DENIED_FOR, MAX_COPY_BYTES};
use encryption::Encryption;
pub use encryption::KmsKeys;
use error::Failure;
pub use options::{MAX_PREFIX_BYTES, S3Options};

/// Largest file that is sent in one request, in bytes. Larger files are sent in parts.
pub const MAX_SINGLE_PUT_BYTES: u64 = 2 * PART_BYTES;
/// Parts of one file that are sent concurrently.
pub const PARTS_IN_FLIGHT: usize = 4;
/// Most parts of files that one store buffers in memory: 6 × 8 MiB.
pub const PARTS_IN_MEMORY: usize = 6;
const _: () =
    assert!(MAX_SINGLE_PUT_BYTES / PART_BYTES <= PARTS_IN_MEMORY as u64, "a single put fits the memory for parts");
/// Largest offset in an object: S3 uses signed 64-bit integers.
const MAX_OBJECT_BYTES: u64 = i64::MAX as u64;

/// A bucket, or a prefix within one. Share it behind an `Arc`.
#[derive(Debug)]
pub struct S3Store {
    name: String,
    client: Client,
    options: S3Options,
    /// KMS keys that differ from that of `options`.
    kms_keys: Option<Arc<dyn KmsKeys>>,
    /// Endpoint in place of AWS's own.
    endpoint: Option<String>,
    /// AWS region that requests are signed for.
    region: Option<String>,
    /// Bounds the parts of files in memory, with one permit per part.
    memory: Arc<Semaphore>,
    copies: CopyState,
    /// Largest object, in bytes, that is copied by one CopyObject.
    max_copy: u64,
    /// True once the server has refused a checksum of a whole multipart object, which S3 itself supports.
    composite_only: AtomicBool,
}

impl S3Store {
    /// Creates a store with the credentials, region and endpoint of a configuration. Sends no request. `name`
    /// identifies the store in errors.
    pub fn new(sdk: &SdkConfig, options: S3Options, name: impl Into<String>) -> Self {
        let mut config = aws_sdk_s3::config::Builder::from(sdk).interceptor(CountAttempts);
        // Servers other than S3 rarely have a host name per bucket.
        config.set_force_path_style(Some(sdk.endpoint_url().is_some()));
        S3Store::from_config(config, sdk, options, name)
    }

    /// Like [`S3Store::new`], with a configuration of the S3 client, which may contain interceptors.
    pub fn from_config(
        config: aws_sdk_s3::config::Builder,
        sdk: &SdkConfig,
        options: S3Options,
        name: impl Into<String>,
    ) -> Self {
        S3Store {
            name: name.into(),
            client: Client::from_conf(config.build()),
            options,
            kms_keys: None,
            endpoint: sdk.endpoint_url().map(str::to_owned),
            region: sdk.region().map(|region| region.as_ref().to_owned()),
            memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
            copies: CopyState::default(),
            max_copy: MAX_COPY_BYTES,
            composite_only: AtomicBool::new(false),
        }
    }

    /// Lowers the limit of one CopyObject below S3's [`MAX_COPY_BYTES`].
    pub fn with_max_copy(self, bytes: u64) -> Self {
        S3Store { max_copy: bytes.min(MAX_COPY_BYTES), ..self }
    }

    /// Lets `keys` choose the KMS keys of new objects.
    pub fn with_kms_keys(self, keys: Arc<dyn KmsKeys>) -> Self {
        S3Store { kms_keys: Some(keys), ..self }
    }

    /// Options that the store was created with.
    pub fn options(&self) -> &S3Options {
        &self.options
    }

    /// Encryption of a new object of this key.
    async fn encryption(&self, key: &str) -> Result<Encryption, ObjectError> {
        let own = match &self.kms_keys {
            Some(keys) => keys.kms_key(key).await?,
            None => None,
        };
        Ok(Encryption::under(own.or_else(|| self.options.kms_key.clone())))
    }

    /// Validates a key and returns its name in the bucket.
    fn full_key(&self, key: &str) -> Result<String, ObjectError> {
        key::check(key).map_err(|reason| self.invalid(key, reason))?;
        Ok(self.options.full_key(key))
    }

    fn invalid(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Invalid { store: self.name.clone(), key: key.to_owned(), reason }
    }

    fn corrupt(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Corrupt { store: self.name.clone(), key: key.to_owned(), reason }
    }

    fn exists(&self, key: &str) -> ObjectError {
        ObjectError::Exists { store: self.name.clone(), key: key.to_owned() }
    }

    fn not_found(&self, key: &str) -> ObjectError {
        ObjectError::NotFound { store: self.name.clone(), key: key.to_owned() }
    }

    fn unavailable(&self, key: &str, reason: String, ambiguous: bool) -> ObjectError {
        ObjectError::Unavailable { store: self.name.clone(), key: key.to_owned(), reason, ambiguous }
    }

    /// Converts the failure of the operation `doing` on an object.
    fn failed(&self, key: &str, doing: &str, failure: Failure) -> ObjectError {
        failure.into_error(&self.name, key, doing, &self.options.bucket)
    }
}

/// Formats a checksum as S3 does: base64 of its eight bytes in big-endian order.
fn to_base64(crc64: Crc64) -> String {
    BASE64.encode(crc64.0.to_be_bytes())
}

/// Parses a checksum of a whole object. Returns `None` for composite checksums and malformed text.
fn from_base64(text: &str) -> Option<Crc64> {
    let bytes = BASE64.decode(text).ok()?;
    Some(Crc64(u64::from_be_bytes(bytes.try_into().ok()?)))
}

#[async_trait]
impl ObjectStore for S3Store {
    fn name(&self) -> &str {
        &self.name
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
        if bytes.len() as u64 > MAX_PUT_BYTES {
            let reason = format!("a put has {} bytes; at most {MAX_PUT_BYTES} are allowed", bytes.len());
            return Err(self.invalid(key, reason));
        }
        self.put_bytes(key, bytes).await
    }

    async fn put_file(&self, key: &str, file: TempPath) -> Result<ObjectMeta, ObjectError> {
        self.put_path(key, &file).await
    }

    fn spool_dir(&self) -> Option<PathBuf> {
        self.options.spool.clone()
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.read(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.look_up(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError> {
        self.list_page(prefix, after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let full = self.full_key(key)?;
        let sent = self.client.delete_object().bucket(&self.options.bucket).key(full).send().await;
        match sent.map_err(|error| Failure::of_write(&error)) {
            Ok(_) | Err(Failure::NoKey) => Ok(()),
            Err(failure) => Err(self.failed(key, "delete", failure)),
        }
    }

    async fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        self.begin_upload(key).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError> {
        parts::check_part(number, bytes.len()).map_err(|reason| self.invalid(&upload.key, reason))?;
        self.send_part(upload, number, bytes).await
    }

    async fn put_part_from(
        &self,
        upload: &Upload,
        number: u32,
        size: u64,
        source: &dyn ObjectStore,
        source_key: &str,
    ) -> Result<Option<Part>, ObjectError> {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        parts::check_part(number, length).map_err(|reason| self.invalid(&upload.key, reason))?;
        match source.concrete().and_then(|store| store.downcast_ref::<S3Store>()) {
            Some(source) => self.copy_part(upload, number, size, source, source_key).await,
            None => Ok(None),
        }
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        self.list_parts(upload).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        self.complete_upload(upload, parts, size, crc64).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError> {
        self.abort_upload(upload).await
    }

    async fn copy_from(
        &self,
        source: &dyn ObjectStore,
        source_key: &str,
        key: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<Option<ObjectMeta>, ObjectError> {
        match source.concrete().and_then(|store| store.downcast_ref::<S3Store>()) {
            Some(source) => self.copy_object(source, source_key, key, size, crc64).await,
            None => Ok(None),
        }
    }

    /// Aborts stale uploads, which a lifecycle rule of the bucket may do as well, and removes temporary files in the
    /// spool folder.
    async fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        Ok(self.abort_stale(uploads).await? + self.clean_spool(temporary).await?)
    }

    async fn kms_key(&self, key: &str) -> Result<Option<String>, ObjectError> {
        Ok(self.encryption(key).await?.key_id())
    }

    async fn reencrypt(&self, key: &str) -> Result<Reencrypted, ObjectError> {
        self.copy_onto_itself(key).await
    }

    fn concrete(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    fn local_path(&self, _key: &str) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_does() {
        // From the examples of `aws s3api put-object --checksum-algorithm CRC64NVME` with "123456789".
        let crc64 = Crc64::of(b"123456789");
        assert_eq!(to_base64(crc64), "rosUhgp5mIg=");
        assert_eq!(from_base64("rosUhgp5mIg="), Some(crc64));
        for bad in ["", "rosUhgp5mIg=-3", "AAAA", "?"] {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
    }
}
