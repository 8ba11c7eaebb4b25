//! Collection of the links found while a pack is resolved.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use super::error::Fault;
use super::index::{Lookup, leading};
use super::nesting::Nested;
use crate::links::{Link, kind_code, kind_of_code};

/// Most links out of a pack. They are kept in memory, 34 bytes each.
pub const MAX_UNRESOLVED_LINKS: usize = 1 << 24;
/// Most slots of the cache of recent links, per thread: 21 bytes each for SHA-1.
const SEEN_SLOTS: usize = 1 << 14;
/// Bytes of links that are buffered before a write to disk.
const SPOOL_BYTES: usize = 256 << 10;

/// Kinds that links expect of their targets: one bit per kind for every row of an index.
#[derive(Debug)]
pub(crate) struct Expected(Vec<AtomicU8>);

impl Expected {
    pub(crate) fn new(rows: u32) -> Self {
        Expected((0..rows).map(|_| AtomicU8::new(0)).collect())
    }

    fn mark(&self, row: u32, kind: Kind) {
        let slot = &self.0[row as usize];
        let bit = 1 << kind_code(kind);
        if slot.load(Ordering::Relaxed) & bit == 0 {
            slot.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Kinds other than `code` that links expect of the object in `row`.
    pub(crate) fn wrong(&self, row: u32, code: u8) -> impl Iterator<Item = Kind> + use<> {
        let wrong = self.0[row as usize].load(Ordering::Relaxed) & !(1 << code);
        (1..=4).filter(move |code| wrong & (1 << code) != 0).map(kind_of_code)
    }
}

/// Links out of the pack. Repetitions are removed when the list is sorted.
#[derive(Debug, Default)]
pub(crate) struct Unresolved {
    links: Vec<Link>,
    /// Number of links at which the list is sorted next.
    sort_at: usize,
}

impl Unresolved {
    fn push(&mut self, link: Link) -> Result<(), Fault> {
        if self.links.len() >= self.sort_at {
            self.sort();
            self.sort_at = (self.links.len() * 2).max(SEEN_SLOTS);
            if self.links.len() > MAX_UNRESOLVED_LINKS {
                return Err(Fault::TooManyLinks { limit: MAX_UNRESOLVED_LINKS });
            }
        }
        self.links.push(link);
        Ok(())
    }

    fn sort(&mut self) {
        self.links.sort_unstable();
        self.links.dedup();
    }

    /// Merges the lists of all threads, sorted and without repetition.
    pub(crate) fn merge(all: Vec<Unresolved>) -> Result<Vec<Link>, Fault> {
        let mut merged = Unresolved::default();
        for mut one in all {
            if merged.links.is_empty() {
                merged = one;
            } else {
                merged.links.append(&mut one.links);
                merged.sort();
            }
        }
        merged.sort();
        if merged.links.len() > MAX_UNRESOLVED_LINKS {
            return Err(Fault::TooManyLinks { limit: MAX_UNRESOLVED_LINKS });
        }
        Ok(merged.links)
    }
}

/// Receiver of the links that one thread finds.
pub(crate) enum LinkSink<'a> {
    /// With an index of the pack: links are looked up at once. `nested` holds the row of each subtree in the place of
    /// its entry.
    Lookup { seen: Seen, lookup: &'a Lookup<'a>, expected: &'a Expected, unresolved: Unresolved, nested: Vec<Nested> },
    /// Without an index: links are spooled, with their kinds, and subtrees with the entry of their tree.
    Spool { seen: Seen, links: Spool<'a>, nested: Spool<'a> },
}

impl<'a> LinkSink<'a> {
    pub(crate) fn lookup(lookup: &'a Lookup<'a>, expected: &'a Expected, format: Format) -> Self {
        LinkSink::Lookup {
            seen: Seen::new(format, expected.0.len()),
            lookup,
            expected,
            unresolved: Unresolved::default(),
            nested: Vec::new(),
        }
    }

    pub(crate) fn spool(directory: &'a Path, format: Format, objects: u32) -> Self {
        let width = format.len_in_bytes();
        LinkSink::Spool {
            seen: Seen::new(format, objects as usize),
            links: Spool::new(directory, width + 1),
            nested: Spool::new(directory, width + 4),
        }
    }

    /// Takes a subtree of the tree in `entry`.
    pub(crate) fn nest(&mut self, entry: u32, subtree: &oid) -> Result<(), Fault> {
        match self {
            LinkSink::Lookup { lookup, nested, .. } => {
                nested.extend(lookup.row_of(subtree).map(|row| Nested { subtree: row, tree: entry }));
                Ok(())
            }
            LinkSink::Spool { nested, .. } => nested.push(subtree, &entry.to_be_bytes()),
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, id: &oid, kind: Kind) -> Result<(), Fault> {
        match self {
            LinkSink::Lookup { seen, lookup, expected, unresolved, .. } => {
                if seen.check(id, kind) {
                    Ok(())
                } else {
                    resolve(id, kind, lookup, expected, unresolved)
                }
            }
            LinkSink::Spool { seen, links, .. } => {
                if seen.check(id, kind) {
                    Ok(())
                } else {
                    links.push(id, &[kind_code(kind)])
                }
            }
        }
    }
}

/// Records a link at its target in the pack, or as unresolved.
pub(crate) fn resolve(
    id: &oid,
    kind: Kind,
    lookup: &Lookup<'_>,
    expected: &Expected,
    unresolved: &mut Unresolved,
) -> Result<(), Fault> {
    match lookup.row_of(id) {
        Some(row) => {
            expected.mark(row, kind);
            Ok(())
        }
        None => unresolved.push(Link { id: id.to_owned(), kind }),
    }
}

/// Direct-mapped cache of recent links. Versions of a tree share most entries and are resolved one after the other, so
/// nearly all links hit the cache. Whole ids are compared, as ids are untrusted input.
pub(crate) enum Seen {
    Sha1(Vec<[u8; 21]>),
    Sha256(Vec<[u8; 33]>),
}

impl Seen {
    fn new(format: Format, objects: usize) -> Self {
        let slots = objects.saturating_mul(2).clamp(1, SEEN_SLOTS);
        match format {
            Format::Sha256 => Seen::Sha256(vec![[0; 33]; slots]),
            _ => Seen::Sha1(vec![[0; 21]; slots]),
        }
    }

    /// Returns true if the link is in the cache, and adds it otherwise.
    #[inline]
    fn check(&mut self, id: &oid, kind: Kind) -> bool {
        let code = kind_code(kind);
        match self {
            Seen::Sha1(slots) => check_slot(slots, id.as_bytes(), code),
            Seen::Sha256(slots) => check_slot(slots, id.as_bytes(), code),
        }
    }
}

#[inline]
fn check_slot<const N: usize>(slots: &mut [[u8; N]], id: &[u8], code: u8) -> bool {
    debug_assert_eq!(id.len() + 1, N, "an id has the object format of the pack");
    // Multiply and shift maps ids evenly to any number of slots, faster than a remainder.
    let at = (u64::from(leading(id)) * slots.len() as u64) >> 32;
    let slot = &mut slots[at as usize];
    let mut wanted = [code; N];
    wanted[..N - 1].copy_from_slice(id);
    if *slot == wanted {
        return true;
    }
    *slot = wanted;
    false
}

/// Spool of ids, each with some bytes about it: in memory, and in an unnamed temporary file beyond [`SPOOL_BYTES`].
pub(crate) struct Spool<'a> {
    directory: &'a Path,
    /// Bytes of a record.
    width: usize,
    buffer: Vec<u8>,
    file: Option<File>,
}

impl<'a> Spool<'a> {
    fn new(directory: &'a Path, width: usize) -> Self {
        Spool { directory, width, buffer: Vec::new(), file: None }
    }

    fn push(&mut self, id: &oid, about: &[u8]) -> Result<(), Fault> {
        debug_assert_eq!(id.as_bytes().len() + about.len(), self.width, "all records have one width");
        self.buffer.extend_from_slice(id.as_bytes());
        self.buffer.extend_from_slice(about);
        if self.buffer.len() >= SPOOL_BYTES {
            self.flush().map_err(Fault::io("spool links to a temporary file"))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile_in(self.directory)?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Calls `each` for every record, with the id and its `N` bytes.
    fn drain<const N: usize>(mut self, mut each: impl FnMut(&oid, [u8; N]) -> Result<(), Fault>) -> Result<(), Fault> {
        let width = self.width;
        let mut records = |bytes: &[u8]| {
            assert!(bytes.len().is_multiple_of(width), "the spool holds a part of a record");
            bytes.chunks_exact(width).try_for_each(|record| {
                let Some((id, about)) = record.split_last_chunk() else { unreachable!("a record has {width} bytes") };
                each(oid::from_bytes_unchecked(id), *about)
            })
        };
        records(&self.buffer)?;
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.rewind().map_err(Fault::io("read spooled links"))?;
        self.buffer.resize(SPOOL_BYTES / width * width, 0);
        let mut left = file.metadata().map_err(Fault::io("read spooled links"))?.len();
        while left > 0 {
            let count = left.min(self.buffer.len() as u64) as usize;
            file.read_exact(&mut self.buffer[..count]).map_err(Fault::io("read spooled links"))?;
            records(&self.buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Calls `each` for every spooled link.
    pub(crate) fn drain_links(self, mut each: impl FnMut(&oid, Kind) -> Result<(), Fault>) -> Result<(), Fault> {
        self.drain(|id, [code]| each(id, kind_of_code(code)))
    }

    /// Calls `each` for every spooled subtree, with the entry of its tree.
    pub(crate) fn drain_nested(self, mut each: impl FnMut(&oid, u32)) -> Result<(), Fault> {
        self.drain(|id, entry| {
            each(id, u32::from_be_bytes(entry));
            Ok(())
        })
    }
}

/// Ids of objects, written by several threads in any order, as big-endian 32-bit words.
pub(crate) struct IdTable {
    words: Vec<std::sync::atomic::AtomicU32>,
    format: Format,
}

impl IdTable {
    pub(crate) fn new(objects: u32, format: Format) -> Self {
        let count = objects as usize * format.len_in_bytes() / 4;
        IdTable { words: (0..count).map(|_| Default::default()).collect(), format }
    }

    pub(crate) fn set(&self, entry: u32, id: &oid) {
        let per = self.format.len_in_bytes() / 4;
        for (word, bytes) in self.words[entry as usize * per..].iter().zip(id.as_bytes().chunks_exact(4)) {
            word.store(leading(bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, entry: u32) -> ObjectId {
        let mut id = ObjectId::null(self.format);
        let per = self.format.len_in_bytes() / 4;
        for (bytes, word) in id.as_mut_slice().chunks_exact_mut(4).zip(&self.words[entry as usize * per..]) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_be_bytes());
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(format: Format) -> Vec<Link> {
        // More than fits into the buffer, so that the file is read in parts.
        let count = 3 * SPOOL_BYTES / format.len_in_bytes();
        let link = |number: usize| {
            let mut id = ObjectId::null(format);
            id.as_mut_slice()[..8].copy_from_slice(&(number as u64).to_be_bytes());
            Link { id, kind: kind_of_code(1 + (number % 4) as u8) }
        };
        (0..count).map(link).collect()
    }

    #[test]
    fn a_spool_gives_back_every_link() {
        let dir = tempfile::tempdir().unwrap();
        for format in [Format::Sha1, Format::Sha256] {
            let mut spool = Spool::new(dir.path(), format.len_in_bytes() + 1);
            let links = links(format);
            for link in &links {
                spool.push(&link.id, &[kind_code(link.kind)]).unwrap();
            }
            let mut drained = Vec::new();
            let take = |id: &oid, kind| {
                drained.push(Link { id: id.to_owned(), kind });
                Ok(())
            };
            spool.drain_links(take).unwrap();
            drained.sort_unstable();
            assert_eq!(drained, links);
        }
    }

    #[test]
    #[should_panic(expected = "code of no kind")]
    fn a_record_of_an_unknown_kind_is_never_dropped() {
        let buffer = vec![5; Format::Sha1.len_in_bytes() + 1];
        let spool = Spool { directory: Path::new("/"), width: Format::Sha1.len_in_bytes() + 1, buffer, file: None };
        let _ = spool.drain_links(|_, _| Ok(()));
    }

    #[test]
    #[should_panic(expected = "part of a record")]
    fn a_part_of_a_record_is_never_dropped() {
        let buffer = vec![1; Format::Sha1.len_in_bytes()];
        let spool = Spool { directory: Path::new("/"), width: Format::Sha1.len_in_bytes() + 1, buffer, file: None };
        let _ = spool.drain_links(|_, _| Ok(()));
    }
}
