//! An upload whose staging file this handle has locked.
//!
//! Neither the staging file nor the list is synced during the upload. After a power failure, [`OpenUpload::verify`] reads
//! the listed parts and accepts only those with the right checksum. The process that works on an upload holds an flock on
//! the staging file, which the kernel releases when the process dies.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::part_list::{self, Held};
use crate::objects::parts;
use crate::objects::{Crc64, Crc64Hasher, Part};

/// Extension of the part list.
pub(super) const LIST: &str = "parts";

/// Mode of staging files.
pub(super) const STAGING_MODE: u32 = 0o600;
const VERIFY_BUFFER_BYTES: usize = 1024 * 1024;

/// Open uploads of a handle, by token.
#[derive(Debug, Default)]
pub(super) struct OpenUploads(pub(super) Mutex<HashMap<String, Arc<OpenUpload>>>);

/// An upload that this handle has locked.
#[derive(Debug)]
pub(super) struct OpenUpload {
    pub(super) path: PathBuf,
    pub(super) data: File,
    list: File,
    /// Set under the write lock when the upload is completed or aborted, so that no part is written afterwards.
    pub(super) ended: RwLock<bool>,
    /// Serialises writers: the kernel admits one writer to a file at a time and makes the others spin.
    writer: Mutex<()>,
    pub(super) held: Mutex<BTreeMap<u32, Held>>,
}

impl OpenUpload {
    pub(super) fn new(path: PathBuf, data: File, list: File, held: BTreeMap<u32, Held>) -> Self {
        let held = Mutex::new(held);
        OpenUpload { path, data, list, ended: RwLock::new(false), writer: Mutex::new(()), held }
    }

    /// Locks an upload and reads its list. Returns `None` if there is no such upload of this key.
    pub(super) fn open(path: PathBuf, key: &str) -> io::Result<Option<Self>> {
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

    pub(super) fn is_still_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| self.is_at(&metadata))
    }

    /// Returns true if the metadata is that of the staging file.
    pub(super) fn is_at(&self, metadata: &fs::Metadata) -> bool {
        self.data.metadata().is_ok_and(|own| own.dev() == metadata.dev() && own.ino() == metadata.ino())
    }

    /// Writes a part with `write`, then appends it to the list.
    pub(super) fn write(
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
    pub(super) fn verify(&self) -> io::Result<()> {
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
    pub(super) fn check_held(&self, parts: &[Part]) -> Result<(), String> {
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

/// Removes both files of an upload.
pub(super) fn remove(path: &Path) -> io::Result<()> {
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
