//! Pack reuse: copies entries from stored packs into the output, and recompresses only deltas whose base the client
//! cannot resolve.

use std::io::Write;

use gix::hash::oid;

use super::error::ServeError;
use super::graph::Graph;
use super::selection::Selection;
use crate::pack::{Fault, Location, Object, PackStream, RawEntry, Stored};

/// Number of objects between two checks for cancellation and calls of `tick`.
const TICK_EVERY: u32 = 256;
/// Entry type `OBJ_OFS_DELTA`: the base is named by its distance (gitformat-pack).
const OFS_DELTA: u8 = 6;

/// Kinds of deltas that the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeltaSupport {
    /// True for `ofs-delta`: bases may be named by distance.
    pub(crate) ofs_delta: bool,
    /// True for `thin-pack`: bases may be objects that the client has, outside the pack.
    pub(crate) thin: bool,
}

/// Number of objects by the way in which they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReuseStats {
    /// Copied in their compressed form, possibly with a new entry header.
    pub(crate) copied: u64,
    /// Resolved and recompressed, because the client lacks the delta base.
    pub(crate) recompressed: u64,
}

/// Writes the entries of a selection, pack by pack, in pack order.
///
/// Calls `tick` about every [`TICK_EVERY`] objects with the number of written entries and the output.
pub(crate) fn write_entries<W: Write>(
    graph: &mut Graph<'_>,
    selection: &Selection,
    deltas: DeltaSupport,
    stream: &mut PackStream<W>,
    tick: &mut dyn FnMut(u32, &mut W) -> Result<(), ServeError>,
) -> Result<ReuseStats, ServeError> {
    let stats = ReuseStats::default();
    let mut writer = EntryWriter { graph, selection, deltas, stream, runs: Vec::new(), stats };
    for pack in 0..writer.graph.packs().len() as u32 {
        writer.runs.clear();
        writer.pack(pack, tick)?;
    }
    Ok(writer.stats)
}

/// Range of consecutive entries of a pack that were copied without a gap: offsets map by a constant difference.
#[derive(Clone, Copy)]
struct Run {
    old_start: u64,
    old_end: u64,
    new_start: u64,
}

struct EntryWriter<'w, 'a, W> {
    graph: &'w mut Graph<'a>,
    selection: &'w Selection,
    deltas: DeltaSupport,
    stream: &'w mut PackStream<W>,
    /// Runs written from the current pack, ascending. A single run if the whole pack is sent.
    runs: Vec<Run>,
    stats: ReuseStats,
}

/// Stored entry to be written.
struct Source<'a> {
    location: Location,
    offset: u64,
    end: u64,
    /// Header and compressed data.
    raw: &'a [u8],
    entry: RawEntry<'a>,
}

impl Source<'_> {
    /// Compressed data without the entry header.
    fn compressed(&self) -> &[u8] {
        self.entry.data
    }
}

impl<'a, W: Write> EntryWriter<'_, 'a, W> {
    fn pack(
        &mut self,
        pack: u32,
        tick: &mut dyn FnMut(u32, &mut W) -> Result<(), ServeError>,
    ) -> Result<(), ServeError> {
        let packs = self.graph.packs();
        let blame = |fault| ServeError::Pack(packs.blame(pack, fault));
        let first = packs.slot(Location { pack, row: 0 });
        let order = packs.order(pack).map_err(blame)?;
        for (at, row) in order.iter().enumerate() {
            if !self.selection.send.contains(first + u64::from(*row)) {
                continue;
            }
            let source = self.source(Location { pack, row: *row }, order.get(at + 1).copied()).map_err(blame)?;
            self.entry(&source)?;
            let written = self.stream.written();
            if written.is_multiple_of(TICK_EVERY) {
                self.graph.check_cancelled()?;
                tick(written, self.stream.output())?;
            }
        }
        Ok(())
    }

    fn source(&mut self, location: Location, next: Option<u32>) -> Result<Source<'a>, Fault> {
        let packs = self.graph.packs();
        let finder = self.graph.finder();
        let offset = finder.offset(location)?;
        let pack_end = packs.end(location.pack)?;
        let end = match next {
            Some(row) => finder.offset(Location { row, ..location })?,
            None => pack_end,
        };
        let raw = packs.bytes(location.pack, offset..end)?;
        let mut entry = finder.entry(location.pack, offset)?;
        // `finder.entry` returns data up to the end of the pack: cut it where the next entry starts.
        let following = usize::try_from(pack_end.saturating_sub(end)).unwrap_or(usize::MAX);
        let bytes = entry.data.len().checked_sub(following).filter(|bytes| *bytes < raw.len());
        let bytes = bytes.ok_or_else(|| Fault::entry(offset, "it is cut off"))?;
        entry.data = &entry.data[..bytes];
        Ok(Source { location, offset, end, raw, entry })
    }

    fn entry(&mut self, source: &Source<'a>) -> Result<(), ServeError> {
        let new_start = self.stream.offset();
        match source.entry.stored {
            Stored::Whole(_) => {
                self.put(|stream| stream.entry_raw(source.raw))?;
                self.stats.copied += 1;
            }
            Stored::Delta(base) => self.delta(source, base)?,
        }
        let Source { offset, end, .. } = *source;
        // Extend the run if the entry starts at the same distance as the run. Its own length may differ (a new header):
        // only start offsets are mapped.
        match self.runs.last_mut() {
            Some(run) if run.old_end == offset && new_start - run.new_start == offset - run.old_start => {
                run.old_end = end;
            }
            _ => self.runs.push(Run { old_start: offset, old_end: end, new_start }),
        }
        Ok(())
    }

    fn delta(&mut self, source: &Source<'a>, base: u64) -> Result<(), ServeError> {
        let packs = self.graph.packs();
        let size = source.entry.size;
        let pack = source.location.pack;
        let written = self.written_at(base).filter(|_| self.deltas.ofs_delta);
        self.stats.copied += 1;
        if let Some(new_base) = written {
            let is_offset = source.raw.first().is_some_and(|first| (first >> 4) & 7 == OFS_DELTA);
            let same_distance = self.stream.offset() - new_base == source.offset.wrapping_sub(base);
            return self.put(|stream| {
                if is_offset && same_distance {
                    stream.entry_raw(source.raw)
                } else {
                    stream.delta_raw(new_base, size, source.compressed()).map(drop)
                }
            });
        }
        let row = packs.row_at(pack, base).map_err(|fault| packs.blame(pack, fault))?;
        let base = Location { pack, row };
        if let Some(id) = packs.id(base).filter(|id| self.client_has_base(base, id)) {
            return self.put(|stream| stream.delta_on(id, size, source.compressed()).map(drop));
        }
        self.stats.copied -= 1;
        self.stats.recompressed += 1;
        let Object { kind, data } = self.graph.finder().read(source.location)?;
        self.put(|stream| stream.whole(kind, &data).map(drop))
    }

    /// Returns the output offset of the entry at an offset of the current pack; `None` if it has not been written.
    fn written_at(&self, offset: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.old_start <= offset).checked_sub(1)?;
        let run = self.runs.get(at).filter(|run| offset < run.old_end)?;
        Some(run.new_start + (offset - run.old_start))
    }

    /// Returns true if the client can resolve a delta on the object: it is in this pack, or held and the pack is thin.
    fn client_has_base(&self, location: Location, id: &oid) -> bool {
        let Selection { send, held, .. } = self.selection;
        let slot = self.graph.packs().slot(location);
        let at_client = |slot: u64| send.contains(slot) || self.deltas.thin && held.contains(slot);
        at_client(slot) || self.graph.slot(id).is_some_and(at_client)
    }

    /// Writes to the stream, and attributes failures to the client: the stream has no other output.
    fn put(&mut self, write: impl FnOnce(&mut PackStream<W>) -> Result<(), Fault>) -> Result<(), ServeError> {
        write(self.stream).map_err(client_fault)
    }
}

/// Converts a fault of the output stream: I/O errors belong to the client connection.
pub(crate) fn client_fault(fault: Fault) -> ServeError {
    match fault {
        Fault::Io { source, .. } => ServeError::Client(source),
        fault => ServeError::Pack(fault.of(std::path::Path::new("to the client"))),
    }
}
