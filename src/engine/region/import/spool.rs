//! Temporary files of one import, in a folder of their own: an interrupted import removes the folder, and the next
//! import removes the folder of a killed one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Prefix of folder names. The spool may be the system's temporary folder.
const PREFIX: &str = "gitferry-import-";
/// Extension of the file, beside the folder, that the import holds locked.
const LOCK: &str = "lock";

/// A folder in a spool, removed on drop.
#[derive(Debug)]
pub(super) struct ImportSpool {
    dir: TempDir,
    lock_path: PathBuf,
    _lock: File,
}

impl ImportSpool {
    /// Removes the folders of killed imports from a spool, and creates a new one. Blocking.
    ///
    /// # Errors
    /// Names the spool if it cannot be written.
    pub fn open(spool: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", spool.display()));
        Self::make(spool).map_err(named)
    }

    fn make(spool: &Path) -> io::Result<Self> {
        if let Err(error) = remove_abandoned(spool) {
            tracing::debug!(%error, "could not remove the folders of killed imports; a later import tries again");
        }
        let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let lock_path = spool.join(&name).with_extension(LOCK);
        // Locked before the folder exists: a folder whose lock is free belongs to no import.
        let lock = File::create_new(&lock_path)?;
        lock.try_lock().map_err(io::Error::from)?;
        let dir = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(spool)?;
        Ok(ImportSpool { dir, lock_path, _lock: lock })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ImportSpool {
    fn drop(&mut self) {
        // The folder is removed next; if it stays behind, the next import removes it, with or without its lock.
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes the folders of imports that were killed. Running imports hold their locks.
fn remove_abandoned(spool: &Path) -> io::Result<()> {
    for entry in fs::read_dir(spool)? {
        let path = entry?.path();
        let is_import = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        if !is_import || !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let lock_path = path.with_extension(LOCK);
        let abandoned = match File::open(&lock_path) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if abandoned {
            tracing::info!(path = %path.display(), "removing the folder of a killed import");
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let _ = fs::remove_file(&lock_path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_a_killed_import_left_goes_with_the_next_one_and_what_runs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let running = ImportSpool::open(dir.path()).unwrap();
        fs::write(running.path().join("pack"), "half").unwrap();
        // As after SIGKILL: the files stay, the lock does not.
        let killed = dir.path().join(format!("{PREFIX}killed"));
        fs::create_dir(&killed).unwrap();
        fs::write(killed.with_extension(LOCK), "").unwrap();
        fs::write(killed.join("pack"), "half").unwrap();
        fs::write(dir.path().join("put-another"), "").unwrap();
        let next = ImportSpool::open(dir.path()).unwrap();
        assert!(!killed.exists() && running.path().join("pack").exists());
        drop((running, next));
        assert_eq!(entries(dir.path()), 1, "only what no import made");
    }
}
