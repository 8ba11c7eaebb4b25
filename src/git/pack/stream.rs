//! Writer of a pack to any output.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;
use gix::odb::pack::data::entry::Header;
use libdeflater::{CompressionLvl, Compressor};

use super::error::Fault;

/// Size in bytes above which an object is compressed as a stream.
const MAX_AT_ONCE_BYTES: u64 = 1 << 20;

/// Pack that has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltPack {
    /// Checksum in the trailer, which is the pack's id.
    pub id: ObjectId,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of objects.
    pub objects: u32,
}

/// Writer of a pack (version 2) to an output, entry by entry, hashed as it is written. The number of entries is fixed
/// in advance, as it is part of the header and of the checksum. [`Fault::Io`] is a failure of the output, or of the
/// reader of an object that is streamed.
pub(crate) struct PackStream<W> {
    out: Output<W>,
    format: Format,
    announced: u32,
    written: u32,
    compressor: Compressor,
    compressed: Vec<u8>,
}

/// Output that is hashed as it is written.
struct Output<W> {
    inner: W,
    hasher: gix::hash::Hasher,
    offset: u64,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(data)?;
        self.hasher.update(&data[..count]);
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> PackStream<W> {
    /// Writes the header of a pack of `objects` entries.
    pub(crate) fn new(out: W, format: Format, objects: u32) -> Result<Self, Fault> {
        let out = Output { inner: out, hasher: gix::hash::hasher(format), offset: 0 };
        let compressor = Compressor::new(CompressionLvl::default());
        let mut stream = PackStream { out, format, announced: objects, written: 0, compressor, compressed: Vec::new() };
        let header = [*b"PACK", 2u32.to_be_bytes(), objects.to_be_bytes()].concat();
        stream.put(|out| out.write_all(&header))?;
        Ok(stream)
    }

    /// Number of bytes written.
    pub(crate) fn offset(&self) -> u64 {
        self.out.offset
    }

    /// Number of entries written.
    pub(crate) fn written(&self) -> u32 {
        self.written
    }

    /// Underlying output. Bytes written to it directly are not part of the pack.
    pub(crate) fn output(&mut self) -> &mut W {
        &mut self.out.inner
    }

    /// Compresses and appends an object, and returns the offset of its entry. Large objects are compressed in constant
    /// memory.
    pub(crate) fn whole(&mut self, kind: Kind, mut data: &[u8]) -> Result<u64, Fault> {
        if data.len() as u64 > MAX_AT_ONCE_BYTES {
            return self.whole_streaming(kind, data.len() as u64, &mut data);
        }
        let offset = self.begin(whole_header(kind), data.len() as u64)?;
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.resize(self.compressor.zlib_compress_bound(data.len()), 0);
        let size = self.compressor.zlib_compress(data, &mut compressed);
        let result = match size {
            Ok(size) => self.put(|out| out.write_all(&compressed[..size])),
            Err(error) => Err(Fault::File(format!("cannot compress an object: {error}"))),
        };
        self.compressed = compressed;
        result.map(|()| offset)
    }

    /// Appends an object of `size` bytes from a reader in constant memory, and returns the offset of its entry.
    pub(crate) fn whole_streaming(&mut self, kind: Kind, size: u64, data: &mut dyn Read) -> Result<u64, Fault> {
        let offset = self.begin(whole_header(kind), size)?;
        let mut encoder = ZlibEncoder::new(&mut self.out, Compression::default());
        let mut data = data.take(size.saturating_add(1));
        let copied = std::io::copy(&mut data, &mut encoder).and_then(|copied| encoder.finish().map(|_| copied));
        if copied.map_err(Fault::io("write an object to it"))? != size {
            return Err(Fault::File(format!("the reader of an object did not yield its size of {size} bytes")));
        }
        Ok(offset)
    }

    /// Appends an object from its compressed bytes, and returns the offset of its entry.
    pub(crate) fn whole_raw(&mut self, kind: Kind, size: u64, compressed: &[u8]) -> Result<u64, Fault> {
        self.compressed(whole_header(kind), size, compressed)
    }

    /// Appends a delta on the entry at offset `base` from its compressed bytes, and returns the offset of its entry.
    pub(crate) fn delta_raw(&mut self, base: u64, size: u64, compressed: &[u8]) -> Result<u64, Fault> {
        let distance = self.out.offset.checked_sub(base).filter(|distance| *distance > 0);
        let base_distance = distance.ok_or_else(|| Fault::entry(base, "a delta on it would precede it"))?;
        self.compressed(Header::OfsDelta { base_distance }, size, compressed)
    }

    /// Appends a delta on an object anywhere in the pack, or held by the receiver of a thin pack, from its compressed
    /// bytes, and returns the offset of its entry.
    pub(crate) fn delta_on(&mut self, base: &oid, size: u64, compressed: &[u8]) -> Result<u64, Fault> {
        self.compressed(Header::RefDelta { base_id: base.to_owned() }, size, compressed)
    }

    /// Appends an entry of another pack unchanged.
    pub(crate) fn entry_raw(&mut self, entry: &[u8]) -> Result<(), Fault> {
        self.count()?;
        self.put(|out| out.write_all(entry))
    }

    /// Writes the checksum, flushes, and returns the output.
    pub(crate) fn finish(mut self) -> Result<(BuiltPack, W), Fault> {
        if self.written != self.announced {
            let written = self.written;
            let announced = self.announced;
            return Err(Fault::File(format!("{written} objects were written of {announced} announced")));
        }
        let hasher = std::mem::replace(&mut self.out.hasher, gix::hash::hasher(self.format));
        let id = hasher.try_finalize().map_err(|_| Fault::Collision { offset: 0 })?;
        self.put(|out| out.write_all(id.as_slice()).and_then(|()| out.flush()))?;
        Ok((BuiltPack { id, bytes: self.out.offset, objects: self.written }, self.out.inner))
    }

    fn compressed(&mut self, header: Header, size: u64, compressed: &[u8]) -> Result<u64, Fault> {
        let offset = self.begin(header, size)?;
        self.put(|out| out.write_all(compressed))?;
        Ok(offset)
    }

    fn begin(&mut self, header: Header, size: u64) -> Result<u64, Fault> {
        self.count()?;
        let offset = self.out.offset;
        self.put(|out| header.write_to(size, out).map(drop))?;
        Ok(offset)
    }

    fn count(&mut self) -> Result<(), Fault> {
        if self.written == self.announced {
            return Err(Fault::File(format!("more than the {} announced objects were written", self.announced)));
        }
        self.written += 1;
        Ok(())
    }

    fn put(&mut self, write: impl FnOnce(&mut Output<W>) -> std::io::Result<()>) -> Result<(), Fault> {
        write(&mut self.out).map_err(Fault::io("write it"))
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
