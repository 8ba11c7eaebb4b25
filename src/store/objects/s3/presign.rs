//! Presigned URLs, which let a client without credentials read or write one object for a limited time.

use std::time::Duration;

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};

use super::create::ABSENT;
use super::{S3Store, to_base64};
use crate::objects::{Crc64, ObjectError};

/// A presigned request. Secret: its bearer may send the request until it expires.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    /// URL with the signature.
    pub url: String,
    /// Headers that the request must carry unchanged.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for Presigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presigned(…)")
    }
}

impl S3Store {
    /// Presigns a GET of an object, valid for at most a week (S3's limit) and no longer than the credentials.
    pub async fn presign_get(&self, key: &str, valid: Duration) -> Result<Presigned, ObjectError> {
        let request = self.client.get_object().bucket(&self.options.bucket).key(self.full_key(key)?);
        let signed = request.presigned(self.presigning(key, valid)?).await;
        signed.map(Presigned::from).map_err(|error| self.unavailable(key, error.to_string(), false))
    }

    /// Presigns a PUT that creates an object of exactly this size and checksum if the key is free.
    pub async fn presign_put(
        &self,
        key: &str,
        size: u64,
        crc64: Crc64,
        valid: Duration,
    ) -> Result<Presigned, ObjectError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.options.bucket)
            .key(self.full_key(key)?)
            .if_none_match(ABSENT)
            .set_content_length(i64::try_from(size).ok())
            .checksum_crc64_nvme(to_base64(crc64))
            .set_server_side_encryption(self.options.encryption())
            .set_ssekms_key_id(self.options.kms_key.clone())
            .set_bucket_key_enabled(self.options.bucket_key())
            .set_storage_class(self.options.storage_class());
        let signed = request.presigned(self.presigning(key, valid)?).await;
        signed.map(Presigned::from).map_err(|error| self.unavailable(key, error.to_string(), false))
    }

    fn presigning(&self, key: &str, valid: Duration) -> Result<PresigningConfig, ObjectError> {
        PresigningConfig::expires_in(valid).map_err(|error| self.invalid(key, error.to_string()))
    }
}

impl From<PresignedRequest> for Presigned {
    fn from(request: PresignedRequest) -> Self {
        let headers = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Presigned { url: request.uri().to_owned(), headers: headers.collect() }
    }
}
