//! Writing packs.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind as Format;
use gix::objs::Kind;
use gix::odb::pack::data::entry::Header;
use libdeflater::{CompressionLvl, Compressor};

use super::error::{Fault, PackError};

/// Size of the buffer for copying and writing.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a pack (version 2) entry by entry. The number of entries is said in advance, since it stands in
/// front and the checksum covers it.
pub struct PackWriter {
    path: PathBuf,
    out: Output,
    format: Format,
    announced: u32,
    written: u32,
    compressor: Compressor,
    compressed: Vec<u8>,
}

/// A pack that has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltPack {
    /// Its trailer checksum.
    pub id: ObjectId,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many objects it holds.
    pub objects: u32,
}

/// The file, hashed as it is written.
struct Output {
    file: BufWriter<File>,
    hasher: gix::hash::Hasher,
    offset: u64,
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(data)?;
        self.hasher.update(&data[..count]);
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("path", &self.path).field("written", &self.written).finish_non_exhaustive()
    }
}

impl PackWriter {
    /// Creates the file (it must not be there yet) for a pack of `objects` entries.
    pub fn create(path: &Path, format: Format, objects: u32) -> Result<Self, PackError> {
        let file = File::create_new(path).map_err(|e| Fault::io("create it")(e).of(path))?;
        let out =
            Output { file: BufWriter::with_capacity(BUFFER_BYTES, file), hasher: gix::hash::hasher(format), offset: 0 };
        let compressor = Compressor::new(CompressionLvl::default());
        let mut writer = PackWriter {
            path: path.to_owned(),
            out,
            format,
            announced: objects,
            written: 0,
            compressor,
            compressed: Vec::new(),
        };
        let header = [*b"PACK", 2u32.to_be_bytes(), objects.to_be_bytes()].concat();
        writer.put(|out| out.write_all(&header))?;
        Ok(writer)
    }

    /// Appends an object, compressed, and returns the offset of its entry.
    pub fn whole(&mut self, kind: Kind, data: &[u8]) -> Result<u64, PackError> {
        let offset = self.begin(whole_header(kind), data.len() as u64)?;
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.resize(self.compressor.zlib_compress_bound(data.len()), 0);
        let size = self.compressor.zlib_compress(data, &mut compressed);
        let result = match size {
            Ok(size) => self.put(|out| out.write_all(compressed.get(..size).unwrap_or_default())),
            Err(error) => Err(self.fail(Fault::File(format!("cannot compress an object: {error}")))),
        };
        self.compressed = compressed;
        result.map(|()| offset)
    }

    /// Appends an object of `size` bytes from a reader in constant memory, and returns its entry's offset.
    pub fn whole_streaming(&mut self, kind: Kind, size: u64, data: &mut dyn Read) -> Result<u64, PackError> {
        let offset = self.begin(whole_header(kind), size)?;
        let mut encoder = ZlibEncoder::new(&mut self.out, Compression::default());
        let mut data = data.take(size.saturating_add(1));
        let copied = std::io::copy(&mut data, &mut encoder).and_then(|copied| encoder.finish().map(|_| copied));
        let copied = copied.map_err(|e| Fault::io("write an object to it")(e).of(&self.path))?;
        if copied != size {
            return Err(self.fail(Fault::File(format!("an object of {size} bytes turned out to have another size"))));
        }
        Ok(offset)
    }

    /// Appends an object whose compressed bytes are known, and returns the offset of its entry.
    pub(crate) fn whole_raw(&mut self, kind: Kind, size: u64, compressed: &[u8]) -> Result<u64, PackError> {
        let offset = self.begin(whole_header(kind), size)?;
        self.put(|out| out.write_all(compressed))?;
        Ok(offset)
    }

    /// Appends a delta whose compressed bytes are known, on the entry at `base`, and returns its offset.
    pub(crate) fn delta_raw(&mut self, base: u64, size: u64, compressed: &[u8]) -> Result<u64, PackError> {
        let Some(base_distance) = self.out.offset.checked_sub(base).filter(|distance| *distance > 0) else {
            return Err(self.fail(Fault::entry(base, "a delta on it was to be written before it")));
        };
        let offset = self.begin(Header::OfsDelta { base_distance }, size)?;
        self.put(|out| out.write_all(compressed))?;
        Ok(offset)
    }

    /// Writes the checksum and syncs the file.
    pub fn finish(mut self) -> Result<BuiltPack, PackError> {
        if self.written != self.announced {
            let (written, announced) = (self.written, self.announced);
            return Err(self.fail(Fault::File(format!("{written} objects were written of {announced} announced"))));
        }
        let hasher = std::mem::replace(&mut self.out.hasher, gix::hash::hasher(self.format));
        let id = hasher.try_finalize().map_err(|_| self.fail(Fault::Collision { offset: 0 }))?;
        self.put(|out| out.write_all(id.as_slice()).and_then(|()| out.flush()))?;
        self.put(|out| out.file.get_ref().sync_all())?;
        Ok(BuiltPack { id, bytes: self.out.offset, objects: self.written })
    }

    fn begin(&mut self, header: Header, size: u64) -> Result<u64, PackError> {
        if self.written == self.announced {
            let announced = self.announced;
            return Err(self.fail(Fault::File(format!("more than the {announced} announced objects were written"))));
        }
        self.written += 1;
        let offset = self.out.offset;
        self.put(|out| header.write_to(size, out).map(drop))?;
        Ok(offset)
    }

    fn put(&mut self, write: impl FnOnce(&mut Output) -> std::io::Result<()>) -> Result<(), PackError> {
        write(&mut self.out).map_err(|e| Fault::io("write it")(e).of(&self.path))
    }

    fn fail(&self, fault: Fault) -> PackError {
        fault.of(&self.path)
    }
}

pub(crate) fn whole_header(kind: Kind) -> Header {
    match kind {
        Kind::Commit => Header::Commit,
        Kind::Tree => Header::Tree,
        Kind::Blob => Header::Blob,
        Kind::Tag => Header::Tag,
    }
}
