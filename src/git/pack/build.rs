//! Writing packs to files.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use gix::hash::Kind as Format;
use gix::objs::Kind;

use super::error::{Fault, PackError};
use super::stream::{BuiltPack, PackStream};

/// Size of the buffer for copying and writing.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a pack (version 2) entry by entry to a file. The number of entries is said in advance, since it
/// stands in front and the checksum covers it.
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
    /// Creates the file (it must not be there yet) for a pack of `objects` entries.
    pub fn create(path: &Path, format: Format, objects: u32) -> Result<Self, PackError> {
        let file = File::create_new(path).map_err(|e| Fault::io("create it")(e).of(path))?;
        let stream = PackStream::new(BufWriter::with_capacity(BUFFER_BYTES, file), format, objects);
        Ok(PackWriter { path: path.to_owned(), stream: stream.map_err(|fault| fault.of(path))? })
    }

    /// Appends an object, compressed, and returns the offset of its entry.
    pub fn whole(&mut self, kind: Kind, data: &[u8]) -> Result<u64, PackError> {
        self.stream.whole(kind, data).map_err(|fault| fault.of(&self.path))
    }

    /// Appends an object of `size` bytes from a reader in constant memory, and returns its entry's offset.
    pub fn whole_streaming(&mut self, kind: Kind, size: u64, data: &mut dyn Read) -> Result<u64, PackError> {
        self.stream.whole_streaming(kind, size, data).map_err(|fault| fault.of(&self.path))
    }

    /// Appends an object whose compressed bytes are known, and returns the offset of its entry.
    pub(crate) fn whole_raw(&mut self, kind: Kind, size: u64, compressed: &[u8]) -> Result<u64, PackError> {
        self.stream.whole_raw(kind, size, compressed).map_err(|fault| fault.of(&self.path))
    }

    /// Appends a delta whose compressed bytes are known, on the entry at `base`, and returns its offset.
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
