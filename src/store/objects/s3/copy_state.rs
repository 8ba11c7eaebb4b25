//! Limit of copies, and results of earlier copies, which later ones follow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Largest object of one CopyObject in bytes (S3's limit). Larger objects are copied in parts.
pub const MAX_COPY_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Time for which no copy from a source bucket is tried again after a denial.
pub const DENIED_FOR: Duration = Duration::from_secs(5 * 60);
/// Most source buckets whose denial is remembered.
const MAX_DENIED: usize = 1_000;

/// Limit and results of copies to a store.
#[derive(Debug)]
pub(super) struct CopyState {
    /// Largest object, in bytes, that is copied by one CopyObject.
    max_bytes: u64,
    /// Source buckets that denied a copy, with the end of [`DENIED_FOR`].
    denied: Mutex<HashMap<String, Instant>>,
    /// True once the server has copied a part without returning the part's checksum, which S3 returns.
    lacks_part_checksums: AtomicBool,
}

impl CopyState {
    /// Lowers the limit of one CopyObject below S3's [`MAX_COPY_BYTES`].
    pub(super) fn limited(bytes: u64) -> Self {
        CopyState {
            max_bytes: bytes.min(MAX_COPY_BYTES),
            denied: Mutex::default(),
            lacks_part_checksums: AtomicBool::new(false),
        }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(super) fn is_denied(&self, bucket: &str) -> bool {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.get(bucket).is_some_and(|until| Instant::now() < *until)
    }

    pub(super) fn deny(&self, bucket: &str) {
        let now = Instant::now();
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|_, until| now < *until);
        if denied.len() < MAX_DENIED {
            denied.insert(bucket.to_owned(), now + DENIED_FOR);
        }
    }

    pub(super) fn lacks_part_checksums(&self) -> bool {
        self.lacks_part_checksums.load(Ordering::Relaxed)
    }

    pub(super) fn found_no_part_checksum(&self) {
        self.lacks_part_checksums.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_denied_is_asked_again_later() {
        let memory = CopyState::limited(MAX_COPY_BYTES);
        memory.deny("source");
        assert!(memory.is_denied("source") && !memory.is_denied("other"));
        tokio::time::advance(DENIED_FOR).await;
        assert!(!memory.is_denied("source"));
    }
}
