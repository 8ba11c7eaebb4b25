//! The object store on Amazon S3.
//!
//! An object is created by a conditional request, which S3 refuses if the key is taken, with a CRC-64/NVME of the whole
//! that S3 verifies before the object becomes visible. If the answer to such a request is lost, the object is read back
//! before the outcome is reported.

mod bucket;
mod checksum;
mod copy;
mod copy_state;
mod create;
mod delete;
mod encryption;
mod error;
mod files;
mod multipart;
mod options;
mod read;
mod stale;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempPath;
use tokio::sync::Semaphore;

use super::{Crc64, ListPage, MAX_PUT_BYTES, ObjectError, ObjectMeta, ObjectStore, Part, Reencrypted, Upload, parts};
use crate::aws::attempts::CountAttempts;
use bucket::Bucket;
pub use copy::COPY_TIMEOUT;
use copy::Copies;
use copy_state::CopyState;
pub use copy_state::{DENIED_FOR, MAX_COPY_BYTES};
pub use encryption::KmsKeys;
pub use files::{MAX_SINGLE_PUT_BYTES, PARTS_IN_FLIGHT, PARTS_IN_MEMORY};
pub use options::{MAX_PREFIX_BYTES, S3Options};

/// A bucket, or a prefix within one. Share it behind an `Arc`.
#[derive(Debug)]
pub struct S3Store {
    bucket: Bucket,
    copies: CopyState,
    /// Bounds the parts of files in memory, with one permit per part.
    memory: Semaphore,
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
            bucket: Bucket::new(Client::from_conf(config.build()), sdk, options, name.into()),
            copies: CopyState::limited(MAX_COPY_BYTES),
            memory: Semaphore::new(PARTS_IN_MEMORY),
        }
    }

    /// Lowers the limit of one CopyObject below S3's [`MAX_COPY_BYTES`].
    pub fn with_max_copy(self, bytes: u64) -> Self {
        S3Store { copies: CopyState::limited(bytes), ..self }
    }

    /// Lets `keys` choose the KMS keys of new objects.
    pub fn with_kms_keys(self, keys: Arc<dyn KmsKeys>) -> Self {
        S3Store { bucket: self.bucket.with_kms_keys(keys), ..self }
    }

    /// Options that the store was created with.
    pub fn options(&self) -> &S3Options {
        self.bucket.options()
    }

    /// Copies from another store of this kind; `None` if `source` is of another kind.
    fn copies_from<'a>(&'a self, source: &'a dyn ObjectStore) -> Option<Copies<'a>> {
        let source = source.concrete()?.downcast_ref::<S3Store>()?;
        Some(Copies::new(&self.bucket, &source.bucket, &self.copies))
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn name(&self) -> &str {
        self.bucket.store()
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
        if bytes.len() as u64 > MAX_PUT_BYTES {
            let reason = format!("a put has {} bytes; at most {MAX_PUT_BYTES} are allowed", bytes.len());
            return Err(self.bucket.invalid(key, reason));
        }
        create::put_bytes(&self.bucket, key, bytes).await
    }

    async fn put_file(&self, key: &str, file: TempPath) -> Result<ObjectMeta, ObjectError> {
        files::put_file(&self.bucket, &self.memory, key, &file).await
    }

    fn spool_dir(&self) -> Option<PathBuf> {
        self.bucket.options().spool.clone()
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        read::read(&self.bucket, key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        read::look_up(&self.bucket, key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError> {
        read::list_page(&self.bucket, prefix, after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        delete::delete(&self.bucket, key).await
    }

    async fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        multipart::begin_upload(&self.bucket, key).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError> {
        multipart::send_part(&self.bucket, upload, number, bytes).await
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
        parts::check_part(number, length).map_err(|reason| self.bucket.invalid(&upload.key, reason))?;
        match self.copies_from(source) {
            Some(copies) => copies.copy_part(upload, number, size, source_key).await,
            None => Ok(None),
        }
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        multipart::list_parts(&self.bucket, upload).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        multipart::complete_upload(&self.bucket, upload, parts, size, crc64).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError> {
        multipart::abort_upload(&self.bucket, upload).await
    }

    async fn copy_from(
        &self,
        source: &dyn ObjectStore,
        source_key: &str,
        key: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<Option<ObjectMeta>, ObjectError> {
        match self.copies_from(source) {
            Some(copies) => copies.copy_object(source_key, key, size, crc64).await,
            None => Ok(None),
        }
    }

    /// Aborts stale uploads, which a lifecycle rule of the bucket may do as well, and removes temporary files in the
    /// spool folder.
    async fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        Ok(stale::abort_stale(&self.bucket, uploads).await? + stale::clean_spool(&self.bucket, temporary).await?)
    }

    async fn kms_key(&self, key: &str) -> Result<Option<String>, ObjectError> {
        Ok(self.bucket.encryption(key).await?.key_id())
    }

    async fn reencrypt(&self, key: &str) -> Result<Reencrypted, ObjectError> {
        copy::copy_onto_itself(&self.bucket, &self.copies, key).await
    }

    fn concrete(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    fn local_path(&self, _key: &str) -> Option<PathBuf> {
        None
    }
}
