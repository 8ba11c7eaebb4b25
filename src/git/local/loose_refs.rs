//! Loose refs: one file each, below `refs/` (Git's `refs/files-backend.c`).

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

/// Most loose refs that a repository may have; they are read into memory, some 120 bytes each.
pub const MAX_LOOSE_REFS: usize = 1_000_000;
/// Most bytes of the file of a ref: the longest name, `ref: ` and room for blanks.
const MAX_REF_FILE_BYTES: u64 = 4096;
/// How often a listing starts again when files go away under it, before it gives up.
const MAX_ATTEMPTS: usize = 3;

/// A loose ref.
pub(super) type LooseRef = (RefName, RefValue);

/// All loose refs that `patterns` take, ordered by name. The files of others are not read: what is wrong with them is
/// no matter.
///
/// A file that goes away between being listed and being read was packed or deleted meanwhile. The
/// listing then starts again. `packed-refs` is to be opened after this one returns: refs are written
/// there before their file is removed, so none is missed.
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

/// The value of `HEAD`.
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
    /// With a trailing slash.
    name: BString,
    /// Reached through a symbolic link: another link below is not followed, so that none can lead in circles.
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
                // An empty directory was tidied away, or made room for a ref of its name.
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
        // Names that no ref can have and that Git leaves behind or passes over itself.
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
                // A link to nowhere: Git lists none, whatever the link says.
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

/// Whether an error says that a file or directory is no longer what it was when it was listed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

/// The oldest form of a symbolic ref: a symbolic link that names a ref. `None` for a link to elsewhere,
/// which is followed like any other.
fn link_target(path: &Path) -> Result<Option<RefValue>, SourceError> {
    let target = fs::read_link(path).map_err(|e| SourceError::io_of_listed(path, e))?;
    let name = gix::path::into_bstr(target).ok().and_then(|target| RefName::new(target.into_owned()).ok());
    Ok(name.map(RefValue::Symbolic))
}

/// Reads the file of a ref: `ref: <name>`, or an id in hexadecimal that the file or a blank ends.
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
        return Err(broken(format!("its file has more than {MAX_REF_FILE_BYTES} bytes")));
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

/// An object id in hexadecimal, of the repository's format, that can name an object.
pub(super) fn parse_id(hex: &[u8], format: gix::hash::Kind) -> Result<ObjectId, String> {
    match ObjectId::from_hex(hex) {
        Ok(id) if id.kind() != format => Err(format!("{id} is not an id of the repository's format, {format}")),
        Ok(id) if id.is_null() => Err("the all-zero id names no object".into()),
        Ok(id) => Ok(id),
        // What stands there is not told: the file may be a link to another one.
        Err(_) => Err("it is neither an object id nor ref: <name>".into()),
    }
}
