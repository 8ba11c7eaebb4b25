//! Builder of one self-contained pack from objects of other packs and loose objects.

use std::io::Read;
use std::path::Path;

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use super::build::PackWriter;
use super::entries::HEADER_BYTES;
use super::error::{Fault, PackError};
use super::finder::{Finder, Object, RawEntry, Stored};
use super::set::{Location, PackSet};
use super::stream::BuiltPack;

/// Object outside of all packs.
pub struct LooseObject<'a> {
    /// Kind of the object.
    pub kind: Kind,
    /// Size of the content in bytes.
    pub size: u64,
    /// Reader that yields exactly `size` bytes.
    pub data: Box<dyn Read + 'a>,
}

impl std::fmt::Debug for LooseObject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LooseObject({} of {} bytes)", self.kind, self.size)
    }
}

/// Callback that opens an object outside of all packs; `None` if the object does not exist.
pub type FindLoose<'a> = dyn FnMut(&oid) -> std::io::Result<Option<LooseObject<'a>>> + 'a;

/// Pack that was gathered, with the boundaries of its entries. Its objects are not verified: damage in the sources is
/// copied; see [`check_gathered`](super::check_gathered).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The pack.
    pub built: BuiltPack,
    /// Offset of each entry, ascending, and the end of the last one.
    pub(crate) offsets: Vec<u64>,
}

/// Writes a pack of the `wanted` objects (sorted, without repetition) to the new file `out`.
///
/// Entries are copied in compressed form. A delta is kept if its base is wanted and comes from the same pack, and
/// stored whole otherwise, so the new pack is self-contained. The result must be checked like any other pack.
///
/// # Errors
/// [`Fault::MissingObject`] if an object does not exist anywhere.
pub fn gather(
    wanted: &[ObjectId],
    packs: &PackSet,
    loose: &mut FindLoose<'_>,
    out: &Path,
) -> Result<Gathered, PackError> {
    let fail = |fault: Fault| fault.of(out);
    if wanted.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(fail(Fault::File("the objects for it are not sorted".into())));
    }
    let objects = u32::try_from(wanted.len()).map_err(|_| fail(Fault::File("too many objects for one pack".into())))?;
    let finder = packs.finder().map_err(fail)?;
    let mut items = Vec::new();
    let mut alone = Vec::new();
    for id in wanted {
        match packs.locate(id) {
            Some(location) => {
                let offset = finder.offset(location).map_err(|fault| packs.blame(location.pack, fault))?;
                items.push(Item { pack: location.pack, offset, location, written: 0 });
            }
            None => alone.push(id),
        }
    }
    items.sort_unstable_by_key(|item| (item.pack, item.offset));
    let writer = PackWriter::create(out, packs.format(), objects)?;
    let mut gathering = Gathering { packs, finder, writer, items, scratch: Vec::new() };
    for position in 0..gathering.items.len() {
        gathering.write(position)?;
    }
    let mut offsets: Vec<u64> = gathering.items.iter().map(|item| item.written).collect();
    for id in alone {
        let found = loose(id).map_err(|e| fail(Fault::io("read a loose object for it")(e)))?;
        let mut object = found.ok_or_else(|| fail(Fault::MissingObject { id: *id }))?;
        offsets.push(gathering.writer.whole_streaming(object.kind, object.size, &mut object.data)?);
    }
    let built = gathering.writer.finish()?;
    offsets.sort_unstable();
    offsets.push(built.bytes - packs.format().len_in_bytes() as u64);
    Ok(Gathered { built, offsets })
}

/// Wanted object in a pack.
struct Item {
    pack: u32,
    offset: u64,
    location: Location,
    /// Offset in the new pack; 0 until written.
    written: u64,
}

struct Gathering<'a> {
    packs: &'a PackSet,
    finder: Finder<'a>,
    writer: PackWriter,
    /// Sorted by pack and offset.
    items: Vec<Item>,
    scratch: Vec<u8>,
}

impl Gathering<'_> {
    /// Writes an item after all of its bases that are wanted but not yet written. (Offset deltas follow their bases in
    /// the pack; ref deltas need not.)
    fn write(&mut self, position: usize) -> Result<(), PackError> {
        let mut chain = vec![position];
        while let Some(&position) = chain.last() {
            let Item { pack, offset, written, .. } = self.items[position];
            if written != 0 {
                chain.pop();
                continue;
            }
            let entry = self.finder.entry(pack, offset).map_err(|fault| self.packs.blame(pack, fault))?;
            let base = match entry.stored {
                Stored::Delta(base) => self.position(pack, base),
                Stored::Whole(_) => None,
            };
            match base {
                Some(base) if self.items[base].written == 0 => {
                    if chain.len() > self.items.len() {
                        let cycle = Fault::entry(offset, "its deltas form a cycle");
                        return Err(self.packs.blame(pack, cycle));
                    }
                    chain.push(base);
                }
                base => {
                    self.copy(position, entry, base)?;
                    chain.pop();
                }
            }
        }
        Ok(())
    }

    /// Position in `items` of the wanted object at an offset of a pack.
    fn position(&self, pack: u32, offset: u64) -> Option<usize> {
        self.items.binary_search_by_key(&(pack, offset), |item| (item.pack, item.offset)).ok()
    }

    fn copy(&mut self, position: usize, entry: RawEntry<'_>, base: Option<usize>) -> Result<(), PackError> {
        let Item { location, .. } = self.items[position];
        self.items[position].written = match (entry.stored, base) {
            (Stored::Whole(kind), _) => {
                let data = self.compressed(position, &entry)?;
                self.writer.whole_raw(kind, entry.size, data)?
            }
            (Stored::Delta(_), Some(base)) => {
                let data = self.compressed(position, &entry)?;
                let base = self.items[base].written;
                self.writer.delta_raw(base, entry.size, data)?
            }
            (Stored::Delta(_), None) => {
                let Object { kind, data } = self.finder.read(location)?;
                self.writer.whole(kind, &data)?
            }
        };
        debug_assert!(self.items[position].written >= HEADER_BYTES as u64);
        Ok(())
    }

    fn compressed<'e>(&mut self, position: usize, entry: &RawEntry<'e>) -> Result<&'e [u8], PackError> {
        let Item { pack, offset, .. } = self.items[position];
        let compressed = match self.delimited(position, entry) {
            Ok(Some(data)) => Ok(data),
            Ok(None) => self.finder.compressed(offset, entry, &mut self.scratch),
            Err(fault) => Err(fault),
        };
        compressed.map_err(|fault| self.packs.blame(pack, fault))
    }

    /// Returns the compressed bytes of an entry without inflating them: up to the next entry, if that is wanted too and
    /// the CRC-32 of the index confirms it.
    fn delimited<'e>(&self, position: usize, entry: &RawEntry<'e>) -> Result<Option<&'e [u8]>, Fault> {
        let Item { pack, offset, location, .. } = self.items[position];
        let data = self.packs.data(pack)?;
        let end = self.items.get(position + 1).filter(|next| next.pack == pack).map_or(data.end(), |next| next.offset);
        let whole = data.slice(offset, end);
        // The data of an entry begins behind its header.
        let header = (data.end() - offset) as usize - entry.data.len();
        // Objects that are not wanted may lie between the two: what is too long for one entry is not read.
        if whole.len().saturating_sub(header) as u64 > entry.size.saturating_add(entry.size / 16).saturating_add(64) {
            return Ok(None);
        }
        let confirmed = crc32fast::hash(whole) == self.packs.index(pack)?.crc32(location.row);
        Ok(if confirmed { entry.data.get(..whole.len().saturating_sub(header)) } else { None })
    }
}
