//! Streaming reader of `packed-refs` (git-pack-refs(1), Git's `refs/packed-backend.c`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use gix::bstr::{BString, ByteSlice};

use super::error::{Feature, SourceError};
use super::loose_refs::parse_id;
use super::pattern::RefPatterns;
use super::reader::Reader;
use crate::refname::MAX_REF_NAME_BYTES;
use crate::refs::{RefName, RefValue};

/// Most refs in a `packed-refs` without the `sorted` trait (Git writes the trait since 2.15). Such a file is read into
/// memory, about 120 bytes per ref; a sorted file of any length streams.
pub const MAX_UNSORTED_REFS: usize = 1_000_000;
/// Most bytes of a line: the longest id, a space, the longest name and the line end. Headers are shorter.
const MAX_LINE_BYTES: u64 = 64 + 1 + MAX_REF_NAME_BYTES as u64 + 1;
/// Bytes of the read buffer.
const BUFFER_BYTES: usize = 256 * 1024;

/// Refs of a `packed-refs` file, ordered by name, as of the time of opening: Git replaces the file, so later changes
/// are not visible.
#[derive(Debug)]
pub(super) struct PackedRefs {
    common_dir: PathBuf,
    path: PathBuf,
    format: gix::hash::Kind,
    patterns: RefPatterns,
    lines: BufReader<File>,
    line: Vec<u8>,
    line_number: u64,
    last: Option<RefName>,
    /// All refs of a file without the `sorted` trait.
    sorted: Option<std::vec::IntoIter<(RefName, RefValue)>>,
}

impl PackedRefs {
    /// Opens the file; `None` if it does not exist. A name that Git does not allow is skipped unless `patterns` match
    /// it, and is an error then.
    pub(super) fn open(
        reader: &Reader,
        common_dir: &Path,
        format: gix::hash::Kind,
        patterns: &RefPatterns,
    ) -> Result<Option<Self>, SourceError> {
        let path = common_dir.join("packed-refs");
        let file = match reader.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SourceError::io(&path, error)),
        };
        let mut refs = PackedRefs {
            common_dir: common_dir.to_owned(),
            path,
            format,
            patterns: patterns.clone(),
            lines: BufReader::with_capacity(BUFFER_BYTES, file),
            line: Vec::new(),
            line_number: 0,
            last: None,
            sorted: None,
        };
        if !refs.read_header()? {
            refs.sort()?;
        }
        Ok(Some(refs))
    }

    /// Returns the next ref in the order of names.
    pub(super) fn next_ref(&mut self) -> Result<Option<(RefName, RefValue)>, SourceError> {
        if let Some(sorted) = &mut self.sorted {
            return Ok(sorted.next());
        }
        let Some((name, value)) = self.parse_next()? else { return Ok(None) };
        if self.last.as_ref().is_some_and(|last| *last >= name) {
            return Err(self.damaged(&format!("{name} is out of order, although the header declares the file sorted")));
        }
        self.last = Some(name.clone());
        Ok(Some((name, value)))
    }

    /// Reads the header line, if present. Returns true if it has the `sorted` trait.
    fn read_header(&mut self) -> Result<bool, SourceError> {
        let first = self.lines.fill_buf().map_err(|e| SourceError::io(&self.path, e))?.first();
        if first != Some(&b'#') {
            return Ok(false);
        }
        self.read_line()?;
        match self.line.strip_prefix(b"# pack-refs with:") {
            Some(traits) => Ok(traits.split(|b| *b == b' ').any(|word| word == b"sorted")),
            None => Err(self.damaged("it does not start with \"# pack-refs with:\"")),
        }
    }

    /// Reads and sorts all refs of a file without the `sorted` trait.
    fn sort(&mut self) -> Result<(), SourceError> {
        let mut refs = Vec::new();
        while let Some(entry) = self.parse_next()? {
            if refs.len() >= MAX_UNSORTED_REFS {
                let feature = Feature::TooMany("refs in an unsorted packed-refs", MAX_UNSORTED_REFS);
                return Err(SourceError::unsupported(&self.common_dir, feature));
            }
            refs.push(entry);
        }
        refs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = refs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(SourceError::damaged(&self.path, format!("it lists {} twice", pair[0].0)));
        }
        self.sorted = Some(refs.into_iter());
        Ok(())
    }

    /// Parses the next ref in file order. Peeled values (`^<id>`) are derived data and skipped.
    fn parse_next(&mut self) -> Result<Option<(RefName, RefValue)>, SourceError> {
        while self.read_line()? {
            if self.line.first() == Some(&b'^') {
                continue;
            }
            let Some((hex, name)) = self.line.split_once_str(" ") else {
                return Err(self.damaged("it is not of the form <id> <name>"));
            };
            let name = match RefName::new(BString::from(name)) {
                Ok(name) => name,
                Err(_) if !self.patterns.matches(name.as_bstr()) => continue,
                Err(error) => {
                    let reason = format!("line {}: {}", self.line_number, error.reason);
                    return Err(SourceError::BadRefName { path: self.path.clone(), reason });
                }
            };
            return match parse_id(hex, self.format) {
                Ok(id) => Ok(Some((name, RefValue::Object(id)))),
                Err(reason) => Err(SourceError::BrokenRef { path: self.path.clone(), name: name.into(), reason }),
            };
        }
        Ok(None)
    }

    /// Reads a line without its end into `self.line`. Returns false at the end of the file.
    fn read_line(&mut self) -> Result<bool, SourceError> {
        self.line.clear();
        self.line_number = self.line_number.saturating_add(1);
        let read = self.lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line);
        match read.map_err(|e| SourceError::io(&self.path, e))? {
            0 => Ok(false),
            _ if self.line.last() == Some(&b'\n') => {
                self.line.pop();
                Ok(true)
            }
            _ if self.line.len() as u64 == MAX_LINE_BYTES => Err(self.damaged("it is longer than any ref")),
            _ => Err(self.damaged("the file ends within this line")),
        }
    }

    fn damaged(&self, reason: &str) -> SourceError {
        SourceError::damaged(&self.path, format!("line {}: {reason}", self.line_number))
    }
}
