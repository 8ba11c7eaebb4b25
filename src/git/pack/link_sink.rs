//! What becomes of the links that are found while a pack is resolved.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use super::error::Fault;
use super::index::{Lookup, leading};
use crate::links::{Link, kind_code, kind_of_code};

/// Most links that may leave a pack. They are kept in memory, 34 bytes each.
pub const MAX_UNRESOLVED_LINKS: usize = 1 << 24;
/// Most slots of the cache of links seen lately, per thread: 21 bytes each for SHA-1.
const SEEN_SLOTS: usize = 1 << 14;
/// Links are spooled to disk when this many bytes of them have gathered.
const SPOOL_BYTES: usize = 256 << 10;

/// What objects are taken for by those that name them: one bit per kind for every row of an index.
#[derive(Debug)]
pub(crate) struct Expected(Vec<AtomicU8>);

impl Expected {
    pub(crate) fn new(rows: u32) -> Self {
        Expected((0..rows).map(|_| AtomicU8::new(0)).collect())
    }

    fn mark(&self, row: u32, kind: Kind) {
        let (slot, bit) = (&self.0[row as usize], 1 << kind_code(kind));
        if slot.load(Ordering::Relaxed) & bit == 0 {
            slot.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// The kinds that an object of kind `code` is wrongly taken for.
    pub(crate) fn wrong(&self, row: u32, code: u8) -> impl Iterator<Item = Kind> + use<> {
        let wrong = self.0[row as usize].load(Ordering::Relaxed) & !(1 << code);
        (1..=4).filter(move |code| wrong & (1 << code) != 0).filter_map(kind_of_code)
    }
}

/// Links that do not resolve inside the pack, each once (as often as threads found it, until sorted).
#[derive(Debug, Default)]
pub(crate) struct Unresolved {
    links: Vec<Link>,
    /// Repeats are removed when there are this many.
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

    /// All of them, sorted, each once.
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

/// Takes the links that one thread finds.
pub(crate) enum LinkSink<'a> {
    /// The pack's index is known, so a link is looked up at once.
    Lookup { seen: Seen, lookup: &'a Lookup<'a>, expected: &'a Expected, unresolved: Unresolved },
    /// It is not: links are put aside.
    Spool { seen: Seen, spool: Spool<'a> },
}

impl<'a> LinkSink<'a> {
    pub(crate) fn lookup(lookup: &'a Lookup<'a>, expected: &'a Expected, format: Format) -> Self {
        LinkSink::Lookup {
            seen: Seen::new(format, expected.0.len()),
            lookup,
            expected,
            unresolved: Unresolved::default(),
        }
    }

    pub(crate) fn spool(directory: &'a Path, format: Format, objects: u32) -> Self {
        let spool = Spool { directory, format, buffer: Vec::new(), file: None };
        LinkSink::Spool { seen: Seen::new(format, objects as usize), spool }
    }

    #[inline]
    pub(crate) fn take(&mut self, id: &oid, kind: Kind) -> Result<(), Fault> {
        match self {
            LinkSink::Lookup { seen, lookup, expected, unresolved } => {
                if seen.check(id, kind) {
                    Ok(())
                } else {
                    resolve(id, kind, lookup, expected, unresolved)
                }
            }
            LinkSink::Spool { seen, spool } => {
                if seen.check(id, kind) {
                    Ok(())
                } else {
                    spool.push(id, kind)
                }
            }
        }
    }
}

/// Notes a link at the object that it names, or else as unresolved.
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

/// A direct-mapped cache of links seen lately. Versions of a tree share most entries and are resolved one
/// after the other, so nearly all links end here. Whole ids are compared: they come from outside.
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

    /// Whether the link was seen lately; from now on it was.
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
    // Multiplying and shifting spreads like a remainder does, for any number of slots, but is fast.
    let at = (u64::from(leading(id)) * slots.len() as u64) >> 32;
    let Some(slot) = slots.get_mut(at as usize) else { return false };
    let mut wanted = [code; N];
    let Some(place) = wanted.get_mut(..id.len()) else { return false };
    place.copy_from_slice(id);
    if *slot == wanted {
        return true;
    }
    *slot = wanted;
    false
}

/// Links put aside: in memory, and in an unnamed temporary file when there are many.
pub(crate) struct Spool<'a> {
    directory: &'a Path,
    format: Format,
    buffer: Vec<u8>,
    file: Option<File>,
}

impl Spool<'_> {
    fn push(&mut self, id: &oid, kind: Kind) -> Result<(), Fault> {
        self.buffer.extend_from_slice(id.as_bytes());
        self.buffer.push(kind_code(kind));
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

    /// Calls `each` for every link that was put aside.
    pub(crate) fn drain(mut self, mut each: impl FnMut(&oid, Kind) -> Result<(), Fault>) -> Result<(), Fault> {
        let width = self.format.len_in_bytes() + 1;
        let mut records = |bytes: &[u8]| {
            bytes.chunks_exact(width).try_for_each(|record| match record.split_last() {
                Some((code, id)) => {
                    kind_of_code(*code).map_or(Ok(()), |kind| each(oid::from_bytes_unchecked(id), kind))
                }
                None => Ok(()),
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
}

/// Ids of objects, found by several threads in any order: 32-bit words, big end first.
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
