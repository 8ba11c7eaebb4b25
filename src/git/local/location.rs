//! Discovery of a repository's common directory (gitrepository-layout(5)).

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice;

use super::error::SourceError;
use super::reader::Reader;

/// Most bytes of a `.git` or `commondir` file (a path and a short prefix).
const MAX_POINTER_BYTES: u64 = 64 * 1024;

/// Finds the common directory of the repository at `path`.
///
/// A bare repository is its own common directory. A work tree uses its `.git`, which may be a file that points
/// elsewhere (submodules). All linked work trees of a repository share one common directory.
///
/// Returns the common directory and every path on the way to it, for the check of owners.
pub(super) fn find(path: &Path) -> Result<(PathBuf, Vec<PathBuf>), SourceError> {
    let not_found = |reason: String| SourceError::NotFound { path: path.to_owned(), reason };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found("it does not exist".into())),
        Err(error) => return Err(SourceError::io(path, error)),
    };
    let dot_git = path.join(".git");
    let mut places = vec![path.to_owned()];
    let git_dir = if metadata.is_file() {
        follow_git_file(path)?
    } else {
        match fs::metadata(&dot_git) {
            Ok(metadata) if metadata.is_file() => {
                places.push(dot_git.clone());
                follow_git_file(&dot_git)?
            }
            Ok(_) => dot_git,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(SourceError::io(&dot_git, error)),
        }
    };
    places.push(git_dir.clone());
    let pointer = git_dir.join("commondir");
    let common_dir = match read_pointer(&pointer)? {
        Some(text) => {
            places.push(pointer.clone());
            git_dir.join(to_path(&pointer, &text)?)
        }
        None => git_dir,
    };
    // A path read from a file is not shown: the file may be a link to one with any content.
    let shown = if common_dir == path || common_dir == path.join(".git") {
        common_dir.display().to_string()
    } else {
        format!("the directory that {} points to", path.display())
    };
    for name in ["HEAD", "objects", "refs"] {
        // `HEAD` may be a symbolic link to an unborn branch.
        match fs::symlink_metadata(common_dir.join(name)) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(not_found(format!("{shown} has no {name}")));
            }
            Err(error) => return Err(SourceError::io(&path.join(name), error)),
        }
    }
    places.push(common_dir.clone());
    Ok((common_dir, places))
}

/// Resolves the target of a `.git` file, relative to the directory of that file.
fn follow_git_file(file: &Path) -> Result<PathBuf, SourceError> {
    let text = read_pointer(file)?.unwrap_or_default();
    let Some(target) = text.strip_prefix(b"gitdir: ") else {
        return Err(SourceError::NotFound {
            path: file.to_owned(),
            reason: "it is a file without the line gitdir: <path>".into(),
        });
    };
    let parent = file.parent().unwrap_or(Path::new(""));
    Ok(parent.join(to_path(file, target)?))
}

/// Reads a small text file without its line end; `None` if it does not exist.
fn read_pointer(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    let Some(mut text) = read_small(path, MAX_POINTER_BYTES)? else { return Ok(None) };
    text.truncate(text.trim_end_with(|c| matches!(c, '\n' | '\r')).len());
    Ok(Some(text))
}

fn to_path(file: &Path, bytes: &[u8]) -> Result<PathBuf, SourceError> {
    match gix::path::from_byte_slice(bytes) {
        Ok(path) if !bytes.is_empty() => Ok(path.to_owned()),
        _ => Err(SourceError::damaged(file, "it holds no valid path")),
    }
}

/// Reads a whole file of at most `limit` bytes; `None` if it does not exist.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
    read_small_with(&Reader::default(), path, limit)
}

/// Reads a whole file of at most `limit` bytes through the repository's reader; `None` if it does not exist.
pub(super) fn read_small_with(reader: &Reader, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let file = match reader.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SourceError::io(path, error)),
    };
    let mut text = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut text).map_err(|e| SourceError::io(path, e))?;
    if text.len() as u64 > limit {
        return Err(SourceError::damaged(path, format!("it exceeds {limit} bytes")));
    }
    Ok(Some(text))
}
