//! Multipart uploads: a staging file with every part at its offset, and a list of the parts.
//!
//! Neither file is synced during the upload. After a power failure, [`OpenUpload::verify`] reads the listed parts and
//! accepts only those with the right checksum. The process that works on an upload holds an flock on the staging file,
//! which the kernel releases when the process dies.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use uuid::Uuid;

use super::publish::{Published, seal};
use super::{Inner, meta, part_list};
use crate::objects::parts;
use crate::objects::{Crc64, Crc64Hasher, ObjectError, ObjectMeta, Part, Upload};

/// Most uploads that one handle keeps open and locked. Idle ones are closed for others.
pub const MAX_OPEN_UPLOADS: usize = 64;
/// Extension of the part list.
pub(super) const LIST: &str = "parts";

const STAGING_MODE: u32 = 0o600;
const VERIFY_BUFFER_BYTES: usize = 1024 * 1024;

/// Open uploads of a handle, by token.
#[derive(Debug, Default)]
pub(super) struct OpenUploads(Mutex<HashMap<String, Arc<OpenUpload>>>);

/// An upload that this handle has locked.
#[derive(Debug)]
pub(super) struct OpenUpload {
    path: PathBuf,
    data: File,
    list: File,
    /// Set under the write lock when the upload is completed or aborted, so that no part is written afterwards.
    ended: RwLock<bool>,
    /// Serialises writers: the kernel admits one writer to a file at a time and makes the others spin.
    writer: Mutex<()>,
    held: Mutex<BTreeMap<u32, Held>>,
}

/// A part of an open upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub size: u64,
    pub crc64: Crc64,
    /// True if this handle has written or read back the part; otherwise only the list names it.
    pub verified: bool,
}

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

impl OpenUpload {
    fn new(path: PathBuf, data: File, list: File, held: BTreeMap<u32, Held>) -> Self {
        let held = Mutex::new(held);
        OpenUpload { path, data, list, ended: RwLock::new(false), writer: Mutex::new(()), held }
    }

    /// Locks an upload and reads its list. Returns `None` if there is no such upload of this key.
    fn open(path: PathBuf, key: &str) -> io::Result<Option<Self>> {
        let data = match open_staging(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        data.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => io::Error::from(ErrorKind::WouldBlock),
            TryLockError::Error(e) => e,
        })?;
        let list = match OpenOptions::new().read(true).append(true).open(path.with_extension(LIST)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let Some(held) = part_list::read(&list, key)? else { return Ok(None) };
        let upload = OpenUpload::new(path, data, list, held);
        // Another process may have completed or aborted the upload before the lock was taken.
        Ok(upload.is_still_there().then_some(upload))
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| self.is_at(&metadata))
    }

    /// Returns true if the metadata is that of the staging file.
    fn is_at(&self, metadata: &fs::Metadata) -> bool {
        self.data.metadata().is_ok_and(|own| own.dev() == metadata.dev() && own.ino() == metadata.ino())
    }

    /// Writes a part with `write`, then appends it to the list.
    fn write(
        &self,
        number: u32,
        write: impl FnOnce(&File) -> io::Result<Option<(u64, Crc64)>>,
    ) -> io::Result<Option<(u64, Crc64)>> {
        let writer = lock(&self.writer);
        // During the write, the part holds neither the old nor the new bytes.
        lock(&self.held).remove(&number);
        let Some((size, crc64)) = write(&self.data)? else { return Ok(None) };
        start_writeback(&self.data, parts::offset(number), size);
        (&self.list).write_all(part_list::line(number, size, crc64).as_bytes())?;
        lock(&self.held).insert(number, Held { size, crc64, verified: true });
        drop(writer);
        Ok(Some((size, crc64)))
    }

    /// Reads back the parts that only the list names, and drops those whose checksum differs.
    fn verify(&self) -> io::Result<()> {
        let unverified: Vec<(u32, Held)> =
            lock(&self.held).iter().filter(|(_, held)| !held.verified).map(|(n, held)| (*n, *held)).collect();
        if unverified.is_empty() {
            return Ok(());
        }
        let mut buffer = vec![0; VERIFY_BUFFER_BYTES];
        for (number, listed) in unverified {
            let writer = lock(&self.writer);
            let intact = self.checksum(number, listed.size, &mut buffer)? == Some(listed.crc64);
            let mut held = lock(&self.held);
            if held.get(&number) == Some(&listed) {
                if intact {
                    held.insert(number, Held { verified: true, ..listed });
                } else {
                    held.remove(&number);
                }
            }
            drop(writer);
        }
        Ok(())
    }

    /// Computes the checksum of a part's bytes. Returns `None` if the file ends before the part.
    fn checksum(&self, number: u32, size: u64, buffer: &mut [u8]) -> io::Result<Option<Crc64>> {
        let mut hasher = Crc64Hasher::default();
        let mut at = parts::offset(number);
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(piece) = buffer.get_mut(..wanted) else { return Ok(None) };
            match self.data.read_exact_at(piece, at) {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            hasher.update(piece);
            at += wanted as u64;
            left -= wanted as u64;
        }
        Ok(Some(hasher.finish()))
    }

    /// Verifies that the parts are those that this upload holds.
    fn check_held(&self, parts: &[Part]) -> Result<(), String> {
        let held = lock(&self.held);
        for part in parts {
            match held.get(&part.number) {
                None => return Err(format!("part {} was not uploaded", part.number)),
                Some(held) if (held.size, held.crc64) != (part.size, part.crc64) => {
                    return Err(format!("part {} differs in size or checksum from the uploaded one", part.number));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Drop for OpenUpload {
    /// Unlocks explicitly, as a child process that another thread is spawning may have inherited the file.
    fn drop(&mut self) {
        let _ = self.data.unlock();
    }
}

/// Opens a staging file, which a process that died during completion may have made read-only.
fn open_staging(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).open(path);
    match open() {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            fs::set_permissions(path, Permissions::from_mode(STAGING_MODE))?;
            open()
        }
        other => other,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let data = fs::remove_file(path);
    let list = fs::remove_file(path.with_extension(LIST));
    data.and(list)
}

/// Starts writing a range to disk, which shortens the final sync. Errors are reported by that sync.
fn start_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: the descriptor is open for the whole call, which touches no memory of this process.
    #[cfg(target_os = "linux")]
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
