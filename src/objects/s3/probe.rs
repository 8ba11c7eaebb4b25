//! Whether a server does what everything here relies on. Some that speak S3 ignore preconditions in silence.

use bytes::Bytes;

use super::error::Failure;
use super::{S3Store, to_base64};
use crate::objects::{Crc64, ObjectError, ObjectStore as _};

impl S3Store {
    /// Tries out that a second put of a key is refused, and a put whose bytes are not those announced. Leaves
    /// nothing behind. Costs four requests; for the start of a process.
    ///
    /// # Errors
    /// [`ObjectError::Environment`] when the server cannot be trusted, else why it could not be found out.
    pub async fn probe(&self) -> Result<(), ObjectError> {
        // Only has to be unique; nothing else depends on it.
        let key = format!("probes/{}", uuid::Uuid::new_v4());
        self.put(&key, Bytes::from_static(b"first")).await?;
        let second = self.put(&key, Bytes::from_static(b"second")).await;
        let damaged = self.put_damaged(&format!("{key}-damaged")).await;
        self.delete(&key).await?;
        match (second, damaged) {
            (Ok(_), _) => Err(self.untrusted(&key, "overwrites objects in spite of If-None-Match")),
            (_, Ok(())) => Err(self.untrusted(&key, "stores bytes that have not the checksum that came with them")),
            (Err(ObjectError::Exists { .. }), Err(Failure::Digest(_) | Failure::Refused(_))) => Ok(()),
            (Err(ObjectError::Exists { .. }), Err(failure)) => Err(self.failed(&key, "probe", failure)),
            (Err(error), _) => Err(error),
        }
    }

    /// Puts bytes with the checksum of others; what should not have been stored is removed.
    async fn put_damaged(&self, key: &str) -> Result<(), Failure> {
        let request = self.client.put_object().bucket(&self.options.bucket).key(self.options.full_key(key));
        let request =
            request.checksum_crc64_nvme(to_base64(Crc64::of(b"other"))).body(Bytes::from_static(b"bytes").into());
        request.send().await.map_err(|error| Failure::of_write(&error))?;
        if let Err(error) = self.delete(key).await {
            tracing::warn!(%error, "could not remove an object of a probe");
        }
        Ok(())
    }

    fn untrusted(&self, key: &str, what: &str) -> ObjectError {
        let reason = format!("the server {what}; it cannot keep a region's objects. Use Amazon S3 or one that does");
        ObjectError::Environment { store: self.name.clone(), key: key.to_owned(), reason }
    }
}
