//! Contents of the objects of a pack: entries inflated, and deltas applied to their bases.

use gix::odb::pack::data::entry::Header;

use super::content::{Content, Place, write, written};
use super::delta::Delta;
use super::error::Fault;
use super::inflate::{Inflater, check_size, inflate_streaming};
use super::resolve::Resolver;
use crate::memory;

/// Most buffers that a thread keeps for reuse.
const POOL_BUFFERS: usize = 16;
/// Most bytes of a buffer that is kept for reuse.
const POOL_BUFFER_BYTES: usize = 1 << 18;

/// Makes contents, in memory or in files, with the buffers of one thread.
pub(super) struct Unpacker<'a> {
    resolver: &'a Resolver<'a>,
    inflater: Inflater,
    pool: Vec<Vec<u8>>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(resolver: &'a Resolver<'a>) -> Result<Self, Fault> {
        let inflater = Inflater::new().map_err(|e| Fault::File(e.into()))?;
        Ok(Unpacker { resolver, inflater, pool: Vec::new() })
    }

    /// Inflates an entry that is stored whole.
    pub(super) fn whole(&mut self, entry: u32) -> Result<Content, Fault> {
        let (offset, bytes) = self.resolver.boundaries.slice(&self.resolver.pack, entry);
        let (header, data) = self.resolver.pack.entry(offset, bytes)?;
        self.check_limit(offset, "object", header.decompressed_size)?;
        self.inflated(offset, data, header.decompressed_size)
    }

    /// Inflates the delta in an entry, and returns it with the offset of the entry.
    pub(super) fn delta(&mut self, entry: u32) -> Result<(u64, Content), Fault> {
        let (offset, bytes) = self.resolver.boundaries.slice(&self.resolver.pack, entry);
        let (header, data) = self.resolver.pack.entry(offset, bytes)?;
        debug_assert!(matches!(header.header, Header::OfsDelta { .. } | Header::RefDelta { .. }));
        self.check_limit(offset, "delta", header.decompressed_size)?;
        Ok((offset, self.inflated(offset, data, header.decompressed_size)?))
    }

    fn inflated(&mut self, offset: u64, data: &[u8], size: u64) -> Result<Content, Fault> {
        check_size(data, size).map_err(|e| Fault::entry(offset, e))?;
        let bad = |reason| Fault::entry(offset, reason);
        let (content, taken) = match self.place(size)? {
            Place::Memory(mut out, reservation) => {
                let taken = self.inflater.inflate(data, size, &mut out).map_err(bad)?;
                (Content::Memory(out, reservation), taken)
            }
            Place::File(mut out) => {
                let taken = inflate_streaming(data, size, bad, |piece| write(&mut out, piece))?;
                (written(out)?, taken)
            }
        };
        check_tiling(offset, taken, data.len())?;
        Ok(content)
    }

    /// Applies a delta to the content of its base.
    pub(super) fn make(&mut self, offset: u64, delta: &Delta<'_>, base: &Content) -> Result<Content, Fault> {
        self.check_limit(offset, "result of the delta", delta.result_size)?;
        let bad = |reason| Fault::entry(offset, reason);
        let place = self.place(delta.result_size)?;
        match place {
            Place::Memory(mut out, reservation) => {
                delta.apply(base, &mut out).map_err(bad)?;
                Ok(Content::Memory(out, reservation))
            }
            Place::File(mut out) => {
                delta.apply_to(base, bad, |piece| write(&mut out, piece))?;
                written(out)
            }
        }
    }

    fn place(&mut self, size: u64) -> Result<Place, Fault> {
        Place::of(memory::budget(), size, self.resolver.directory, || self.pool.pop().unwrap_or_default())
    }

    /// Applies the delta in an entry to the content of its base.
    pub(super) fn apply(&mut self, entry: u32, base: &Content) -> Result<Content, Fault> {
        let (offset, delta) = self.delta(entry)?;
        let parsed = Delta::parse(&delta).map_err(|e| Fault::entry(offset, e))?;
        let made = self.make(offset, &parsed, base)?;
        self.recycle(delta);
        Ok(made)
    }

    pub(super) fn check_limit(&self, offset: u64, what: &'static str, size: u64) -> Result<(), Fault> {
        let limit = self.resolver.options.max_resolved_bytes;
        if size > limit { Err(Fault::TooLarge { offset, what, size, limit }) } else { Ok(()) }
    }

    /// Keeps the buffer of a content for the next one.
    pub(super) fn recycle(&mut self, content: Content) {
        let Content::Memory(buffer, None) = content else { return };
        if self.pool.len() < POOL_BUFFERS && buffer.capacity() <= POOL_BUFFER_BYTES {
            self.pool.push(buffer);
        }
    }
}

/// Checks that an entry ends where the next one begins.
pub(super) fn check_tiling(offset: u64, taken: usize, available: usize) -> Result<(), Fault> {
    if taken == available {
        return Ok(());
    }
    Err(Fault::entry(offset, format!("{} bytes between it and the next entry belong to neither", available - taken)))
}
