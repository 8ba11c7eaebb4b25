//! Reader and writer of pack indices, version 2 (gitformat-pack, "pack-*.idx").

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use memmap2::Mmap;

use super::error::Fault;

const MAGIC: [u8; 8] = *b"\xfftOc\0\0\0\x02";
const FANOUT_AT: usize = MAGIC.len();
const TABLE_AT: usize = FANOUT_AT + 256 * 4;
/// Flag of a 32-bit offset that is a row number in the table of 64-bit offsets.
const LARGE: u32 = 1 << 31;
/// Most bits of an id that select a bucket of a [`Lookup`]: 64 MiB of bucket bounds.
const MAX_LOOKUP_BITS: u32 = 24;

/// Pack index, mapped into memory. The file must not change while it is open.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    data: Mmap,
    format: Format,
    objects: u32,
    crc_at: usize,
    offset_at: usize,
    large_at: usize,
}

impl Index {
    /// Returns true if the file has the signature of version 2, the only version that [`Index::open`] reads.
    pub fn is_version_2(path: &Path) -> bool {
        use std::io::Read;
        let mut magic = [0; 8];
        File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
    }

    /// Maps an index and checks the sizes of its tables. Table contents are checked on use: no content causes a panic.
    pub fn open(path: &Path, format: Format) -> Result<Index, Fault> {
        Self::of_file(&File::open(path).map_err(Fault::io("open the index"))?, path, format)
    }

    /// Maps an index from an open file; `path` is its name in errors.
    pub fn of_file(file: &File, path: &Path, format: Format) -> Result<Index, Fault> {
        // SAFETY: indices are immutable files of a private spool or of a store that never rewrites a file.
        let data = unsafe { Mmap::map(file) }.map_err(Fault::io("map the index"))?;
        let width = format.len_in_bytes();
        if data.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(Fault::Index(format!("{} is not an index of version 2", path.display())));
        }
        let objects = fanout(&data).ok_or_else(|| Fault::Index(format!("{} has a damaged fan-out", path.display())))?;
        let rows = objects as usize;
        let crc_at = TABLE_AT + rows * width;
        let offset_at = crc_at + rows * 4;
        let large_at = offset_at + rows * 4;
        let large_bytes = data.len().checked_sub(large_at + 2 * width);
        if !large_bytes.is_some_and(|bytes| bytes % 8 == 0 && bytes / 8 <= rows) {
            return Err(Fault::Index(format!("the size of {} does not match {objects} objects", path.display())));
        }
        Ok(Index { path: path.to_owned(), data, format, objects, crc_at, offset_at, large_at })
    }

    /// Path of the index.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of objects.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// Object format of the ids.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Size of the index in bytes.
    pub fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// Checksum of the indexed pack, which is the pack's id.
    pub fn pack_checksum(&self) -> &oid {
        let width = self.format.len_in_bytes();
        oid::from_bytes_unchecked(&self.data[self.data.len() - 2 * width..self.data.len() - width])
    }

    /// Compares the checksum in the trailer with the content.
    pub fn verify_checksum(&self) -> Result<(), Fault> {
        let (content, stored) = self.data.split_at(self.data.len() - self.format.len_in_bytes());
        let mut hasher = gix::hash::hasher(self.format);
        hasher.update(content);
        match hasher.try_finalize() {
            Ok(computed) if computed.as_slice() == stored => Ok(()),
            _ => Err(Fault::Index(format!("the checksum of {} does not match its content", self.path.display()))),
        }
    }

    /// Id of the object in a row. Rows are in the order of ids.
    ///
    /// # Panics
    /// If the row does not exist.
    pub fn id(&self, row: u32) -> &oid {
        let width = self.format.len_in_bytes();
        oid::from_bytes_unchecked(&self.data[TABLE_AT..self.crc_at][row as usize * width..][..width])
    }

    /// CRC-32 of the bytes of the entry in the pack.
    ///
    /// # Panics
    /// If the row does not exist.
    pub fn crc32(&self, row: u32) -> u32 {
        let crc32 = read_u32(&self.data[self.crc_at..self.offset_at], row as usize);
        let Some(crc32) = crc32 else { unreachable!("row {row} of {}", self.objects) };
        crc32
    }

    /// Offset of the entry in the pack; `None` if the index is damaged.
    pub fn offset(&self, row: u32) -> Option<u64> {
        let offset = read_u32(&self.data[self.offset_at..self.large_at], row as usize)?;
        if offset & LARGE == 0 {
            return Some(offset.into());
        }
        let large = &self.data[self.large_at..self.data.len() - 2 * self.format.len_in_bytes()];
        let at = (offset & !LARGE) as usize * 8;
        large.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// Row of an object.
    pub fn row_of(&self, id: &oid) -> Option<u32> {
        let first = usize::from(id.first_byte());
        let from = if first == 0 { 0 } else { read_u32(&self.data[FANOUT_AT..], first - 1)? };
        let to = read_u32(&self.data[FANOUT_AT..], first)?;
        self.search(id, from, to)
    }

    /// Binary search in rows `from..to`.
    fn search(&self, id: &oid, mut from: u32, mut to: u32) -> Option<u32> {
        while from < to {
            let middle = from + (to - from) / 2;
            match self.id(middle).as_bytes().cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}

/// Number of objects from the fan-out table; `None` if the table is not monotonic.
fn fanout(data: &[u8]) -> Option<u32> {
    let table = data.get(FANOUT_AT..TABLE_AT)?;
    let mut last = 0;
    for at in 0..256 {
        let next = read_u32(table, at)?;
        if next < last {
            return None;
        }
        last = next;
    }
    Some(last)
}

fn read_u32(table: &[u8], row: usize) -> Option<u32> {
    table.get(row * 4..row * 4 + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Lookup of rows with one or two memory accesses: a fan-out table over about log2(objects) leading bits. Costs about
/// four bytes per object.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    index: &'a Index,
    /// First row of each bucket, and the number of rows at the end.
    bounds: Vec<u32>,
    shift: u32,
}

impl<'a> Lookup<'a> {
    /// Reads the whole index once and checks that ids strictly ascend.
    pub(crate) fn new(index: &'a Index) -> Result<Self, Fault> {
        let bits = (u32::BITS - index.objects.leading_zeros()).clamp(8, MAX_LOOKUP_BITS);
        let shift = u32::BITS - bits;
        let mut bounds = Vec::with_capacity((1 << bits) + 1);
        let mut last: &[u8] = &[];
        for row in 0..index.objects {
            let id = index.id(row).as_bytes();
            if id <= last {
                return Err(Fault::Index(format!("row {row} of {} is out of order", index.path.display())));
            }
            let bucket = (leading(id) >> shift) as usize;
            while bounds.len() <= bucket {
                bounds.push(row);
            }
            last = id;
        }
        bounds.resize((1 << bits) + 1, index.objects);
        Ok(Lookup { index, bounds, shift })
    }

    pub(crate) fn row_of(&self, id: &oid) -> Option<u32> {
        let bucket = (leading(id.as_bytes()) >> self.shift) as usize;
        self.index.search(id, *self.bounds.get(bucket)?, *self.bounds.get(bucket + 1)?)
    }
}

/// First 32 bits of an id.
pub(crate) fn leading(id: &[u8]) -> u32 {
    id.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Row of an index to be written.
pub(crate) struct Row {
    pub(crate) id: ObjectId,
    pub(crate) crc32: u32,
    pub(crate) offset: u64,
}

/// Writes the index of a pack, byte for byte as `git index-pack` does, and returns its size in bytes. The file is not
/// synced. `row` yields rows in the order of ids and is called once per row and table.
pub(crate) fn write_index(
    path: &Path,
    format: Format,
    objects: u32,
    row: impl Fn(u32) -> Row,
    pack_checksum: &oid,
) -> Result<u64, Fault> {
    let file = File::create(path).map_err(Fault::io("create the index"))?;
    let mut out = HashingWriter { out: BufWriter::new(file), hasher: gix::hash::hasher(format), bytes: 0 };
    write_tables(&mut out, objects, row, pack_checksum).map_err(Fault::io("write the index"))?;
    let HashingWriter { mut out, hasher, bytes } = out;
    let checksum = hasher.try_finalize().map_err(|_| Fault::Collision { offset: 0 })?;
    out.write_all(checksum.as_slice()).and_then(|()| out.flush()).map_err(Fault::io("write the index"))?;
    Ok(bytes + format.len_in_bytes() as u64)
}

fn write_tables(
    out: &mut impl Write,
    objects: u32,
    row: impl Fn(u32) -> Row,
    pack_checksum: &oid,
) -> std::io::Result<()> {
    out.write_all(&MAGIC)?;
    let mut counts = [0u32; 256];
    for at in 0..objects {
        counts[usize::from(row(at).id.first_byte())] += 1;
    }
    let mut total = 0;
    for count in counts {
        total += count;
        out.write_all(&u32::to_be_bytes(total))?;
    }
    for at in 0..objects {
        out.write_all(row(at).id.as_slice())?;
    }
    for at in 0..objects {
        out.write_all(&row(at).crc32.to_be_bytes())?;
    }
    let mut large = Vec::new();
    for at in 0..objects {
        let offset = row(at).offset;
        let short = u32::try_from(offset).ok().filter(|short| short & LARGE == 0);
        out.write_all(&short.unwrap_or(LARGE | large.len() as u32).to_be_bytes())?;
        if short.is_none() {
            large.push(offset);
        }
    }
    for offset in large {
        out.write_all(&offset.to_be_bytes())?;
    }
    out.write_all(pack_checksum.as_bytes())
}

/// Writer that hashes its output.
struct HashingWriter<W> {
    out: W,
    hasher: gix::hash::Hasher,
    bytes: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(data)?;
        self.hasher.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
