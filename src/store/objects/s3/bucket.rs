//! A bucket, or a prefix within one: the client that reaches it, the encryption of its objects, and the errors that name it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_config::SdkConfig;
use aws_sdk_s3::Client;

use super::encryption::{Encryption, KmsKeys};
use super::error::Failure;
use super::options::S3Options;
use crate::objects::{ObjectError, key};

/// Place of a store's objects in S3.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Name of the store in errors.
    store: String,
    client: Client,
    options: S3Options,
    /// KMS keys that differ from that of `options`.
    kms_keys: Option<Arc<dyn KmsKeys>>,
    /// Endpoint in place of AWS's own.
    endpoint: Option<String>,
    /// AWS region that requests are signed for.
    region: Option<String>,
    /// True once the server has refused a checksum of a whole multipart object, which S3 itself supports.
    composite_only: AtomicBool,
}

impl Bucket {
    pub(super) fn new(client: Client, sdk: &SdkConfig, options: S3Options, store: String) -> Self {
        Bucket {
            store,
            client,
            options,
            kms_keys: None,
            endpoint: sdk.endpoint_url().map(str::to_owned),
            region: sdk.region().map(|region| region.as_ref().to_owned()),
            composite_only: AtomicBool::new(false),
        }
    }

    pub(super) fn with_kms_keys(self, keys: Arc<dyn KmsKeys>) -> Self {
        Bucket { kms_keys: Some(keys), ..self }
    }

    pub(super) fn store(&self) -> &str {
        &self.store
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn options(&self) -> &S3Options {
        &self.options
    }

    /// Name of the bucket in S3.
    pub(super) fn name(&self) -> &str {
        &self.options.bucket
    }

    /// Validates a key and returns its name in the bucket.
    pub(super) fn full_key(&self, key: &str) -> Result<String, ObjectError> {
        key::check(key).map_err(|reason| self.invalid(key, reason))?;
        Ok(self.options.full_key(key))
    }

    /// Encryption of a new object of this key.
    pub(super) async fn encryption(&self, key: &str) -> Result<Encryption, ObjectError> {
        let own = match &self.kms_keys {
            Some(keys) => keys.kms_key(key).await?,
            None => None,
        };
        Ok(Encryption::under(own.or_else(|| self.options.kms_key.clone())))
    }

    /// Returns true if S3 can copy between the buckets: they are at one endpoint and in one AWS partition.
    pub(super) fn can_copy_from(&self, source: &Bucket) -> bool {
        self.endpoint == source.endpoint && partition(self.region.as_deref()) == partition(source.region.as_deref())
    }

    pub(super) fn is_composite_only(&self) -> bool {
        self.composite_only.load(Ordering::Relaxed)
    }

    /// Notes that the server refuses checksums of whole multipart objects.
    pub(super) fn found_composite_only(&self) {
        self.composite_only.store(true, Ordering::Relaxed);
    }

    pub(super) fn invalid(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Invalid { store: self.store.clone(), key: key.to_owned(), reason }
    }

    pub(super) fn corrupt(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Corrupt { store: self.store.clone(), key: key.to_owned(), reason }
    }

    pub(super) fn exists(&self, key: &str) -> ObjectError {
        ObjectError::Exists { store: self.store.clone(), key: key.to_owned() }
    }

    pub(super) fn not_found(&self, key: &str) -> ObjectError {
        ObjectError::NotFound { store: self.store.clone(), key: key.to_owned() }
    }

    pub(super) fn environment(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Environment { store: self.store.clone(), key: key.to_owned(), reason }
    }

    pub(super) fn unavailable(&self, key: &str, reason: String, ambiguous: bool) -> ObjectError {
        ObjectError::Unavailable { store: self.store.clone(), key: key.to_owned(), reason, ambiguous }
    }

    /// Converts the failure of the operation `doing` on an object.
    pub(super) fn failed(&self, key: &str, doing: &str, failure: Failure) -> ObjectError {
        failure.into_error(&self.store, key, doing, &self.options.bucket)
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
