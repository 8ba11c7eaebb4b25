//! Loose refs: one file each below `refs/` (Git's `refs/files-backend.c`).

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::error::{Feature, SourceError};
use super::pattern::RefPatterns;
use super::reader::Reader;
use crate::refname::NameError;
use crate::refs::{RefName, RefValue};

/// Most loose refs of a repository. They are read into memory, about 120 bytes each.
pub const MAX_LOOSE_REFS: usize = 1_000_000;
/// Most bytes of a loose ref file: the longest name, `ref: ` and white space.
const MAX_REF_FILE_BYTES: u64 = 4096;
/// Most attempts of a listing during which files vanish.
const MAX_ATTEMPTS: usize = 3;

/// Name and value of a loose ref.
pub(super) type LooseRef = (RefName, RefValue);

/// Lists the loose refs that match `patterns`, ordered by name. Files of other refs are not read, so damage in them
/// does not matter.
///
/// A file that vanishes between listing and reading was packed or deleted; the listing then starts again. Callers open
/// `packed-refs` after this function returns: Git writes refs there before it removes their files, so none is missed.
pub(super) fn list(
    reader: &Reader,
    common_dir: &Path,
    format: gix::hash::Kind,
    patterns: &RefPatterns,
) -> Result<Vec<LooseRef>, SourceError> {
    let mut vanished = PathBuf::new();
    for _ in 0..MAX_ATTEMPTS {
        let mut scan = Scan { reader, common_dir, format, patterns, refs: Vec::new(), pending: Vec::new() };
        scan.pending.push(Directory { name: "refs/".into(), through_link: false });
        match scan.run() {
            Ok(()) => {
                scan.refs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                return Ok(scan.refs);
            }
            Err(SourceError::Changed { path }) => vanished = path,
            Err(error) => return Err(error),
        }
    }
    Err(SourceError::Changed { path: vanished })
}

/// Reads `HEAD`.
pub(super) fn head(reader: &Reader, common_dir: &Path, format: gix::hash::Kind) -> Result<RefValue, SourceError> {
    let name = BStr::new("HEAD");
    let path = common_dir.join("HEAD");
    let is_link = fs::symlink_metadata(&path).map_err(|e| SourceError::io_of_listed(&path, e))?.is_symlink();
    let linked = if is_link { link_target(&path)? } else { None };
    match linked {
        Some(value) => Ok(value),
        None => read_value(reader, &path, name, format),
    }
}

struct Directory {
    /// Ref prefix with a trailing slash.
    name: BString,
    /// True below a symbolic link: a second link is refused, which rules out cycles.
    through_link: bool,
}

struct Scan<'a> {
    reader: &'a Reader,
    common_dir: &'a Path,
    format: gix::hash::Kind,
    patterns: &'a RefPatterns,
    refs: Vec<LooseRef>,
    pending: Vec<Directory>,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<(), SourceError> {
        while let Some(directory) = self.pending.pop() {
            let path = self.path_of(directory.name.as_bstr())?;
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                // Git removes empty directories, and replaces them by refs of the same name.
                Err(error) if is_gone(&error) => return Err(SourceError::Changed { path }),
                Err(error) => return Err(SourceError::io(&path, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| SourceError::io(&path, e))?;
                self.entry(&directory, &entry)?;
            }
        }
        Ok(())
    }

    fn path_of(&self, name: &BStr) -> Result<PathBuf, SourceError> {
        let relative = gix::path::from_byte_slice(name)
            .map_err(|e| SourceError::damaged(self.common_dir, format!("the name {name:?}: {e}")))?;
        Ok(self.common_dir.join(relative))
    }

    fn entry(&mut self, parent: &Directory, entry: &fs::DirEntry) -> Result<(), SourceError> {
        let path = entry.path();
        let file_name = entry.file_name();
        let file_name = gix::path::os_str_into_bstr(&file_name)
            .map_err(|e| SourceError::damaged(&path, format!("its name: {e}")))?;
        // Lock files and hidden files, which Git skips as well; no ref can have such a name.
        if file_name.starts_with(b".") || file_name.ends_with(b".lock") {
            return Ok(());
        }
        let mut name = parent.name.clone();
        name.extend_from_slice(file_name);
        let mut kind = entry.file_type().map_err(|e| SourceError::io_of_listed(&path, e))?;
        let is_link = kind.is_symlink();
        if is_link {
            kind = match fs::metadata(&path) {
                Ok(metadata) => metadata.file_type(),
                // Git skips dangling links.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SourceError::io(&path, error)),
            };
            if let Some(value) = link_target(&path)? {
                if !self.patterns.matches(name.as_bstr()) {
                    return Ok(());
                }
                return self.push(&path, name, value);
            }
        }
        if kind.is_dir() {
            if is_link && parent.through_link {
                return Err(SourceError::unsupported(self.common_dir, Feature::LinkedRefDirectories(path)));
            }
            name.push(b'/');
            self.pending.push(Directory { name, through_link: is_link || parent.through_link });
        } else if kind.is_file() && self.patterns.matches(name.as_bstr()) {
            let value = read_value(self.reader, &path, name.as_bstr(), self.format)?;
            self.push(&path, name, value)?;
        }
        Ok(())
    }

    fn push(&mut self, path: &Path, name: BString, value: RefValue) -> Result<(), SourceError> {
        if self.refs.len() >= MAX_LOOSE_REFS {
            return Err(SourceError::unsupported(self.common_dir, Feature::TooMany("loose refs", MAX_LOOSE_REFS)));
        }
        let bad = |error: NameError| SourceError::BadRefName { path: path.to_owned(), reason: error.reason };
        let name = RefName::new(name).map_err(bad)?;
        self.refs.push((name, value));
        Ok(())
    }
}

/// Returns true if the error means that a listed file or directory has been removed or replaced.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

/// Reads the oldest form of a symbolic ref, a symbolic link to a ref name. `None` for any other link, which is followed
/// like a file.
fn link_target(path: &Path) -> Result<Option<RefValue>, SourceError> {
    let target = fs::read_link(path).map_err(|e| SourceError::io_of_listed(path, e))?;
    let name = gix::path::into_bstr(target).ok().and_then(|target| RefName::new(target.into_owned()).ok());
    Ok(name.map(RefValue::Symbolic))
}

/// Reads a loose ref file: `ref: <name>`, or a hexadecimal id followed by white space or the end of the file.
fn read_value(reader: &Reader, path: &Path, name: &BStr, format: gix::hash::Kind) -> Result<RefValue, SourceError> {
    let mut text = Vec::new();
    let read = reader.open(path).and_then(|file| file.take(MAX_REF_FILE_BYTES + 1).read_to_end(&mut text));
    if let Err(error) = read {
        return Err(if is_gone(&error) && name != "HEAD" {
            SourceError::Changed { path: path.to_owned() }
        } else {
            SourceError::io_of_listed(path, error)
        });
    }
    let broken = |reason: String| SourceError::BrokenRef { path: path.to_owned(), name: name.into(), reason };
    if text.len() as u64 > MAX_REF_FILE_BYTES {
        return Err(broken(format!("its file exceeds {MAX_REF_FILE_BYTES} bytes")));
    }
    let text = text.trim_end_with(|c| c.is_ascii_whitespace());
    if text.is_empty() {
        return Err(broken("its file is empty, as a crash may leave it".into()));
    }
    if let Some(target) = text.strip_prefix(b"ref:") {
        let target = target.trim_start_with(|c| c.is_ascii_whitespace());
        let bad = |error: NameError| {
            broken(format!("it is a symbolic ref to a name that Git does not allow: {}", error.reason))
        };
        return RefName::new(target).map(RefValue::Symbolic).map_err(bad);
    }
    let id = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    parse_id(id, format).map(RefValue::Object).map_err(broken)
}

/// Parses a hexadecimal object id of the repository's format that is not all zeros.
pub(super) fn parse_id(hex: &[u8], format: gix::hash::Kind) -> Result<ObjectId, String> {
    match ObjectId::from_hex(hex) {
        Ok(id) if id.kind() != format => Err(format!("{id} is not an id of the repository's format, {format}")),
        Ok(id) if id.is_null() => Err("the all-zero id names no object".into()),
        Ok(id) => Ok(id),
        // The content is not quoted: the file may be a link to another file.
        Err(_) => Err("it is neither an object id nor ref: <name>".into()),
    }
}
