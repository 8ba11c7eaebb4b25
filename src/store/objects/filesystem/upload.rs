//! Multipart uploads: a staging file with every part at its offset, and a list of the parts.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use uuid::Uuid;

use super::inner::{Inner, meta};
use super::open_upload::{LIST, OpenUpload, STAGING_MODE, lock, remove};
use super::part_list::{self, Held};
use super::publish::{Published, seal};
use crate::objects::parts;
use crate::objects::{Crc64, ObjectError, ObjectMeta, Part, Upload};

/// Most uploads that one handle keeps open and locked. Idle ones are closed for others.
pub const MAX_OPEN_UPLOADS: usize = 64;

impl Inner {
    pub(super) fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        self.path(key)?;
        // The token only has to be unique.
        #[allow(clippy::disallowed_methods)]
        let token = Uuid::now_v7().to_string();
        let path = self.staging.join(&token);
        let create = || -> io::Result<OpenUpload> {
            self.make_staging()?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(STAGING_MODE);
            let data = options.open(&path)?;
            data.try_lock()?;
            let mut list = OpenOptions::new();
            let mut list = list.append(true).create_new(true).mode(STAGING_MODE).open(path.with_extension(LIST))?;
            list.write_all(part_list::header(key).as_bytes())?;
            Ok(OpenUpload::new(path.clone(), data, list, BTreeMap::new()))
        };
        let mut open = lock(&self.uploads.0);
        self.make_room(&mut open, key)?;
        let created = create().map_err(|e| {
            let _ = remove(&path);
            self.failed_write(key, e)
        })?;
        open.insert(token.clone(), Arc::new(created));
        Ok(Upload { key: key.to_owned(), token })
    }

    pub(super) fn put_part(&self, upload: &Upload, number: u32, bytes: &[u8]) -> Result<Part, ObjectError> {
        let size = bytes.len() as u64;
        let crc64 = Crc64::of(bytes);
        let write = |data: &File| data.write_all_at(bytes, parts::offset(number)).map(|()| Some((size, crc64)));
        self.store_part(upload, number, write)?.ok_or_else(|| self.gone(upload))
    }

    /// Stores a part with `write`, which returns the size and checksum written, or `None` if its source failed.
    pub(super) fn store_part(
        &self,
        upload: &Upload,
        number: u32,
        write: impl FnOnce(&File) -> io::Result<Option<(u64, Crc64)>>,
    ) -> Result<Option<Part>, ObjectError> {
        let open = self.open_upload(upload)?;
        let ended = open.ended.read().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Err(self.gone(upload));
        }
        let written = open.write(number, write).map_err(|e| self.failed_write(&upload.key, e))?;
        Ok(written.map(|(size, crc64)| Part { number, size, crc64, tag: String::new() }))
    }

    pub(super) fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        let open = self.open_upload(upload)?;
        let ended = open.ended.read().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Err(self.gone(upload));
        }
        open.verify().map_err(|e| self.failed(&upload.key, "read back the upload of", e))?;
        let held = lock(&open.held);
        let part =
            |(&number, held): (&u32, &Held)| Part { number, size: held.size, crc64: held.crc64, tag: String::new() };
        Ok(held.iter().map(part).collect())
    }

    pub(super) fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        let path = self.path(&upload.key)?;
        let open = self.open_upload(upload)?;
        let corrupt = |reason| ObjectError::Corrupt { store: self.name.clone(), key: upload.key.clone(), reason };
        let mut ended = open.ended.write().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Err(self.gone(upload));
        }
        parts::check_complete(parts, size, crc64).map_err(corrupt)?;
        open.verify().map_err(|e| self.failed(&upload.key, "read back the upload of", e))?;
        open.check_held(parts).map_err(corrupt)?;
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !open.is_at(&metadata)) {
            return Err(self.taken(&upload.key, &path));
        }
        if let Err(error) = open.data.set_len(size).and_then(|()| seal(&open.data)) {
            // The kernel may have dropped unwritten pages and reports that only once: the upload must start over.
            *ended = true;
            self.forget(upload);
            return Err(self.failed_write(&upload.key, error));
        }
        let renamed = self.rename(upload, &path, &open);
        // After an error the upload stays, unless its file has become the object.
        if renamed.is_ok() || !open.is_still_there() {
            *ended = true;
            self.forget(upload);
        }
        renamed.map(|()| meta(&upload.key, size))
    }

    /// Publishes the staging file under its key.
    fn rename(&self, upload: &Upload, path: &Path, open: &OpenUpload) -> Result<(), ObjectError> {
        match self.publish(&upload.key, path, &open.path)? {
            Published::Done => Ok(()),
            Published::OtherDisk => Err(self.failed_write(&upload.key, ErrorKind::CrossesDevices.into())),
            Published::Taken => match fs::symlink_metadata(path) {
                // Without an atomic rename, a process that died between link and removal has left both names.
                Ok(metadata) if open.is_at(&metadata) => Ok(()),
                _ => Err(self.taken(&upload.key, path)),
            },
        }
    }

    pub(super) fn abort(&self, upload: &Upload) -> Result<(), ObjectError> {
        match self.open_upload(upload) {
            Ok(open) => *open.ended.write().unwrap_or_else(PoisonError::into_inner) = true,
            Err(ObjectError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.forget(upload);
        Ok(())
    }

    /// Removes an upload that this handle has locked, or the remains of one after a crash.
    fn forget(&self, upload: &Upload) {
        if let Ok(path) = self.staged(upload) {
            // A leftover is harmless; `remove_stale` removes it.
            let _ = remove(&path);
        }
        lock(&self.uploads.0).remove(&upload.token);
    }

    /// Returns the staging file of an upload. The token is untrusted and must not lead outside the staging folder.
    fn staged(&self, upload: &Upload) -> Result<PathBuf, ObjectError> {
        match Uuid::try_parse(&upload.token) {
            Ok(token) if token.to_string() == upload.token => Ok(self.staging.join(&upload.token)),
            _ => Err(self.invalid(&upload.key, format!("{:?} is not a valid upload token", upload.token))),
        }
    }

    fn open_upload(&self, upload: &Upload) -> Result<Arc<OpenUpload>, ObjectError> {
        self.path(&upload.key)?;
        let path = self.staged(upload)?;
        // The map stays locked while opening, so that two calls do not compete for the lock of the file.
        let mut open = lock(&self.uploads.0);
        if let Some(found) = open.get(&upload.token) {
            return Ok(Arc::clone(found));
        }
        self.make_room(&mut open, &upload.key)?;
        match OpenUpload::open(path, &upload.key) {
            Ok(Some(opened)) => {
                let opened = Arc::new(opened);
                open.insert(upload.token.clone(), Arc::clone(&opened));
                Ok(opened)
            }
            Ok(None) => Err(self.gone(upload)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                let reason = "another process holds the lock of this upload".to_owned();
                Err(self.unavailable(&upload.key, reason))
            }
            Err(e) => Err(self.failed(&upload.key, "open the upload of", e)),
        }
    }

    fn make_room(&self, open: &mut HashMap<String, Arc<OpenUpload>>, key: &str) -> Result<(), ObjectError> {
        if open.len() < MAX_OPEN_UPLOADS {
            return Ok(());
        }
        let idle = open.iter().find(|(_, upload)| Arc::strong_count(upload) == 1).map(|(token, _)| token.clone());
        match idle {
            Some(token) => _ = open.remove(&token),
            None => return Err(self.unavailable(key, format!("all {MAX_OPEN_UPLOADS} upload slots are in use"))),
        }
        Ok(())
    }

    fn gone(&self, upload: &Upload) -> ObjectError {
        ObjectError::NotFound { store: self.name.clone(), key: upload.key.clone() }
    }

    fn unavailable(&self, key: &str, reason: String) -> ObjectError {
        ObjectError::Unavailable { store: self.name.clone(), key: key.to_owned(), reason, ambiguous: false }
    }
}
