//! Reads, lists and looks up objects.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

use super::inner::{Inner, stored};
use super::{error, listing};
use crate::objects::{ListPage, MAX_LIST_KEYS, ObjectError, ObjectMeta, key};

impl Inner {
    pub(super) fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let path = self.path(key)?;
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let end = range.end.min(metadata.len());
            let length = end.saturating_sub(range.start);
            let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
            if length > 0 {
                file.seek(SeekFrom::Start(range.start))?;
                file.take(length).read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        };
        read().map(Bytes::from).map_err(|e| self.failed(key, "read", e))
    }

    pub(super) fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        let path = self.path(key)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(stored(key, &metadata))),
            Ok(_) => Ok(None),
            Err(e) if error::is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed(key, "look up", e)),
        }
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError> {
        key::check_prefix(prefix).map_err(|reason| self.invalid(prefix, reason))?;
        if limit == 0 {
            return Err(self.invalid(prefix, "a listing has a limit of 0 keys".to_owned()));
        }
        let limit = limit.min(MAX_LIST_KEYS);
        let mut objects = listing::list(&self.root, prefix, after.unwrap_or_default(), limit + 1)
            .map_err(|e| self.failed(prefix, "list", e))?;
        let more = objects.len() > limit;
        objects.truncate(limit);
        let next = objects.last().filter(|_| more).map(|last| last.key.clone());
        Ok(ListPage { objects, next })
    }
}
