//! Removal of files that killed processes left in the staging folder.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use uuid::Uuid;

use super::inner::{Inner, STAGING};
use super::open_upload::LIST;
use crate::objects::{ObjectError, stale};

impl Inner {
    /// Removes files and folders that were not modified for `temporary`, and uploads that were not modified since
    /// `uploads`. Returns the number removed.
    pub(super) fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        // File times come from the machine's clock.
        #[allow(clippy::disallowed_methods)]
        let now = SystemTime::now();
        let temporary = now.checked_sub(temporary).unwrap_or(SystemTime::UNIX_EPOCH);
        let uploads = SystemTime::from(uploads);
        let limit = |path: &Path| {
            if !is_upload(path) {
                return Some(temporary);
            }
            // A part list stays until its staging file is gone, whose lock covers both.
            let staged = is_list(path) && path.with_extension("").exists();
            (!staged).then_some(uploads)
        };
        stale::remove_older(&self.staging, limit).map_err(|e| self.failed(STAGING, "clean up", e))
    }
}

/// Returns true for files of uploads, which are named by their tokens.
fn is_upload(path: &Path) -> bool {
    path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| Uuid::try_parse(name).is_ok())
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == LIST)
}
