//! Uploads in parts: one staging file with every part in its place, and beside it a list of the parts.
//!
//! Neither is synced while the upload goes on: after a power failure [`OpenUpload::verify`] reads what the
//! list names and believes only what has the right checksum. Whoever works on an upload holds an flock on
//! its staging file, which the kernel releases when the process dies.

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

/// Most uploads that one handle keeps open and locked. Idle ones make room for others.
pub const MAX_OPEN_UPLOADS: usize = 64;
/// The extension of the list of parts.
pub(super) const LIST: &str = "parts";

const STAGING_MODE: u32 = 0o600;
const VERIFY_BUFFER_BYTES: usize = 1024 * 1024;

/// The uploads that a handle has open, by token.
#[derive(Debug, Default)]
pub(super) struct OpenUploads(Mutex<HashMap<String, Arc<OpenUpload>>>);

/// An upload whose lock this handle holds.
#[derive(Debug)]
pub(super) struct OpenUpload {
    path: PathBuf,
    data: File,
    list: File,
    /// Set under the write lock by whoever ends the upload, so that no part is written after that.
    ended: RwLock<bool>,
    /// Writers take turns: the kernel lets only one write to a file at a time, and makes the others spin.
    turn: Mutex<()>,
    held: Mutex<BTreeMap<u32, Held>>,
}

/// A part as the upload knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub size: u64,
    pub crc64: Crc64,
    /// Written or read back by this handle; otherwise only the list says so.
    pub verified: bool,
}

impl Inner {
    pub(super) fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        self.path(key)?;
        // Only has to be unique; nothing else depends on it.
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
        let (size, crc64) = (bytes.len() as u64, Crc64::of(bytes));
        let write = |data: &File| data.write_all_at(bytes, parts::offset(number)).map(|()| Some((size, crc64)));
        self.store_part(upload, number, write)?.ok_or_else(|| self.gone(upload))
    }

    /// Has `write` put a part in its place; it tells size and checksum, or `None` if there is nothing.
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
            // The kernel may have dropped what it could not write, and would not say so again: start over.
            *ended = true;
            self.forget(upload);
            return Err(self.failed_write(&upload.key, error));
        }
        let renamed = self.rename(upload, &path, &open);
        // After an error the upload stays, unless its file has become the object all the same.
        if renamed.is_ok() || !open.is_still_there() {
            *ended = true;
            self.forget(upload);
        }
        renamed.map(|()| meta(&upload.key, size))
    }

    /// Gives the staging file its key.
    fn rename(&self, upload: &Upload, path: &Path, open: &OpenUpload) -> Result<(), ObjectError> {
        match self.publish(&upload.key, path, &open.path)? {
            Published::Done => Ok(()),
            Published::OtherDisk => Err(self.failed_write(&upload.key, ErrorKind::CrossesDevices.into())),
            Published::Taken => match fs::symlink_metadata(path) {
                // Where renames cannot refuse to replace, they are a link and a removal: a process that died
                // between them has left both names.
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

    /// Removes an upload whose lock we hold, or what a crash has left of one.
    fn forget(&self, upload: &Upload) {
        if let Ok(path) = self.staged(upload) {
            // A leftover is harmless, and `remove_stale` finds it.
            let _ = remove(&path);
        }
        lock(&self.uploads.0).remove(&upload.token);
    }

    /// The staging file of an upload. The token comes from outside and must not lead elsewhere.
    fn staged(&self, upload: &Upload) -> Result<PathBuf, ObjectError> {
        match Uuid::try_parse(&upload.token) {
            Ok(token) if token.to_string() == upload.token => Ok(self.staging.join(&upload.token)),
            _ => Err(self.invalid(&upload.key, format!("{:?} is not the token of an upload", upload.token))),
        }
    }

    fn open_upload(&self, upload: &Upload) -> Result<Arc<OpenUpload>, ObjectError> {
        self.path(&upload.key)?;
        let path = self.staged(upload)?;
        // Kept while opening, so that two calls do not compete for the lock of the file.
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
                let reason = "another process works on this upload".to_owned();
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
            None => return Err(self.unavailable(key, format!("{MAX_OPEN_UPLOADS} uploads are in use already"))),
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
        OpenUpload { path, data, list, ended: RwLock::new(false), turn: Mutex::new(()), held }
    }

    /// Locks an upload and reads its list. `None` if there is none for this key.
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
        // It may have been completed or aborted before we had the lock.
        Ok(upload.is_still_there().then_some(upload))
    }

    fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| self.is_at(&metadata))
    }

    /// Whether the staging file is the one described.
    fn is_at(&self, metadata: &fs::Metadata) -> bool {
        self.data.metadata().is_ok_and(|own| own.dev() == metadata.dev() && own.ino() == metadata.ino())
    }

    /// Has a part written in its place, then puts it into the list.
    fn write(
        &self,
        number: u32,
        write: impl FnOnce(&File) -> io::Result<Option<(u64, Crc64)>>,
    ) -> io::Result<Option<(u64, Crc64)>> {
        let turn = lock(&self.turn);
        // Until it is written, neither the old bytes nor the new ones are there.
        lock(&self.held).remove(&number);
        let Some((size, crc64)) = write(&self.data)? else { return Ok(None) };
        start_writeback(&self.data, parts::offset(number), size);
        (&self.list).write_all(part_list::line(number, size, crc64).as_bytes())?;
        lock(&self.held).insert(number, Held { size, crc64, verified: true });
        drop(turn);
        Ok(Some((size, crc64)))
    }

    /// Reads the parts that only the list vouches for, and forgets those that are not as it says.
    fn verify(&self) -> io::Result<()> {
        let unverified: Vec<(u32, Held)> =
            lock(&self.held).iter().filter(|(_, held)| !held.verified).map(|(n, held)| (*n, *held)).collect();
        if unverified.is_empty() {
            return Ok(());
        }
        let mut buffer = vec![0; VERIFY_BUFFER_BYTES];
        for (number, listed) in unverified {
            let turn = lock(&self.turn);
            let intact = self.checksum(number, listed.size, &mut buffer)? == Some(listed.crc64);
            let mut held = lock(&self.held);
            if held.get(&number) == Some(&listed) {
                match intact {
                    true => held.insert(number, Held { verified: true, ..listed }),
                    false => held.remove(&number),
                };
            }
            drop(turn);
        }
        Ok(())
    }

    /// The checksum of a part's bytes; `None` when the file ends before.
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

    /// Whether the parts are exactly what this upload holds.
    fn check_held(&self, parts: &[Part]) -> Result<(), String> {
        let held = lock(&self.held);
        for part in parts {
            match held.get(&part.number) {
                None => return Err(format!("part {} is not held", part.number)),
                Some(held) if (held.size, held.crc64) != (part.size, part.crc64) => {
                    return Err(format!("part {} holds other bytes than were named", part.number));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Drop for OpenUpload {
    /// Closing is not enough: a child that another thread is just starting may have inherited the file.
    fn drop(&mut self) {
        let _ = self.data.unlock();
    }
}

/// Opens a staging file. A process that died while completing may have made it read-only already.
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

/// Lets the disk begin now, so that the sync at the end is short. Only a hint: errors show there.
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
