//! Reader of objects in a set of packs.

use std::rc::Rc;

use gix::hash::oid;
use gix::objs::Kind;
use gix::odb::pack::data::entry::Header;

use super::content::{Content, Place, write, written};
use super::delta::Delta;
use super::error::{Fault, PackError};
use super::inflate::{Inflater, check_size, inflate_front, inflate_streaming};
use super::limits::{MAX_RESOLVED_BYTES, STREAMED_BLOB_BYTES};
use super::set::{Location, PackSet};
use crate::memory::{self, Reservation};

/// Slots of a [`Finder`]'s cache.
const CACHE_SLOTS: usize = 4096;
/// Most bytes of all cached objects together.
const CACHE_BYTES: u64 = 32 << 20;
/// Most bytes of one cached object.
const CACHE_OBJECT_BYTES: u64 = 1 << 20;
/// Bytes of a cache outside of the process's budget.
const CACHE_FREE_BYTES: u64 = 4 << 20;
/// Bytes by which a cache grows within the process's budget.
const CACHE_STEP_BYTES: u64 = 4 << 20;
/// Most inflated bytes of a delta that is inflated whole when only its result size is asked for.
const WHOLE_DELTA_BYTES: u64 = 64 << 10;
/// Most bytes of the two sizes at the front of a delta, seven bits per byte.
const DELTA_FRONT_BYTES: usize = 20;

/// Representation of an entry in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Whole(Kind),
    /// Delta on the entry at this offset of the same pack.
    Delta(u64),
}

/// Entry in its packed form.
#[derive(Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) stored: Stored,
    /// Inflated size in bytes.
    pub(crate) size: u64,
    /// Bytes of the pack from the entry's compressed data on.
    pub(crate) data: &'a [u8],
}

/// Object that has been read.
#[derive(Clone, Debug)]
pub struct Object {
    /// Kind of the object.
    pub kind: Kind,
    /// Content; a mapped file if the object is large and the memory budget is exhausted.
    pub data: Rc<Content>,
}

/// Reader of objects of a [`PackSet`], with a small cache of delta bases.
///
/// Objects of at least [`memory::UNMETERED_BYTES`], and the cache, use the memory budget of all reads ([`memory::reads`]).
/// An object that exceeds the budget goes to an unnamed file in the set's spool directory.
pub struct Finder<'a> {
    set: &'a PackSet,
    inflater: Inflater,
    delta: Vec<u8>,
    cache: Cache,
}

impl std::fmt::Debug for Finder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").field("set", self.set).finish_non_exhaustive()
    }
}

impl PackSet {
    /// Returns a reader of objects. Every thread needs its own.
    pub fn finder(&self) -> Result<Finder<'_>, Fault> {
        let inflater = Inflater::new().map_err(|e| Fault::File(e.into()))?;
        Ok(Finder { set: self, inflater, delta: Vec::new(), cache: Cache::new() })
    }
}

impl<'a> Finder<'a> {
    /// Reads an object; `None` if no pack holds it. The hash of the object was verified when the pack was checked.
    pub fn find(&mut self, id: &oid) -> Result<Option<Object>, PackError> {
        self.set.locate(id).map(|location| self.read(location)).transpose()
    }

    /// Reads the object at a location.
    pub fn read(&mut self, location: Location) -> Result<Object, PackError> {
        self.offset(location)
            .and_then(|offset| self.resolve(location.pack, offset))
            .map_err(|fault| self.set.blame(location.pack, fault))
    }

    /// Returns the kind of the object at a location without reading the object.
    pub fn kind(&self, location: Location) -> Result<Kind, PackError> {
        let kind = self.offset(location).and_then(|mut offset| {
            for _ in 0..=self.set.index(location.pack)?.objects() {
                match self.entry(location.pack, offset)?.stored {
                    Stored::Whole(kind) => return Ok(kind),
                    Stored::Delta(base) => offset = base,
                }
            }
            Err(Fault::entry(offset, "its deltas form a cycle"))
        });
        kind.map_err(|fault| self.set.blame(location.pack, fault))
    }

    /// Offset of an object in its pack.
    pub(crate) fn offset(&self, location: Location) -> Result<u64, Fault> {
        let index = self.set.index(location.pack)?;
        index.offset(location.row).ok_or_else(|| Fault::Index(format!("row {} has no offset", location.row)))
    }

    /// Parses the entry at an offset.
    pub(crate) fn entry(&self, pack: u32, offset: u64) -> Result<RawEntry<'a>, Fault> {
        let data = self.set.data(pack)?;
        let (header, compressed) = data.entry(offset, data.slice(offset, data.end()))?;
        let stored = match header.header {
            Header::OfsDelta { base_distance } => {
                let base = offset.checked_sub(base_distance).filter(|base| *base < offset);
                Stored::Delta(base.ok_or_else(|| Fault::entry(offset, "its base is not before it"))?)
            }
            Header::RefDelta { base_id } => {
                let index = self.set.index(pack)?;
                let base = index.row_of(&base_id).and_then(|row| index.offset(row));
                Stored::Delta(base.ok_or_else(|| Fault::MissingBase {
                    offset,
                    base: base_id,
                    count: 1,
                    bases: [base_id].into(),
                })?)
            }
            Header::Commit => Stored::Whole(Kind::Commit),
            Header::Tree => Stored::Whole(Kind::Tree),
            Header::Blob => Stored::Whole(Kind::Blob),
            Header::Tag => Stored::Whole(Kind::Tag),
        };
        Ok(RawEntry { stored, size: header.decompressed_size, data: compressed })
    }

    /// Returns the size in bytes of the object at a location.
    pub fn size(&mut self, location: Location) -> Result<u64, PackError> {
        let size = self.offset(location).and_then(|offset| {
            let entry = self.entry(location.pack, offset)?;
            if let Stored::Whole(_) = entry.stored {
                return Ok(entry.size);
            }
            self.result_size(offset, &entry)
        });
        size.map_err(|fault| self.set.blame(location.pack, fault))
    }

    /// Reads the result size at the front of a delta.
    fn result_size(&mut self, offset: u64, entry: &RawEntry<'_>) -> Result<u64, Fault> {
        let bad = |reason| Fault::entry(offset, reason);
        let mut front = std::mem::take(&mut self.delta);
        let inflated = if entry.size > WHOLE_DELTA_BYTES {
            inflate_front(entry.data, DELTA_FRONT_BYTES, &mut front).map_err(bad)
        } else {
            self.inflate(offset, entry, &mut front).map(drop)
        };
        let size = inflated.and_then(|()| Delta::parse(&front).map(|delta| delta.result_size).map_err(bad));
        self.delta = front;
        size
    }

    fn resolve(&mut self, pack: u32, offset: u64) -> Result<Object, Fault> {
        let longest = self.set.index(pack)?.objects() as usize;
        let mut deltas = Vec::new();
        let mut at = offset;
        let Object { kind, mut data } = loop {
            if let Some(known) = self.cache.get(pack, at) {
                break known;
            }
            let entry = self.entry(pack, at)?;
            match entry.stored {
                Stored::Whole(kind) => {
                    let data = Rc::new(self.content(at, &entry, Vec::new())?);
                    self.cache.put(pack, at, kind, &data);
                    break Object { kind, data };
                }
                Stored::Delta(base) => {
                    deltas.push(at);
                    at = base;
                }
            }
            if deltas.len() > longest {
                return Err(Fault::entry(offset, "its deltas form a cycle"));
            }
        };
        while let Some(at) = deltas.pop() {
            let entry = self.entry(pack, at)?;
            let scratch = std::mem::take(&mut self.delta);
            let delta = self.content(at, &entry, scratch)?;
            data = Rc::new(self.apply(at, &delta, &data)?);
            if let Content::Memory(scratch, None) = delta {
                self.delta = scratch;
            }
            self.cache.put(pack, at, kind, &data);
        }
        Ok(Object { kind, data })
    }

    /// Inflates an entry; `scratch` is the buffer of small ones.
    fn content(&mut self, offset: u64, entry: &RawEntry<'_>, scratch: Vec<u8>) -> Result<Content, Fault> {
        let bad = |reason| Fault::entry(offset, reason);
        check_size(entry.data, entry.size).map_err(bad)?;
        if entry.size > MAX_RESOLVED_BYTES {
            return Err(Fault::TooLarge { offset, what: "object", size: entry.size, limit: MAX_RESOLVED_BYTES });
        }
        match Place::of(memory::reads(), entry.size, self.set.spool(), || scratch)? {
            Place::Memory(mut out, reservation) => {
                self.inflater.inflate(entry.data, entry.size, &mut out).map_err(bad)?;
                Ok(Content::Memory(out, reservation))
            }
            Place::File(mut out) => {
                inflate_streaming(entry.data, entry.size, bad, |piece| write(&mut out, piece))?;
                written(out)
            }
        }
    }

    /// Applies the delta of the entry at `offset` to its base.
    fn apply(&mut self, offset: u64, delta: &[u8], base: &[u8]) -> Result<Content, Fault> {
        let bad = |reason| Fault::entry(offset, reason);
        let delta = Delta::parse(delta).map_err(bad)?;
        if delta.result_size > MAX_RESOLVED_BYTES {
            return Err(bad("its result is too large to be resolved in memory"));
        }
        match Place::of(memory::reads(), delta.result_size, self.set.spool(), Vec::new)? {
            Place::Memory(mut out, reservation) => {
                delta.apply(base, &mut out).map_err(bad)?;
                Ok(Content::Memory(out, reservation))
            }
            Place::File(mut out) => {
                delta.apply_to(base, bad, |piece| write(&mut out, piece))?;
                written(out)
            }
        }
    }

    /// Returns the compressed bytes of an entry. Only inflating them, into `scratch` or as a stream, determines their
    /// end.
    pub(crate) fn compressed<'e>(
        &mut self,
        offset: u64,
        entry: &RawEntry<'e>,
        scratch: &mut Vec<u8>,
    ) -> Result<&'e [u8], Fault> {
        let taken = if entry.size > STREAMED_BLOB_BYTES {
            inflate_streaming(entry.data, entry.size, |e| Fault::entry(offset, e), |_| Ok(()))?
        } else {
            self.inflate(offset, entry, scratch)?
        };
        Ok(&entry.data[..taken])
    }

    /// Inflates an entry and returns the number of compressed bytes consumed.
    fn inflate(&mut self, offset: u64, entry: &RawEntry<'_>, out: &mut Vec<u8>) -> Result<usize, Fault> {
        if entry.size > MAX_RESOLVED_BYTES {
            return Err(Fault::TooLarge { offset, what: "object", size: entry.size, limit: MAX_RESOLVED_BYTES });
        }
        self.inflater.inflate(entry.data, entry.size, out).map_err(|e| Fault::entry(offset, e))
    }
}

/// Direct-mapped cache of objects by location.
struct Cache {
    slots: Vec<Option<Cached>>,
    bytes: u64,
    /// Slot from which the next object is dropped for lack of room.
    hand: usize,
    /// Current limit in bytes: [`CACHE_FREE_BYTES`] and the reservation in the budget.
    allowed: u64,
    memory: Option<Reservation<'static>>,
}

struct Cached {
    pack: u32,
    offset: u64,
    object: Object,
}

impl Cache {
    fn new() -> Self {
        let slots = (0..CACHE_SLOTS).map(|_| None).collect();
        Cache { slots, bytes: 0, hand: 0, allowed: CACHE_FREE_BYTES, memory: memory::reads().try_take(0) }
    }

    fn slot(&mut self, pack: u32, offset: u64) -> &mut Option<Cached> {
        let mixed = (offset ^ u64::from(pack) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &mut self.slots[(mixed >> 40) as usize % CACHE_SLOTS]
    }

    fn get(&mut self, pack: u32, offset: u64) -> Option<Object> {
        let cached = self.slot(pack, offset).as_ref()?;
        (cached.pack == pack && cached.offset == offset).then(|| cached.object.clone())
    }

    fn put(&mut self, pack: u32, offset: u64, kind: Kind, data: &Rc<Content>) {
        let size = data.len() as u64;
        if size > CACHE_OBJECT_BYTES {
            return;
        }
        while self.bytes + size > self.allowed && !self.grow() {
            self.drop_next();
        }
        let new = Cached { pack, offset, object: Object { kind, data: data.clone() } };
        let old = self.slot(pack, offset).replace(new);
        self.bytes = self.bytes + size - old.map_or(0, |old| old.object.data.len() as u64);
    }

    /// Drops the next object in the order of slots, which is random to offsets: the chains that are being read stay
    /// cached for the most part.
    fn drop_next(&mut self) {
        debug_assert!(self.bytes > 0, "a cached object is smaller than the limit");
        for _ in 0..CACHE_SLOTS {
            let dropped = self.slots[self.hand].take();
            self.hand = (self.hand + 1) % CACHE_SLOTS;
            if let Some(dropped) = dropped {
                self.bytes -= dropped.object.data.len() as u64;
                return;
            }
        }
    }

    /// Raises the limit if the budget permits. Returns true on success.
    fn grow(&mut self) -> bool {
        let grown = self.allowed + CACHE_STEP_BYTES <= CACHE_BYTES
            && self.memory.as_mut().is_some_and(|memory| memory.try_grow(CACHE_STEP_BYTES));
        if grown {
            self.allowed += CACHE_STEP_BYTES;
        }
        grown
    }
}
