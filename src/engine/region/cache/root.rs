//! The folder of a cache, held by one process.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempPath;

use crate::ledger::keys;
use crate::region::{Result, blocking};

/// Folder of files that are being fetched or removed.
const TEMPORARY: &str = ".temporary";
/// Folder of processes that found the cache taken.
const PRIVATE: &str = ".private";
/// Name of the file that the owning process holds locked.
const LOCK: &str = ".lock";
/// Owner only: packs are as secret as the repositories.
const FOLDER_MODE: u32 = 0o700;

/// A folder that only this process changes. A private folder is removed on drop.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    _lock: File,
    private: bool,
}

/// A pack left by an earlier process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Object key of the pack.
    pub key: String,
    /// Size of pack and index.
    pub bytes: u64,
}

/// A file that has left the cache; removed on drop.
pub(super) type Discarded = TempPath;

impl Root {
    /// Takes a folder, or a private one below it if another process holds it. Returns the packs in it, the least
    /// recently used first. Blocking.
    pub(super) fn open(dir: &Path) -> Result<(Root, Vec<Found>)> {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir)?;
        check_owner(dir)?;
        remove_private(&dir.join(PRIVATE));
        let root = match Root::take(dir, false)? {
            Some(root) => root,
            None => {
                let path = dir.join(PRIVATE).join(uuid::Uuid::new_v4().simple().to_string());
                fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&path)?;
                let taken =
                    || io::Error::new(ErrorKind::WouldBlock, format!("another process holds {}", path.display()));
                Root::take(&path, true)?.ok_or_else(taken)?
            }
        };
        let temporary = root.path.join(TEMPORARY);
        // Left by a process that died.
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir(&temporary)?,
        }
        let found = root.find()?;
        Ok((root, found))
    }

    /// Locks a folder; `None` if another process holds it.
    fn take(dir: &Path, private: bool) -> io::Result<Option<Root>> {
        let lock = File::options().create(true).append(true).open(dir.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Root { path: dir.to_owned(), _lock: lock, private })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file to be created; the file is removed on drop.
    pub(super) fn temporary(&self) -> TempPath {
        let path = self.path.join(TEMPORARY).join(uuid::Uuid::new_v4().simple().to_string());
        TempPath::try_from_path(&path).unwrap_or_else(|_| unreachable!("an absolute path below a folder"))
    }

    /// Moves the files of a pack out of the cache at once; they are removed on drop, which may take a while.
    pub(super) fn evict(&self, key: &str) -> Vec<Discarded> {
        let names = [keys::index_of(key), key.to_owned()];
        let taken = names.iter().filter_map(|name| {
            let discarded = self.temporary();
            fs::rename(self.path.join(name), &discarded).ok().map(|()| discarded)
        });
        taken.collect()
    }

    /// Finds the packs in the folder. Unknown files stay where they are.
    fn find(&self) -> io::Result<Vec<Found>> {
        let mut packs: Vec<(SystemTime, Found)> = Vec::new();
        let repositories = self.path.join(keys::OBJECTS_PREFIX);
        for repository in entries(&repositories)? {
            let folder = repository.join("objects/pack");
            for file in entries(&folder)? {
                let Some(key) = file.strip_prefix(&self.path).ok().and_then(Path::to_str) else { continue };
                if keys::parse_pack(key).is_none() || !key.ends_with(".pack") {
                    continue;
                }
                let metadata = fs::metadata(&file)?;
                let index = fs::metadata(self.path.join(keys::index_of(key))).map_or(0, |metadata| metadata.len());
                packs.push((metadata.modified()?, Found { key: key.to_owned(), bytes: metadata.len() + index }));
            }
        }
        packs.sort_by(|(a_time, a), (b_time, b)| (a_time, &a.key).cmp(&(b_time, &b.key)));
        Ok(packs.into_iter().map(|(_, found)| found).collect())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.private {
            // The next process that opens the cache removes the rest.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes files off the async threads.
pub(super) async fn discard(files: Vec<Discarded>) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    blocking(move || {
        drop(files);
        Ok::<_, io::Error>(())
    })
    .await?;
    Ok(())
}

/// Refuses a folder that other users can write to: its files prove nothing.
fn check_owner(dir: &Path) -> io::Result<()> {
    let metadata = fs::metadata(dir)?;
    // SAFETY: always succeeds, touches no memory.
    let own = unsafe { libc::geteuid() };
    if metadata.uid() == own && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let reason = format!(
        "the cache folder {} belongs to another user or is writable by others; configure another one",
        dir.display()
    );
    Err(io::Error::new(ErrorKind::PermissionDenied, reason))
}

/// Removes the private folders of processes that have ended; best effort.
fn remove_private(folder: &Path) {
    for path in entries(folder).unwrap_or_default() {
        let free = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if free {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}
