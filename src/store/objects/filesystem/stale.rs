//! What killed processes left in the staging folder.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use uuid::Uuid;

use super::upload::LIST;
use super::{Inner, STAGING};
use crate::objects::{ObjectError, stale};

impl Inner {
    /// Removes files and folders that no process has touched for `temporary`, and uploads that none has touched since
    /// `uploads`. Returns how many went.
    pub(super) fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        // Compared with file times, which are the machine's.
        #[allow(clippy::disallowed_methods)]
        let now = SystemTime::now();
        let temporary = now.checked_sub(temporary).unwrap_or(SystemTime::UNIX_EPOCH);
        let uploads = SystemTime::from(uploads);
        let limit = |path: &Path| match is_upload(path) {
            // The list of an upload's parts goes when the upload is gone, whose lock covers both.
            true if is_list(path) && path.with_extension("").exists() => None,
            true => Some(uploads),
            false => Some(temporary),
        };
        stale::remove_older(&self.staging, limit).map_err(|e| self.failed(STAGING, "clean up", e))
    }
}

/// Whether it belongs to an upload: those are named by their tokens.
fn is_upload(path: &Path) -> bool {
    path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| Uuid::try_parse(name).is_ok())
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == LIST)
}
