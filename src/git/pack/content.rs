//! The bytes of an object that is read or resolved: in memory, or in a temporary file where memory is short.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::error::Fault;
use crate::memory::{self, Budget, FREE_BYTES, Reservation};

/// Objects that are larger than this go to a file however much memory is left.
pub(crate) const MAX_MEMORY_BYTES: u64 = 64 << 20;
/// Bytes written to a file at a time.
const WRITE_BYTES: usize = 256 << 10;

/// The bytes of an object.
#[derive(Debug)]
pub enum Content {
    /// With what the process's budget gave for them.
    Memory(Vec<u8>, Option<Reservation<'static>>),
    /// In a file without a name. Its pages are the system's to take back.
    File(Arc<Mmap>),
}

impl Default for Content {
    fn default() -> Self {
        Content::Memory(Vec::new(), None)
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Memory(data, _) => data,
            Content::File(map) => map,
        }
    }
}

impl Content {
    /// A second holder of the same bytes; `None` where there is no memory for a copy.
    pub(crate) fn share(&self) -> Option<Content> {
        match self {
            Content::File(map) => Some(Content::File(map.clone())),
            Content::Memory(data, _) => {
                let reservation = reserve(memory::budget(), data.len() as u64)?;
                Some(Content::Memory(data.clone(), Some(reservation)))
            }
        }
    }
}

fn reserve(budget: &'static Budget, bytes: u64) -> Option<Reservation<'static>> {
    if bytes > MAX_MEMORY_BYTES { None } else { budget.try_take(bytes) }
}

/// A place for an object of a size that is only claimed.
pub(crate) enum Place {
    /// An empty buffer, and what the budget gave for it.
    Memory(Vec<u8>, Option<Reservation<'static>>),
    File(BufWriter<File>),
}

impl Place {
    /// Memory if `budget` has some left, else a file in `directory`. `spare` is used for small objects.
    pub(crate) fn of(
        budget: &'static Budget,
        size: u64,
        directory: &Path,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Result<Place, Fault> {
        if size < FREE_BYTES {
            return Ok(Place::Memory(spare(), None));
        }
        match reserve(budget, size) {
            Some(reservation) => Ok(Place::Memory(Vec::new(), Some(reservation))),
            None => {
                let file = tempfile::tempfile_in(directory).map_err(Fault::io("make a file for an object"))?;
                Ok(Place::File(BufWriter::with_capacity(WRITE_BYTES, file)))
            }
        }
    }
}

/// Appends to the file of a [`Place`].
pub(crate) fn write(out: &mut BufWriter<File>, piece: &[u8]) -> Result<(), Fault> {
    out.write_all(piece).map_err(Fault::io("write an object to a file"))
}

/// The bytes that have been written to the file of a [`Place`].
pub(crate) fn written(out: BufWriter<File>) -> Result<Content, Fault> {
    let file = out.into_inner().map_err(|error| Fault::io("write an object to a file")(error.into_error()))?;
    if file.metadata().map_err(Fault::io("read the size of an object's file"))?.len() == 0 {
        return Ok(Content::default());
    }
    // SAFETY: the file has no name, so nothing else writes to it.
    let map = unsafe { Mmap::map(&file) }.map_err(Fault::io("map an object's file"))?;
    Ok(Content::File(Arc::new(map)))
}
