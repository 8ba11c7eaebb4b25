//! [`RepoPath`]: a checked path within a repository.

use std::fmt;

use gix::bstr::{BStr, BString, ByteSlice};

use gitferry_git::fsck::is_dot_git;

use crate::limits::{MAX_EDIT_DEPTH, MAX_PATH_BYTES};

/// Path of a file or folder from the root of a repository: names that are neither empty nor `.` nor `..`, joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(BString);

/// A path that a repository cannot have, or that an edit may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// No path.
    #[error("the path is empty")]
    Empty,
    /// Longer than [`MAX_PATH_BYTES`].
    #[error("the path has more than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// More names than [`MAX_EDIT_DEPTH`].
    #[error("the path has more than {MAX_EDIT_DEPTH} names")]
    TooDeep,
    /// A leading slash.
    #[error("the path begins with `/`")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("a name in the path is empty")]
    EmptyName,
    /// A name that points to another place.
    #[error("a name in the path is `.` or `..`")]
    Relative,
    /// A name that Git or a file system takes for `.git`.
    #[error("a name in the path stands for `.git`")]
    DotGit,
    /// A control character.
    #[error("the path has a control character")]
    Control,
}

impl RepoPath {
    /// Checks a path that is to be read. Slashes at both ends are ignored.
    pub fn to_read(path: impl AsRef<[u8]>) -> Result<RepoPath, InvalidPath> {
        let path = path.as_ref().trim_with(|c| c == '/');
        if path.is_empty() {
            return Err(InvalidPath::Empty);
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(InvalidPath::TooLong);
        }
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" => return Err(InvalidPath::EmptyName),
                b"." | b".." => return Err(InvalidPath::Relative),
                _ if name.contains(&0) => return Err(InvalidPath::Control),
                _ => {}
            }
        }
        Ok(RepoPath(path.into()))
    }

    /// Checks a path that is to be written.
    pub fn to_write(path: impl AsRef<[u8]>) -> Result<RepoPath, InvalidPath> {
        let bytes = path.as_ref();
        if bytes.first() == Some(&b'/') {
            return Err(InvalidPath::Absolute);
        }
        if bytes.len() > 1 && bytes.last() == Some(&b'/') {
            return Err(InvalidPath::EmptyName);
        }
        let path = RepoPath::to_read(bytes)?;
        if bytes.iter().any(u8::is_ascii_control) {
            return Err(InvalidPath::Control);
        }
        if path
            .names()
            .any(|name| is_dot_git(name.as_bstr()) || name.split_str("\\").any(|part| is_dot_git(part.as_bstr())))
        {
            return Err(InvalidPath::DotGit);
        }
        if path.names().count() > MAX_EDIT_DEPTH {
            return Err(InvalidPath::TooDeep);
        }
        Ok(path)
    }

    /// Path that is known to be one: it was put together from names of trees.
    pub(crate) fn known(path: BString) -> RepoPath {
        RepoPath(path)
    }

    /// Bytes of the path.
    pub fn as_bstr(&self) -> &BStr {
        self.0.as_bstr()
    }

    /// Names from the root on.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Last name.
    pub(crate) fn last(&self) -> &[u8] {
        self.0.rfind_byte(b'/').map_or(&self.0[..], |at| &self.0[at + 1..])
    }

    /// Folder of the path; `None` if the path is at the root.
    pub(crate) fn parent(&self) -> Option<RepoPath> {
        self.0.rfind_byte(b'/').map(|at| RepoPath(BString::from(&self.0[..at])))
    }

    /// Path of a name in the folder of this path.
    pub(crate) fn join(&self, name: &[u8]) -> RepoPath {
        RepoPath(joined(&self.0, name))
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Path of a name in a folder; the root is the empty path.
pub(crate) fn joined(folder: &[u8], name: &[u8]) -> BString {
    if folder.is_empty() { name.into() } else { [folder, b"/", name].concat().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_or_harm_clients_are_refused() {
        let long = "a/".repeat(MAX_PATH_BYTES);
        let deep = vec!["a"; MAX_EDIT_DEPTH + 1].join("/");
        for (path, error) in [
            ("", InvalidPath::Empty),
            ("/", InvalidPath::Absolute),
            ("/a", InvalidPath::Absolute),
            ("a/", InvalidPath::EmptyName),
            ("a//b", InvalidPath::EmptyName),
            ("../a", InvalidPath::Relative),
            ("a/./b", InvalidPath::Relative),
            (".git/config", InvalidPath::DotGit),
            ("a/.GIT", InvalidPath::DotGit),
            ("a/git~1/x", InvalidPath::DotGit),
            ("a\\.git\\config", InvalidPath::DotGit),
            ("a\nb", InvalidPath::Control),
            ("a\0b", InvalidPath::Control),
            ("a\u{7f}", InvalidPath::Control),
            (&long[..long.len() - 1], InvalidPath::TooLong),
            (&deep, InvalidPath::TooDeep),
        ] {
            assert_eq!(RepoPath::to_write(path), Err(error), "{path:?}");
        }
        for path in ["a", ".gitignore", "a b/ü", "x/.gitkeep", "...", "a.git"] {
            assert_eq!(RepoPath::to_write(path).unwrap().as_bstr(), path);
        }
        assert_eq!(RepoPath::to_read("/a/b/").unwrap().as_bstr(), "a/b");
        assert_eq!(RepoPath::to_read(".git").unwrap().as_bstr(), ".git");
        assert_eq!(RepoPath::to_read("//"), Err(InvalidPath::Empty));
    }
}
