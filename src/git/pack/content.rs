//! Content of an object: in memory, or in a temporary file if the memory budget is exhausted.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::error::Fault;
use crate::memory::{self, Budget, Reservation, UNMETERED_BYTES};

/// Size in bytes above which an object always goes to a file.
pub(crate) const MAX_MEMORY_BYTES: u64 = 64 << 20;
/// Bytes of the write buffer of a file.
const WRITE_BYTES: usize = 256 << 10;

/// Content of an object.
#[derive(Debug)]
pub enum Content {
    /// Bytes in memory, with their reservation in the process's budget; small objects have none.
    Memory(Vec<u8>, Option<Reservation<'static>>),
    /// Mapped unnamed file. The system can evict its pages.
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
    /// Returns a second owner of the same bytes; `None` if the budget permits no copy.
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

/// Destination for an object whose declared size is not yet verified.
pub(crate) enum Place {
    /// Empty buffer with its reservation in the budget.
    Memory(Vec<u8>, Option<Reservation<'static>>),
    File(BufWriter<File>),
}

impl Place {
    /// Chooses memory if `budget` permits, otherwise a file in `directory`. `spare` supplies the buffer of small
    /// objects.
    pub(crate) fn of(
        budget: &'static Budget,
        size: u64,
        directory: &Path,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Result<Place, Fault> {
        if size < UNMETERED_BYTES {
            return Ok(Place::Memory(spare(), None));
        }
        match reserve(budget, size) {
            Some(reservation) => Ok(Place::Memory(Vec::new(), Some(reservation))),
            None => {
                let file =
                    tempfile::tempfile_in(directory).map_err(Fault::io("create a temporary file for an object"))?;
                Ok(Place::File(BufWriter::with_capacity(WRITE_BYTES, file)))
            }
        }
    }
}

/// Appends to the file of a [`Place`].
pub(crate) fn write(out: &mut BufWriter<File>, piece: &[u8]) -> Result<(), Fault> {
    out.write_all(piece).map_err(Fault::io("write an object to a file"))
}

/// Maps the file of a [`Place`] after all bytes have been written.
pub(crate) fn written(out: BufWriter<File>) -> Result<Content, Fault> {
    let file = out.into_inner().map_err(|error| Fault::io("write an object to a file")(error.into_error()))?;
    if file.metadata().map_err(Fault::io("read the size of an object's file"))?.len() == 0 {
        return Ok(Content::default());
    }
    // SAFETY: the file has no name, so nothing else writes to it.
    let map = unsafe { Mmap::map(&file) }.map_err(Fault::io("map an object's file"))?;
    Ok(Content::File(Arc::new(map)))
}
