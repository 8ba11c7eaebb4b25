//! Copies parts from a file of another embedded store through a buffer that fits the processor's cache. The checksum of
//! a part is computed from the bytes written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::inner::Inner;
use crate::objects::parts;
use crate::objects::{Crc64, Crc64Hasher, ObjectError, Part, Upload};

/// Size in bytes of the copy buffer.
const BUFFER_BYTES: usize = 256 * 1024;

impl Inner {
    /// Stores a part from a file. Returns `None` if the source cannot be read.
    pub(super) fn put_part_from(
        &self,
        upload: &Upload,
        number: u32,
        size: u64,
        source: &Path,
    ) -> Result<Option<Part>, ObjectError> {
        let Ok(source) = File::open(source) else { return Ok(None) };
        self.store_part(upload, number, |data| copy(&source, data, parts::offset(number), size))
    }
}

/// Copies a range to the same offset of another file. Returns `None` if reading fails, and an error if writing fails.
fn copy(from: &File, to: &File, start: u64, size: u64) -> io::Result<Option<(u64, Crc64)>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut crc64 = Crc64Hasher::default();
    let end = start.saturating_add(size);
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let Some(piece) = buffer.get_mut(..wanted) else { return Ok(None) };
        if from.read_exact_at(piece, at).is_err() {
            return Ok(None);
        }
        crc64.update(piece);
        to.write_all_at(piece, at)?;
        at += wanted as u64;
    }
    Ok(Some((size, crc64.finish())))
}
