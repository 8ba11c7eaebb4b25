//! Encryption of objects at rest: the KMS key that an object gets.

use std::fmt;

use async_trait::async_trait;
use aws_sdk_s3::types::ServerSideEncryption;

use crate::objects::ObjectError;

/// Chooses the KMS keys of objects, by repository for example.
#[async_trait]
pub trait KmsKeys: fmt::Debug + Send + Sync {
    /// KMS key (id or ARN) for the object of a key; `None` for the store's default.
    ///
    /// # Errors
    /// The choice is not known now. Nothing is stored then, as the default may be the wrong key.
    async fn kms_key(&self, key: &str) -> Result<Option<String>, ObjectError>;
}

/// Server-side encryption that a request asks for. Without a KMS key, the bucket's default applies.
#[derive(Clone, Debug, Default)]
pub(super) struct Encryption {
    kms_key: Option<String>,
}

impl Encryption {
    /// Encryption under a KMS key; `None` for the bucket's default.
    pub(super) fn under(kms_key: Option<String>) -> Self {
        Encryption { kms_key }
    }

    pub(super) fn algorithm(&self) -> Option<ServerSideEncryption> {
        self.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }

    pub(super) fn key_id(&self) -> Option<String> {
        self.kms_key.clone()
    }

    /// Enables S3 Bucket Keys, so that S3 calls KMS once per bucket and period instead of once per object.
    pub(super) fn bucket_key(&self) -> Option<bool> {
        self.kms_key.as_ref().map(|_| true)
    }
}
