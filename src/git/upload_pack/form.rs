//! In which form objects are sent: as they are stored, wherever the client can read that.

use std::io::Write;

use gix::hash::oid;

use super::error::ServeError;
use super::graph::Graph;
use super::selection::Selection;
use crate::pack::{Fault, Location, Object, PackStream, RawEntry, Stored};

/// Objects between two looks at whether to stop and what to tell.
const TICK_EVERY: u32 = 256;
/// The type of an entry whose base is named by distance (gitformat-pack).
const OFS_DELTA: u8 = 6;

/// What the client can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Deltas that name their base by distance.
    pub(crate) ofs_delta: bool,
    /// Deltas on objects that the client has.
    pub(crate) thin: bool,
}

/// How many objects were sent how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reuse {
    /// As they are stored, perhaps with another header.
    pub(crate) copied: u64,
    /// Resolved and compressed anew, since their base is not at the client.
    pub(crate) made: u64,
}

/// Writes the entries of a selection, pack by pack in the order in which they are stored.
///
/// `tick` is called now and then with how many have been written and with the output.
pub(crate) fn write_entries<W: Write>(
    graph: &mut Graph<'_>,
    selection: &Selection,
    form: Form,
    stream: &mut PackStream<W>,
    tick: &mut dyn FnMut(u32, &mut W) -> Result<(), ServeError>,
) -> Result<Reuse, ServeError> {
    let mut writing = Writing { graph, selection, form, stream, runs: Vec::new(), reuse: Reuse::default() };
    for pack in 0..writing.graph.packs().len() as u32 {
        writing.runs.clear();
        writing.pack(pack, tick)?;
    }
    Ok(writing.reuse)
}

/// Entries that follow each other in their pack as in the output.
#[derive(Clone, Copy)]
struct Run {
    old_start: u64,
    old_end: u64,
    new_start: u64,
}

struct Writing<'w, 'a, W> {
    graph: &'w mut Graph<'a>,
    selection: &'w Selection,
    form: Form,
    stream: &'w mut PackStream<W>,
    /// What has been written of this pack, ascending. One run if all of it is sent.
    runs: Vec<Run>,
    reuse: Reuse,
}

/// An entry to be written.
struct Source<'a> {
    location: Location,
    offset: u64,
    end: u64,
    /// All its bytes.
    raw: &'a [u8],
    entry: RawEntry<'a>,
}

impl Source<'_> {
    /// Its compressed data alone.
    fn compressed(&self) -> &[u8] {
        self.entry.data
    }
}

impl<'a, W: Write> Writing<'_, 'a, W> {
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
        // Behind its header, an entry was read up to the end of the pack.
        let following = usize::try_from(pack_end.saturating_sub(end)).unwrap_or(usize::MAX);
        let bytes = entry.data.len().checked_sub(following).filter(|bytes| *bytes < raw.len());
        let bytes = bytes.ok_or_else(|| Fault::entry(offset, "it is cut off"))?;
        entry.data = entry.data.get(..bytes).unwrap_or_default();
        Ok(Source { location, offset, end, raw, entry })
    }

    fn entry(&mut self, source: &Source<'a>) -> Result<(), ServeError> {
        let new_start = self.stream.offset();
        match source.entry.stored {
            Stored::Whole(_) => {
                self.put(|stream| stream.entry_raw(source.raw))?;
                self.reuse.copied += 1;
            }
            Stored::Delta(base) => self.delta(source, base)?,
        }
        let Source { offset, end, .. } = *source;
        // A run goes on where the distance to the pack stays the same; that is said of beginnings only.
        match self.runs.last_mut() {
            Some(run) if run.old_end == offset && new_start - run.new_start == offset - run.old_start => {
                run.old_end = end;
            }
            _ => self.runs.push(Run { old_start: offset, old_end: end, new_start }),
        }
        Ok(())
    }

    fn delta(&mut self, source: &Source<'a>, base: u64) -> Result<(), ServeError> {
        let (packs, size) = (self.graph.packs(), source.entry.size);
        let pack = source.location.pack;
        let written = self.written_at(base).filter(|_| self.form.ofs_delta);
        self.reuse.copied += 1;
        if let Some(new_base) = written {
            let is_offset = source.raw.first().is_some_and(|first| (first >> 4) & 7 == OFS_DELTA);
            let same_distance = self.stream.offset() - new_base == source.offset.wrapping_sub(base);
            return self.put(|stream| match is_offset && same_distance {
                true => stream.entry_raw(source.raw),
                false => stream.delta_raw(new_base, size, source.compressed()).map(drop),
            });
        }
        let row = packs.row_at(pack, base).map_err(|fault| packs.blame(pack, fault))?;
        let base = Location { pack, row };
        if let Some(id) = packs.id(base).filter(|id| self.is_at_client(base, id)) {
            return self.put(|stream| stream.delta_on(id, size, source.compressed()).map(drop));
        }
        self.reuse.copied -= 1;
        self.reuse.made += 1;
        let Object { kind, data } = self.graph.finder().read(source.location)?;
        self.put(|stream| stream.whole(kind, &data).map(drop))
    }

    /// Where the entry at an offset of this pack has been written.
    fn written_at(&self, offset: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.old_start <= offset).checked_sub(1)?;
        let run = self.runs.get(at).filter(|run| offset < run.old_end)?;
        Some(run.new_start + (offset - run.old_start))
    }

    /// Whether the client has an object, or is sent it.
    fn is_at_client(&self, location: Location, id: &oid) -> bool {
        let Selection { send, held, .. } = self.selection;
        let slot = self.graph.packs().slot(location);
        let at_client = |slot: u64| send.contains(slot) || self.form.thin && held.contains(slot);
        at_client(slot) || self.graph.slot(id).is_some_and(at_client)
    }

    /// The stream writes to the client only, so what goes wrong with it is the client's.
    fn put(&mut self, write: impl FnOnce(&mut PackStream<W>) -> Result<(), Fault>) -> Result<(), ServeError> {
        write(self.stream).map_err(client_fault)
    }
}

/// What a fault of a stream to the client means.
pub(crate) fn client_fault(fault: Fault) -> ServeError {
    match fault {
        Fault::Io { source, .. } => ServeError::Client(source),
        fault => ServeError::Pack(fault.of(std::path::Path::new("to the client"))),
    }
}
