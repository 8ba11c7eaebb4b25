//! Writer of packs to files.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use gix::hash::Kind as Format;
use gix::objs::Kind;

use super::error::{Fault, PackError};
use super::stream::{BuiltPack, PackStream};

/// Bytes of the write buffer.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a pack of these objects to memory.
pub fn pack_in_memory(format: Format, objects: &[(Kind, &[u8])]) -> Result<Vec<u8>, PackError> {
    let write = || {
        let count = u32::try_from(objects.len()).map_err(|_| Fault::File("it has too many objects".to_owned()))?;
        let mut stream = PackStream::new(Vec::new(), format, count)?;
        for (kind, data) in objects {
            stream.whole(*kind, data)?;
        }
        stream.finish().map(|(_, bytes)| bytes)
    };
    write().map_err(|fault| fault.of(Path::new("a pack in memory")))
}

/// Writer of a pack (version 2) to a file, entry by entry. The number of entries is fixed in advance, as it is part of
/// the header and of the checksum.
pub struct PackWriter {
    path: PathBuf,
    stream: PackStream<BufWriter<File>>,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let written = self.stream.written();
        f.debug_struct("PackWriter").field("path", &self.path).field("written", &written).finish_non_exhaustive()
    }
}

impl PackWriter {
    /// Creates the file, which must not exist, for a pack of `objects` entries.
    pub fn create(path: &Path, format: Format, objects: u32) -> Result<Self, PackError> {
        let file = File::create_new(path).map_err(|e| Fault::io("create it")(e).of(path))?;
        let stream = PackStream::new(BufWriter::with_capacity(BUFFER_BYTES, file), format, objects);
        Ok(PackWriter { path: path.to_owned(), stream: stream.map_err(|fault| fault.of(path))? })
    }

    /// Compresses and appends an object, and returns the offset of its entry.
    pub fn whole(&mut self, kind: Kind, data: &[u8]) -> Result<u64, PackError> {
        self.stream.whole(kind, data).map_err(|fault| fault.of(&self.path))
    }

    /// Appends an object of `size` bytes from a reader in constant memory, and returns the offset of its entry.
    pub fn whole_streaming(&mut self, kind: Kind, size: u64, data: &mut dyn Read) -> Result<u64, PackError> {
        self.stream.whole_streaming(kind, size, data).map_err(|fault| fault.of(&self.path))
    }

    /// Appends an object from its compressed bytes, and returns the offset of its entry.
    pub(crate) fn whole_raw(&mut self, kind: Kind, size: u64, compressed: &[u8]) -> Result<u64, PackError> {
        self.stream.whole_raw(kind, size, compressed).map_err(|fault| fault.of(&self.path))
    }

    /// Appends a delta on the entry at offset `base` from its compressed bytes, and returns the offset of its entry.
    pub(crate) fn delta_raw(&mut self, base: u64, size: u64, compressed: &[u8]) -> Result<u64, PackError> {
        self.stream.delta_raw(base, size, compressed).map_err(|fault| fault.of(&self.path))
    }

    /// Writes the checksum and syncs the file.
    pub fn finish(self) -> Result<BuiltPack, PackError> {
        let PackWriter { path, stream } = self;
        let built = stream.finish().and_then(|(built, file)| {
            file.get_ref().sync_all().map_err(Fault::io("sync it"))?;
            Ok(built)
        });
        built.map_err(|fault| fault.of(&path))
    }
}
