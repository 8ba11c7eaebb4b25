//! Access to files of a repository that may belong to another user.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens regular files only, so that no open blocks on a pipe or device.
///
/// In a repository of the user who runs gitferry, symbolic links are followed anywhere, as Git does. In a trusted
/// repository of another user (`safe.directory`), links are followed only within the repository: a link out of it would
/// make gitferry read, and publish, files that the owner of the repository may not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reader {
    /// Canonical directories that files must be in; `None` permits any.
    within: Option<Arc<[PathBuf]>>,
}

impl Reader {
    /// Reader for a repository of another user, confined to canonical `directories`.
    pub(super) fn within(directories: Vec<PathBuf>) -> Self {
        Reader { within: Some(directories.into()) }
    }

    /// Returns a reader that permits one more canonical directory.
    pub(super) fn including(&self, directory: &Path) -> Self {
        let more = |within: &Arc<[PathBuf]>| within.iter().cloned().chain([directory.to_owned()]).collect();
        Reader { within: self.within.as_ref().map(more) }
    }

    /// Returns true if links out of the repository are refused.
    pub(super) fn is_confined(&self) -> bool {
        self.within.is_some()
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// In addition to errors of the system: [`ErrorKind::IsADirectory`], [`ErrorKind::PermissionDenied`] if a link
    /// leads out of the repository, and [`ErrorKind::NotADirectory`] for a pipe, socket or device.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        // Without O_NONBLOCK the open of a pipe without a writer blocks.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !meta.is_file() {
            return Err(io::Error::new(ErrorKind::NotADirectory, "it is a pipe, a socket or a device"));
        }
        let Some(within) = &self.within else { return Ok(file) };
        // The open file is compared with the file at the canonical path, so a link that changes in between is refused.
        let real = fs::canonicalize(path)?;
        let there = fs::symlink_metadata(&real)?;
        let same = (there.dev(), there.ino()) == (meta.dev(), meta.ino());
        if same && within.iter().any(|directory| real.starts_with(directory)) {
            Ok(file)
        } else {
            Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "a symbolic link leads out of the repository, which belongs to another user",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_out_of_own_repositories_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(root.join("repo")).unwrap();
        fs::write(root.join("outside"), "x").unwrap();
        fs::write(root.join("repo/inside"), "x").unwrap();
        symlink("../outside", root.join("repo/out")).unwrap();
        symlink("inside", root.join("repo/in")).unwrap();
        symlink("..", root.join("repo/up")).unwrap();
        let confined = Reader::within(vec![root.join("repo")]);
        for (name, stays) in
            [("inside", true), ("in", true), ("out", false), ("up/outside", false), ("up/repo/in", true)]
        {
            let path = root.join("repo").join(name);
            assert!(Reader::default().open(&path).is_ok(), "{name}");
            assert_eq!(
                confined.open(&path).map_err(|e| e.kind()).err(),
                (!stays).then_some(ErrorKind::PermissionDenied)
            );
        }
        assert!(confined.including(&root).open(&root.join("repo/out")).is_ok());
    }
}
