//! Removal of uploads and temporary files that killed processes left.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::MultipartUpload;
use jiff::Timestamp;

use super::bucket::Bucket;
use super::error::Failure;
use super::files::on_disk;
use super::multipart::abort_upload;
use crate::objects::stale::remove_older;
use crate::objects::{ObjectError, Upload};

/// Placeholder for the key in errors that concern no object.
const UPLOADS: &str = "uploads";

/// Aborts uploads below the store's prefix that began before `limit` by S3's clock. Returns the number aborted.
pub(super) async fn abort_stale(bucket: &Bucket, limit: Timestamp) -> Result<u64, ObjectError> {
    let limit = SystemTime::from(limit);
    let mut aborted = 0;
    let mut key_marker = None;
    let mut id_marker = None;
    loop {
        let request = bucket
            .client()
            .list_multipart_uploads()
            .bucket(bucket.name())
            .prefix(bucket.options().full_key(""))
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker);
        let page = request.send().await;
        let page = page.map_err(|error| bucket.failed(UPLOADS, "list", Failure::of_read(&error)))?;
        for upload in page.uploads().iter().filter(|upload| is_older(upload, limit)) {
            let key = upload.key().and_then(|full| bucket.options().own_key(full));
            let Some((key, token)) = key.zip(upload.upload_id()) else { continue };
            abort_upload(bucket, &Upload { key: key.to_owned(), token: token.to_owned() }).await?;
            aborted += 1;
        }
        key_marker = page.next_key_marker;
        id_marker = page.next_upload_id_marker;
        if page.is_truncated != Some(true) || key_marker.is_none() {
            return Ok(aborted);
        }
    }
}

/// Removes temporary files that were not modified for `age`. Returns the number removed.
pub(super) async fn clean_spool(bucket: &Bucket, age: Duration) -> Result<u64, ObjectError> {
    let Some(spool) = bucket.options().spool.clone() else { return Ok(0) };
    let limit = before(age);
    let removed = on_disk(move || remove_older(&spool, |_| Some(limit))).await;
    removed.map_err(|error| bucket.environment(UPLOADS, format!("cannot clean up the spool folder: {error}")))
}

fn is_older(upload: &MultipartUpload, limit: SystemTime) -> bool {
    let began = upload.initiated().and_then(|initiated| SystemTime::try_from(*initiated).ok());
    began.is_some_and(|began| began < limit)
}

fn before(age: Duration) -> SystemTime {
    // File times come from the machine's clock.
    #[allow(clippy::disallowed_methods)]
    let now = SystemTime::now();
    now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}
