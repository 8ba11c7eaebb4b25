//! Completion of a thin pack: missing delta bases are appended, as `git index-pack --fix-thin` does.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use gix::ObjectId;
use gix::objs::Kind;
use gix::odb::pack::data::entry::Header;
use libdeflater::{CompressionLvl, Compressor};

use super::arrive::Arrival;
use super::error::{Fault, PackError};
use super::finder::{Finder, Stored};
use super::limits::MAX_RESOLVED_BYTES;
use super::set::{Location, PackSet};
use super::stream::whole_header;
use crate::memory;

/// Bytes of one read or write.
const BUFFER_BYTES: usize = 256 << 10;
/// Offset of the number of objects in a pack.
const COUNT_AT: u64 = 8;

/// Appends objects of `from` to the received pack in the file at `path`, and updates its header, its trailer and
/// `arrival`. The pack may grow up to `max_bytes`.
///
/// After an error the file is unusable.
pub fn append_bases(
    path: &Path,
    arrival: &mut Arrival,
    bases: &[ObjectId],
    from: &PackSet,
    max_bytes: u64,
) -> Result<(), PackError> {
    let finder = from.finder().map_err(|fault| fault.of(path))?;
    let end = end_of(arrival);
    let open = || -> std::io::Result<File> {
        let mut file = File::options().read(true).write(true).open(path)?;
        file.set_len(end)?;
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    };
    let file = open().map_err(|e| Fault::io("open it")(e).of(path))?;
    let mut appending = Appending {
        path,
        from,
        finder,
        out: BufWriter::with_capacity(BUFFER_BYTES, file),
        offset: end,
        compressor: Compressor::new(CompressionLvl::default()),
        scratch: Vec::new(),
    };
    for base in bases {
        let location = from.locate(base).ok_or_else(|| Fault::MissingObject { id: *base }.of(path))?;
        appending.append(location)?;
        if appending.offset > max_bytes {
            return Err(Fault::PackTooLarge { limit: max_bytes }.of(path));
        }
        arrival.offsets.push(appending.offset);
        arrival.objects = arrival.objects.saturating_add(1);
    }
    appending.finish(arrival).map_err(|fault| fault.of(path))
}

/// Offset of the end of the entries.
fn end_of(arrival: &Arrival) -> u64 {
    let Some(end) = arrival.offsets.last() else {
        unreachable!("the last offset of an arrival is the end of its entries")
    };
    *end
}

/// Removes the objects added by [`append_bases`]; `original` is the pack as received.
pub(crate) fn truncate(path: &Path, original: &Arrival) -> Result<(), PackError> {
    let shorten = || -> std::io::Result<()> {
        let mut file = File::options().write(true).open(path)?;
        file.set_len(end_of(original))?;
        file.seek(SeekFrom::Start(COUNT_AT))?;
        file.write_all(&original.objects.to_be_bytes())?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(original.trailer.as_slice())
    };
    shorten().map_err(|e| Fault::io("shorten it")(e).of(path))
}

struct Appending<'a> {
    path: &'a Path,
    from: &'a PackSet,
    finder: Finder<'a>,
    out: BufWriter<File>,
    offset: u64,
    compressor: Compressor,
    scratch: Vec<u8>,
}

impl Appending<'_> {
    /// Appends an object as a whole entry.
    fn append(&mut self, location: Location) -> Result<(), PackError> {
        let blame = |fault| self.from.blame(location.pack, fault);
        let offset = self.finder.offset(location).map_err(blame)?;
        let entry = self.finder.entry(location.pack, offset).map_err(blame)?;
        let size = self.finder.size(location)?;
        if size > MAX_RESOLVED_BYTES {
            let large =
                Fault::TooLarge { offset: self.offset, what: "base of a delta", size, limit: MAX_RESOLVED_BYTES };
            return Err(large.of(self.path));
        }
        if let Stored::Whole(kind) = entry.stored {
            let compressed = self.finder.compressed(offset, &entry, &mut self.scratch).map_err(blame)?;
            return self.write(kind, entry.size, compressed);
        }
        // Memory for the compressed object; the object itself counts in the budget of reads.
        let memory = memory::budget().take(size);
        let _memory = memory.map_err(|busy| Fault::Busy(busy).of(self.path))?;
        let object = self.finder.read(location)?;
        let mut compressed = std::mem::take(&mut self.scratch);
        compressed.resize(self.compressor.zlib_compress_bound(object.data.len()), 0);
        let size = self.compressor.zlib_compress(&object.data, &mut compressed);
        let size = size.map_err(|e| Fault::File(format!("cannot compress an object: {e}")).of(self.path))?;
        let written = self.write(object.kind, object.data.len() as u64, &compressed[..size]);
        self.scratch = compressed;
        written
    }

    fn write(&mut self, kind: Kind, size: u64, compressed: &[u8]) -> Result<(), PackError> {
        let header: Header = whole_header(kind);
        let mut write = || -> std::io::Result<u64> {
            let front = header.write_to(size, &mut self.out)? as u64;
            self.out.write_all(compressed)?;
            Ok(front)
        };
        let front = write().map_err(|e| Fault::io("write it")(e).of(self.path))?;
        self.offset += front + compressed.len() as u64;
        Ok(())
    }

    /// Writes the number of objects and the new trailer.
    fn finish(mut self, arrival: &mut Arrival) -> Result<(), Fault> {
        self.out.seek(SeekFrom::Start(COUNT_AT)).map_err(Fault::io("write it"))?;
        self.out.write_all(&arrival.objects.to_be_bytes()).map_err(Fault::io("write it"))?;
        let mut file = self.out.into_inner().map_err(|e| Fault::io("write it")(e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(Fault::io("read it"))?;
        let mut hasher = gix::hash::hasher(arrival.format);
        self.scratch.resize(BUFFER_BYTES, 0);
        loop {
            match file.read(&mut self.scratch).map_err(Fault::io("read it"))? {
                0 => break,
                count => hasher.update(&self.scratch[..count]),
            }
        }
        arrival.trailer = hasher.try_finalize().map_err(|_| Fault::Collision { offset: 0 })?;
        file.write_all(arrival.trailer.as_slice()).map_err(Fault::io("write it"))?;
        arrival.bytes = self.offset + arrival.trailer.as_slice().len() as u64;
        Ok(())
    }
}
