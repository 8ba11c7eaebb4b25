//! Loose objects: one compressed file each, `objects/<2 digits>/<rest>` (gitformat-loose(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::vec;

use flate2::{Decompress, FlushDecompress, Status};
use gix::ObjectId;
use gix::hash::Hasher;

use super::error::SourceError;
use super::objects;
use super::reader::Reader;

/// Most bytes of the header `<kind> <size>` with its NUL (`MAX_HEADER_LEN` in Git).
const MAX_HEADER_BYTES: usize = 32;
/// Bytes of the read buffer.
const BUFFER_BYTES: usize = 32 * 1024;
/// Number of subdirectories of an object directory.
const FAN_OUT: u16 = 256;

/// Path of a loose object in an object directory.
fn path_in(object_dir: &Path, id: &ObjectId) -> PathBuf {
    let hex = id.to_hex().to_string();
    object_dir.join(&hex[..2]).join(&hex[2..])
}

/// Iterator over the loose objects of several object directories, ordered by id, without repetition.
///
/// Memory holds the names of one of the 256 subdirectories at a time (at most [`super::MAX_DIRECTORY_ENTRIES`] per
/// object directory). Ends after an error.
#[derive(Debug)]
pub struct LooseObjects {
    reader: Reader,
    object_dirs: Vec<PathBuf>,
    format: gix::hash::Kind,
    next_fan: u16,
    ready: vec::IntoIter<LooseEntry>,
}

impl LooseObjects {
    pub(super) fn new(reader: Reader, object_dirs: Vec<PathBuf>, format: gix::hash::Kind) -> Self {
        LooseObjects { reader, object_dirs, format, next_fan: 0, ready: Vec::new().into_iter() }
    }

    fn read_fan(&self, fan: u16) -> Result<Vec<LooseEntry>, SourceError> {
        let mut found: BTreeMap<ObjectId, &Path> = BTreeMap::new();
        let fan = format!("{fan:02x}");
        for directory in &self.object_dirs {
            for name in objects::list(&directory.join(&fan))? {
                let name = name.as_encoded_bytes();
                // Temporary and foreign files, which Git skips as well.
                if fan.len() + name.len() != self.format.len_in_hex() || name.iter().any(u8::is_ascii_uppercase) {
                    continue;
                }
                if let Ok(id) = ObjectId::from_hex(&[fan.as_bytes(), name].concat()) {
                    found.entry(id).or_insert(directory);
                }
            }
        }
        Ok(found
            .into_iter()
            .map(|(id, directory)| LooseEntry { path: path_in(directory, &id), id, reader: self.reader.clone() })
            .collect())
    }
}

impl Iterator for LooseObjects {
    type Item = Result<LooseEntry, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(Ok(entry));
            }
            if self.next_fan >= FAN_OUT {
                return None;
            }
            match self.read_fan(self.next_fan) {
                Ok(entries) => self.ready = entries.into_iter(),
                Err(error) => {
                    self.next_fan = FAN_OUT;
                    return Some(Err(error));
                }
            }
            self.next_fan += 1;
        }
    }
}

/// Loose object that has been listed but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseEntry {
    /// Id derived from the file name.
    pub id: ObjectId,
    /// Path of the object's file.
    pub path: PathBuf,
    reader: Reader,
}

impl LooseEntry {
    /// Opens the object for streaming.
    pub fn open(&self) -> Result<LooseObject, SourceError> {
        LooseObject::open(&self.reader, &self.path, self.id)
    }

    /// Reads an object of at most `limit` bytes into memory and checks its hash.
    pub fn read(&self, limit: u64) -> Result<(gix::object::Kind, Vec<u8>), SourceError> {
        let mut object = self.open()?;
        let size = object.size;
        let too_large = || SourceError::TooLarge { path: self.path.clone(), size, limit };
        if size > limit {
            return Err(too_large());
        }
        let mut data = vec![0; usize::try_from(size).map_err(|_| too_large())?];
        object.fill(&mut data)?;
        Ok((object.kind, data))
    }
}

/// Reader of a loose object's content.
///
/// Yields exactly `size` bytes, the last of them only after hash, size and compression have been verified. Otherwise a
/// read fails with an [`io::Error`] that wraps a [`SourceError`] (see [`io::Error::downcast`]).
pub struct LooseObject {
    /// Commit, tree, blob or tag.
    pub kind: gix::object::Kind,
    /// Size in bytes from the object's header.
    pub size: u64,
    id: ObjectId,
    inflate: Inflate,
    remaining: u64,
    /// Hash of the content so far; `None` once it has been verified.
    hasher: Option<Hasher>,
}

impl LooseObject {
    fn open(reader: &Reader, path: &Path, id: ObjectId) -> Result<Self, SourceError> {
        let file = reader.open(path).map_err(|e| SourceError::io_of_listed(path, e))?;
        let mut inflate = Inflate {
            path: path.to_owned(),
            input: BufReader::with_capacity(BUFFER_BYTES, file),
            state: Decompress::new(true),
            ended: false,
        };
        let (header, kind, size) = read_header(&mut inflate)?;
        let mut hasher = gix::hash::hasher(id.kind());
        hasher.update(&header);
        let mut object = LooseObject { kind, size, id, inflate, remaining: size, hasher: Some(hasher) };
        if size == 0 {
            object.check_end()?;
        }
        Ok(object)
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), SourceError> {
        while !out.is_empty() {
            let read = self.read_some(out)?;
            out = &mut out[read..];
        }
        Ok(())
    }

    /// Reads at least one byte; 0 only at the end or into an empty buffer.
    fn read_some(&mut self, out: &mut [u8]) -> Result<usize, SourceError> {
        let want = usize::try_from(self.remaining).map_or(out.len(), |remaining| remaining.min(out.len()));
        if want == 0 {
            return Ok(0);
        }
        let read = self.inflate.read(&mut out[..want])?;
        if read == 0 {
            return Err(self.inflate.damaged("it is shorter than its header says"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&out[..read]);
        }
        self.remaining = self.remaining.saturating_sub(read as u64);
        if self.remaining == 0 {
            self.check_end()?;
        }
        Ok(read)
    }

    fn check_end(&mut self) -> Result<(), SourceError> {
        if self.inflate.read(&mut [0])? != 0 {
            return Err(self.inflate.damaged("it is longer than its header says"));
        }
        if !self.inflate.fill_buf()?.is_empty() {
            return Err(self.inflate.damaged("bytes follow the end of the object"));
        }
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        match hasher.try_finalize() {
            Ok(id) if id == self.id => Ok(()),
            Ok(id) => Err(self.inflate.damaged(&format!("its content is that of object {id}"))),
            Err(error) => Err(self.inflate.damaged(&error.to_string())),
        }
    }
}

impl Read for LooseObject {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(out)?)
    }
}

/// Reads the header `<kind> <size>` with its NUL.
fn read_header(inflate: &mut Inflate) -> Result<(Vec<u8>, gix::object::Kind, u64), SourceError> {
    let mut header = Vec::with_capacity(MAX_HEADER_BYTES);
    let mut byte = [0];
    while header.len() < MAX_HEADER_BYTES && inflate.read(&mut byte)? == 1 {
        header.push(byte[0]);
        if byte[0] == 0 {
            break;
        }
    }
    match parse_header(&header) {
        Some((kind, size)) => Ok((header, kind, size)),
        None => Err(inflate.damaged("it does not start with an object header")),
    }
}

fn parse_header(header: &[u8]) -> Option<(gix::object::Kind, u64)> {
    let text = std::str::from_utf8(header.strip_suffix(b"\0")?).ok()?;
    let (kind, size) = text.split_once(' ')?;
    let canonical = size.bytes().all(|b| b.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
    if !canonical {
        return None;
    }
    Some((gix::object::Kind::from_bytes(kind.as_bytes()).ok()?, size.parse().ok()?))
}

/// Zlib stream from a file that distinguishes the end of the stream from truncation.
struct Inflate {
    path: PathBuf,
    input: BufReader<File>,
    state: Decompress,
    ended: bool,
}

impl Inflate {
    fn damaged(&self, reason: &str) -> SourceError {
        SourceError::damaged(&self.path, reason)
    }

    fn fill_buf(&mut self) -> Result<&[u8], SourceError> {
        self.input.fill_buf().map_err(|e| SourceError::io(&self.path, e))
    }

    /// Reads at least one byte; 0 only at the end of the stream (`out` is never empty).
    fn read(&mut self, out: &mut [u8]) -> Result<usize, SourceError> {
        debug_assert!(!out.is_empty(), "a read into an empty buffer never makes progress");
        while !self.ended {
            let input = self.input.fill_buf().map_err(|e| SourceError::io(&self.path, e))?;
            let at_end = input.is_empty();
            let in_before = self.state.total_in();
            let out_before = self.state.total_out();
            let status = self.state.decompress(input, out, FlushDecompress::None);
            let consumed = self.state.total_in().saturating_sub(in_before) as usize;
            let read = self.state.total_out().saturating_sub(out_before) as usize;
            self.input.consume(consumed);
            match status {
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(_) if at_end && read == 0 => return Err(self.damaged("it is cut off")),
                Ok(_) => {}
                Err(error) => return Err(self.damaged(&format!("it cannot be decompressed: {error}"))),
            }
            if read > 0 {
                return Ok(read);
            }
        }
        Ok(0)
    }
}
