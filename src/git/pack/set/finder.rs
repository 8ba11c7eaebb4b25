//! Reading objects.

use std::rc::Rc;

use gix::hash::oid;
use gix::objs::Kind;
use gix::odb::pack::data::entry::Header;

use super::{Location, PackSet};
use crate::memory::{self, Reservation};
use crate::pack::MAX_RESOLVED_BYTES;
use crate::pack::content::{Content, Place, write, written};
use crate::pack::delta::Delta;
use crate::pack::entries::PackData;
use crate::pack::error::{Fault, PackError};
use crate::pack::inflate::{Inflater, check_size, inflate_front, inflate_streaming};

/// Slots of a [`Finder`]'s cache, the bytes that they hold together, and the largest object among them.
const CACHE_SLOTS: usize = 4096;
const CACHE_BYTES: u64 = 32 << 20;
const CACHE_OBJECT_BYTES: u64 = 1 << 20;
/// Bytes that a cache may hold without asking the process's budget, and by which it grows beyond.
const CACHE_FREE_BYTES: u64 = 4 << 20;
const CACHE_STEP_BYTES: u64 = 4 << 20;
/// Deltas that are larger when inflated are only begun where no more is asked than the size that they make.
const WHOLE_DELTA_BYTES: u64 = 64 << 10;
/// Bytes of the two sizes at the front of a delta, seven bits a byte.
const DELTA_FRONT_BYTES: usize = 20;

/// What an entry is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Whole(Kind),
    /// A delta on the entry at this offset of the same pack.
    Delta(u64),
}

/// An entry as it lies in a pack.
#[derive(Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) stored: Stored,
    /// Bytes when inflated.
    pub(crate) size: u64,
    /// Its compressed data, and what follows in the pack.
    pub(crate) data: &'a [u8],
}

/// An object that has been read.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its content; a mapped file where it is large and the process has no memory for it.
    pub data: Rc<Content>,
}

/// Reads objects of a [`PackSet`], with a small cache of what deltas are made for.
///
/// Objects from [`memory::FREE_BYTES`] on, and the cache, take memory from the budget of all reads
/// ([`memory::reads`]). An object that finds no room there goes to an unnamed file in the set's spool folder.
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

impl<'a> Finder<'a> {
    pub(super) fn new(set: &'a PackSet, inflater: Inflater) -> Self {
        Finder { set, inflater, delta: Vec::new(), cache: Cache::new() }
    }

    /// Reads an object; `None` if it is in none of the packs. Its hash was verified when the pack was checked.
    pub fn find(&mut self, id: &oid) -> Result<Option<Object>, PackError> {
        self.set.locate(id).map(|location| self.read(location)).transpose()
    }

    /// Reads the object at a location.
    pub fn read(&mut self, location: Location) -> Result<Object, PackError> {
        self.offset(location)
            .and_then(|offset| self.resolve(location.pack, offset))
            .map_err(|fault| self.set.blame(location.pack, fault))
    }

    /// The kind of the object at a location, without reading it.
    pub fn kind(&self, location: Location) -> Result<Kind, PackError> {
        let kind = self.offset(location).and_then(|mut offset| {
            for _ in 0..=self.set.pack(location.pack)?.index.objects() {
                match self.entry(location.pack, offset)?.stored {
                    Stored::Whole(kind) => return Ok(kind),
                    Stored::Delta(base) => offset = base,
                }
            }
            Err(Fault::entry(offset, "its deltas form a circle"))
        });
        kind.map_err(|fault| self.set.blame(location.pack, fault))
    }

    /// Where an object begins in its pack.
    pub(crate) fn offset(&self, location: Location) -> Result<u64, Fault> {
        let index = &self.set.pack(location.pack)?.index;
        index.offset(location.row).ok_or_else(|| Fault::Index(format!("row {} has no offset", location.row)))
    }

    /// The entry at an offset.
    pub(crate) fn entry(&self, pack: u32, offset: u64) -> Result<RawEntry<'a>, Fault> {
        let open = self.set.pack(pack)?;
        let data = PackData::new(&open.map, self.set.format)?;
        let (header, compressed) = data.entry(offset, data.slice(offset, data.end()))?;
        let stored = match header.header {
            Header::OfsDelta { base_distance } => {
                let base = offset.checked_sub(base_distance).filter(|base| *base < offset);
                Stored::Delta(base.ok_or_else(|| Fault::entry(offset, "its base is not before it"))?)
            }
            Header::RefDelta { base_id } => {
                let base = open.index.row_of(&base_id).and_then(|row| open.index.offset(row));
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

    /// Bytes of the object at a location when it is read.
    pub fn size(&mut self, location: Location) -> Result<u64, PackError> {
        let size = self.offset(location).and_then(|offset| {
            let entry = self.entry(location.pack, offset)?;
            if let Stored::Whole(_) = entry.stored {
                return Ok(entry.size);
            }
            self.made_size(offset, &entry)
        });
        size.map_err(|fault| self.set.blame(location.pack, fault))
    }

    /// The size that a delta makes, which stands at its front.
    fn made_size(&mut self, offset: u64, entry: &RawEntry<'_>) -> Result<u64, Fault> {
        let bad = |reason| Fault::entry(offset, reason);
        let mut front = std::mem::take(&mut self.delta);
        let inflated = match entry.size > WHOLE_DELTA_BYTES {
            true => inflate_front(entry.data, DELTA_FRONT_BYTES, &mut front).map_err(bad),
            false => self.inflate(offset, entry, &mut front).map(drop),
        };
        let size = inflated.and_then(|()| Delta::parse(&front).map(|delta| delta.result_size).map_err(bad));
        self.delta = front;
        size
    }

    fn resolve(&mut self, pack: u32, offset: u64) -> Result<Object, Fault> {
        let longest = self.set.pack(pack)?.index.objects() as usize;
        let (mut deltas, mut at) = (Vec::new(), offset);
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
                return Err(Fault::entry(offset, "its deltas form a circle"));
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

    /// What an entry inflates to; `scratch` is used where that is small.
    fn content(&mut self, offset: u64, entry: &RawEntry<'_>, scratch: Vec<u8>) -> Result<Content, Fault> {
        let bad = |reason| Fault::entry(offset, reason);
        check_size(entry.data, entry.size).map_err(bad)?;
        if entry.size > MAX_RESOLVED_BYTES {
            return Err(Fault::TooLarge { offset, what: "object", size: entry.size, limit: MAX_RESOLVED_BYTES });
        }
        match Place::of(memory::reads(), entry.size, &self.set.spool, || scratch)? {
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

    /// What the delta of the entry at `offset` makes of its base.
    fn apply(&mut self, offset: u64, delta: &[u8], base: &[u8]) -> Result<Content, Fault> {
        let bad = |reason| Fault::entry(offset, reason);
        let delta = Delta::parse(delta).map_err(bad)?;
        if delta.result_size > MAX_RESOLVED_BYTES {
            return Err(bad("it is too large to be resolved"));
        }
        match Place::of(memory::reads(), delta.result_size, &self.set.spool, Vec::new)? {
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

    /// Inflates an entry, and returns how many bytes of its data that took.
    pub(crate) fn inflate(&mut self, offset: u64, entry: &RawEntry<'_>, out: &mut Vec<u8>) -> Result<usize, Fault> {
        if entry.size > MAX_RESOLVED_BYTES {
            return Err(Fault::TooLarge { offset, what: "object", size: entry.size, limit: MAX_RESOLVED_BYTES });
        }
        self.inflater.inflate(entry.data, entry.size, out).map_err(|e| Fault::entry(offset, e))
    }
}

/// Objects by place; a newer one takes the slot of an older one.
struct Cache {
    slots: Vec<Option<Cached>>,
    bytes: u64,
    /// Most bytes now: [`CACHE_FREE_BYTES`] and what the budget gave.
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
        Cache { slots, bytes: 0, allowed: CACHE_FREE_BYTES, memory: memory::reads().try_take(0) }
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
        if self.bytes + size > self.allowed && !self.grow() {
            self.slots.fill_with(|| None);
            self.bytes = 0;
        }
        let new = Cached { pack, offset, object: Object { kind, data: data.clone() } };
        let old = self.slot(pack, offset).replace(new);
        self.bytes = self.bytes + size - old.map_or(0, |old| old.object.data.len() as u64);
    }

    /// Allows more bytes if there is memory for them; says whether that worked.
    fn grow(&mut self) -> bool {
        let grown = self.allowed + CACHE_STEP_BYTES <= CACHE_BYTES
            && self.memory.as_mut().is_some_and(|memory| memory.try_grow(CACHE_STEP_BYTES));
        if grown {
            self.allowed += CACHE_STEP_BYTES;
        }
        grown
    }
}
