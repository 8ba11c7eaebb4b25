//! Entry boundaries of a pack, and the relation of deltas to their bases.

use gix::hash::{Kind as Format, oid};
use gix::odb::pack::data::Entry;
use gix::odb::pack::data::entry::Header;

use super::error::Fault;
use super::index::Index;
use super::inflate::{Inflater, check_size, inflate_streaming};
use super::limits::STREAMED_BLOB_BYTES;
use super::progress::CheckProgress;

/// Bytes of a pack's header.
pub(crate) const HEADER_BYTES: usize = 12;
/// Bytes of the smallest entry: one byte of header and the shortest zlib stream.
const MIN_ENTRY_BYTES: u64 = 9;
/// Entries between two checks of [`CheckProgress::cancel`].
const CANCEL_EVERY: u32 = 1024;

/// Mapped pack with a valid header. The trailer is not verified.
#[derive(Clone, Copy)]
pub(crate) struct PackData<'a> {
    /// Bytes of the whole file.
    pub(crate) file: &'a [u8],
    pub(crate) format: Format,
    pub(crate) objects: u32,
}

impl<'a> PackData<'a> {
    /// Checks the header, and that the file is large enough for the announced number of objects.
    pub(crate) fn new(file: &'a [u8], format: Format) -> Result<Self, Fault> {
        let bad = |reason: String| Fault::File(reason);
        let smallest = HEADER_BYTES + format.len_in_bytes();
        if file.len() < smallest {
            return Err(bad(format!("{} bytes are too few for a pack", file.len())));
        }
        let word = |at: usize| file.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        if file.get(..4) != Some(b"PACK") {
            return Err(bad("it does not begin with PACK".into()));
        }
        if !matches!(word(4), 2 | 3) {
            return Err(bad(format!("version {} is not supported", word(4))));
        }
        let objects = word(8);
        // The two highest numbers are reserved as markers in tables of objects.
        if u64::from(objects) * MIN_ENTRY_BYTES > (file.len() - smallest) as u64 || objects >= u32::MAX - 1 {
            return Err(bad(format!("{} bytes cannot hold the {objects} objects that it announces", file.len())));
        }
        Ok(PackData { file, format, objects })
    }

    /// Offset at which the entries end and the trailer begins.
    pub(crate) fn end(&self) -> u64 {
        (self.file.len() - self.format.len_in_bytes()) as u64
    }

    /// Checksum at the end of the pack.
    pub(crate) fn trailer(&self) -> &'a oid {
        oid::from_bytes_unchecked(&self.file[self.file.len() - self.format.len_in_bytes()..])
    }

    /// Bytes from `offset` to `end`, at most up to the trailer.
    pub(crate) fn slice(&self, offset: u64, end: u64) -> &'a [u8] {
        let range = offset as usize..end.min(self.end()) as usize;
        self.file.get(range).unwrap_or_default()
    }

    /// Reads the header of an entry and splits off the compressed data after it.
    pub(crate) fn entry(&self, offset: u64, bytes: &'a [u8]) -> Result<(Entry, &'a [u8]), Fault> {
        let entry = Entry::from_bytes(bytes, offset, self.format).map_err(|e| Fault::entry(offset, e.to_string()))?;
        let data = &bytes[entry.header_size()..];
        Ok((entry, data))
    }
}

/// Boundaries of all entries.
pub(crate) struct Boundaries {
    /// Offset of each entry, ascending, and the end of the last one.
    pub(crate) offsets: Vec<u64>,
    /// Row of each entry in the index that came with the pack; empty without one.
    pub(crate) rows: Vec<u32>,
}

impl Boundaries {
    /// Takes the boundaries from an index. Inflating each entry later proves that the offsets tile the pack.
    pub(crate) fn from_index(pack: &PackData<'_>, index: &Index) -> Result<Self, Fault> {
        if index.objects() != pack.objects {
            return Err(Fault::Index(format!("it lists {} objects, the pack {}", index.objects(), pack.objects)));
        }
        let mut order = Vec::with_capacity(pack.objects as usize);
        for row in 0..index.objects() {
            let offset = index.offset(row).filter(|offset| (HEADER_BYTES as u64..pack.end()).contains(offset));
            order.push((offset.ok_or_else(|| Fault::Index(format!("row {row} points outside the pack")))?, row));
        }
        order.sort_unstable();
        if order.first().is_some_and(|(offset, _)| *offset != HEADER_BYTES as u64)
            || order.windows(2).any(|pair| pair[0].0 == pair[1].0)
        {
            return Err(Fault::Index("its offsets are not those of the pack's entries".into()));
        }
        let rows = order.iter().map(|(_, row)| *row).collect();
        let mut offsets = Vec::with_capacity(order.len() + 1);
        offsets.extend(order.iter().map(|(offset, _)| *offset));
        offsets.push(pack.end());
        check_empty(pack)?;
        Ok(Boundaries { offsets, rows })
    }

    /// Finds the boundaries by inflating every entry.
    pub(crate) fn scan(pack: &PackData<'_>, progress: &CheckProgress) -> Result<Self, Fault> {
        check_empty(pack)?;
        let mut offsets = Vec::with_capacity(pack.objects as usize + 1);
        let mut offset = HEADER_BYTES as u64;
        let mut inflater = Inflater::new().map_err(|e| Fault::File(e.into()))?;
        let mut out = Vec::new();
        for number in 0..pack.objects {
            if number % CANCEL_EVERY == 0 {
                progress.check()?;
            }
            offsets.push(offset);
            let (entry, data) = pack.entry(offset, pack.slice(offset, pack.end()))?;
            let taken = if entry.decompressed_size > STREAMED_BLOB_BYTES {
                check_size(data, entry.decompressed_size).map_err(|e| Fault::entry(offset, e))?;
                inflate_streaming(data, entry.decompressed_size, |e| Fault::entry(offset, e), |_| progress.check())?
            } else {
                inflater.inflate(data, entry.decompressed_size, &mut out).map_err(|e| Fault::entry(offset, e))?
            };
            offset += (entry.header_size() + taken) as u64;
        }
        if offset != pack.end() {
            return Err(Fault::File(format!("{} bytes follow its last entry", pack.end() - offset)));
        }
        offsets.push(offset);
        Ok(Boundaries { offsets, rows: Vec::new() })
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> u32 {
        (self.offsets.len() - 1) as u32
    }

    /// Offset and bytes of an entry.
    pub(crate) fn slice<'a>(&self, pack: &PackData<'a>, entry: u32) -> (u64, &'a [u8]) {
        let from = self.offsets[entry as usize];
        let to = self.offsets[entry as usize + 1];
        (from, pack.slice(from, to))
    }
}

/// Checks that a pack without entries has no bytes between header and trailer.
fn check_empty(pack: &PackData<'_>) -> Result<(), Fault> {
    if pack.objects == 0 && pack.end() != HEADER_BYTES as u64 {
        return Err(Fault::File(format!("{} bytes follow its header", pack.end() - HEADER_BYTES as u64)));
    }
    Ok(())
}

/// Marker of an entry that is no offset delta, while families are built.
const NO_BASE: u32 = u32::MAX;

/// Deltas by base.
pub(crate) struct Families {
    /// Start of each entry's children in `children`, and the end of the last ones.
    first: Vec<u32>,
    /// Offset deltas grouped by base, within a group those with the fewest descendants first: resolved in this order,
    /// at most log2(entries) bases are held at a time.
    children: Vec<u32>,
    /// Ref deltas, sorted by the id of their base.
    by_id: Vec<u32>,
}

impl Families {
    pub(crate) fn new(pack: &PackData<'_>, boundaries: &Boundaries, progress: &CheckProgress) -> Result<Self, Fault> {
        let count = boundaries.len() as usize;
        let mut bases = vec![NO_BASE; count];
        let mut first = vec![0u32; count + 1];
        let mut by_id = Vec::new();
        for entry in 0..boundaries.len() {
            if entry % CANCEL_EVERY == 0 {
                progress.check()?;
            }
            let (offset, bytes) = boundaries.slice(pack, entry);
            let (header, _) = pack.entry(offset, bytes)?;
            match header.header {
                Header::OfsDelta { base_distance } => {
                    let before = &boundaries.offsets[..entry as usize];
                    let base = offset.checked_sub(base_distance).and_then(|base| before.binary_search(&base).ok());
                    let base = base.ok_or_else(|| Fault::entry(offset, "its base is not an entry before it"))?;
                    bases[entry as usize] = base as u32;
                    first[base] += 1;
                }
                Header::RefDelta { .. } => by_id.push(entry),
                _ => {}
            }
        }
        let children = group(&bases, &mut first);
        let mut families = Families { first, children, by_id };
        let mut by_id = std::mem::take(&mut families.by_id);
        by_id.sort_by(|a, b| base_id(pack, boundaries, *a).cmp(base_id(pack, boundaries, *b)));
        families.by_id = by_id;
        Ok(families)
    }

    /// Positions in [`Families::child`] of the offset deltas on an entry.
    pub(crate) fn children(&self, entry: u32) -> std::ops::Range<u32> {
        self.first[entry as usize]..self.first[entry as usize + 1]
    }

    pub(crate) fn child(&self, position: u32) -> u32 {
        self.children[position as usize]
    }

    /// Positions in [`Families::child_by_id`] of the ref deltas on the base `id`.
    pub(crate) fn children_by_id(
        &self,
        pack: &PackData<'_>,
        boundaries: &Boundaries,
        id: &oid,
    ) -> std::ops::Range<u32> {
        let from = self.by_id.partition_point(|entry| base_id(pack, boundaries, *entry) < id);
        let count = self.by_id[from..].partition_point(|entry| base_id(pack, boundaries, *entry) == id);
        from as u32..(from + count) as u32
    }

    pub(crate) fn child_by_id(&self, position: u32) -> u32 {
        self.by_id[position as usize]
    }

    /// Families of entries with these offset-delta bases.
    #[cfg(test)]
    pub(crate) fn of_bases(bases: &[Option<u32>]) -> Self {
        let bases: Vec<u32> = bases.iter().map(|base| base.unwrap_or(NO_BASE)).collect();
        let mut first = vec![0; bases.len() + 1];
        bases.iter().filter(|base| **base != NO_BASE).for_each(|base| first[*base as usize] += 1);
        let children = group(&bases, &mut first);
        Families { first, children, by_id: Vec::new() }
    }

    /// All ref deltas, sorted by the id of their base.
    pub(crate) fn by_id(&self) -> &[u32] {
        &self.by_id
    }
}

/// Groups entries by base, smallest family first. On entry `first` holds the number of children of each base, on return
/// the start of each group.
fn group(bases: &[u32], first: &mut [u32]) -> Vec<u32> {
    let mut total = 0;
    for count in first.iter_mut() {
        total += *count;
        *count = total; // the end of the group; filling moves it back to the beginning
    }
    let mut children = vec![0; total as usize];
    // A base precedes its offset deltas, so in reverse order every family is complete when it is counted.
    let mut descendants = vec![1u32; bases.len()];
    for entry in (0..bases.len()).rev() {
        let base = bases[entry];
        if base != NO_BASE {
            descendants[base as usize] = descendants[base as usize].saturating_add(descendants[entry]);
            first[base as usize] -= 1;
            children[first[base as usize] as usize] = entry as u32;
        }
    }
    for range in first.windows(2).filter(|range| range[1] - range[0] > 1) {
        children[range[0] as usize..range[1] as usize].sort_by_key(|child| descendants[*child as usize]);
    }
    children
}

/// Id of the base of a ref delta: the bytes right after the size of the entry.
pub(crate) fn base_id<'a>(pack: &PackData<'a>, boundaries: &Boundaries, entry: u32) -> &'a oid {
    let (_, bytes) = boundaries.slice(pack, entry);
    let size_bytes = bytes.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    oid::from_bytes_unchecked(&bytes[size_bytes..][..pack.format.len_in_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_grouped_by_base_with_the_smallest_first() {
        //   0 ─┬─ 1 ─── 2 ─── 5
        //      └─ 4           3 (whole)
        let bases = [NO_BASE, 0, 1, NO_BASE, 0, 2];
        let mut first = [2, 1, 1, 0, 0, 0, 0];
        let children = group(&bases, &mut first);
        assert_eq!(first, [0, 2, 3, 4, 4, 4, 4]);
        assert_eq!(children, [4, 1, 2, 5]);
    }

    #[test]
    fn a_pack_cannot_announce_more_than_it_can_hold() {
        let pack = |count: u32, bytes: usize| {
            let mut file = [*b"PACK", 2u32.to_be_bytes(), count.to_be_bytes()].concat();
            file.resize(12 + bytes + 20, 0);
            PackData::new(&file, Format::Sha1).map(|pack| pack.objects).map_err(|e| e.to_string())
        };
        assert_eq!(pack(2, 18), Ok(2));
        assert!(pack(3, 18).is_err());
        assert!(pack(u32::MAX, 18).unwrap_err().contains("4294967295 objects"));
    }
}
