//! Deletion of objects.

use super::bucket::Bucket;
use super::error::Failure;
use crate::objects::ObjectError;

/// Deletes an object. An absent one is deleted already.
pub(super) async fn delete(bucket: &Bucket, key: &str) -> Result<(), ObjectError> {
    let full = bucket.full_key(key)?;
    let sent = bucket.client().delete_object().bucket(bucket.name()).key(full).send().await;
    match sent.map_err(|error| Failure::of_write(&error)) {
        Ok(_) | Err(Failure::NoKey) => Ok(()),
        Err(failure) => Err(bucket.failed(key, "delete", failure)),
    }
}
