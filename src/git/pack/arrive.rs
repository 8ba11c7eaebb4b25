//! Reception of a pack as a stream: entry boundaries and the end of the pack are found while the pack is written to a
//! file. The sender need not delimit the pack, and none of its claims are trusted.

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, ErrorKind, Write};

use flate2::{Decompress, FlushDecompress, Status};
use gix::ObjectId;
use gix::hash::{Hasher, Kind as Format};
use gix::objs::Kind;
use gix::odb::pack::data::Entry;
use gix::odb::pack::data::entry::Header;

use super::delta::Delta;
use super::entries::HEADER_BYTES;
use super::error::Fault;
use super::inflate::Inflater;
use super::progress::CheckProgress;
use crate::links::for_each_link;

/// Bytes that are buffered before they are hashed and written.
const WINDOW_BYTES: usize = 256 << 10;
/// Most bytes of an entry before its compressed data: the size and the id of the base.
const MAX_ENTRY_HEADER_BYTES: usize = 10 + 32;
/// Most bytes of an entry that is inflated in one call, if all of its data is in the window.
const SMALL_BYTES: u64 = 128 << 10;
/// Bytes of the buffer into which larger entries are inflated.
const STREAM_BUFFER_BYTES: usize = 64 << 10;
/// Most bytes of the two sizes at the front of a delta.
const MAX_DELTA_SIZES_BYTES: usize = 20;
/// Most entries for which memory is reserved before they are received.
const RESERVED_ENTRIES: u32 = 1 << 16;

/// Most commits whose parents are remembered: packs begin with the newest commit, so the last commits of a pack build
/// on objects that the receiver holds.
const MAX_RECENT_COMMITS: usize = 64;
/// Most bytes of a commit whose parents are remembered.
const MAX_COMMIT_BYTES: u64 = 16 << 10;
/// Most parents that are remembered per commit.
const MAX_PARENTS: usize = 16;

/// Limits of a received pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalLimits {
    /// Most bytes of the whole pack.
    pub pack_bytes: u64,
    /// Most bytes of one object.
    pub object_bytes: u64,
}

/// Received pack: every entry inflates to its declared size and the trailer matches. The objects are not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Object format of the pack.
    pub format: Format,
    /// Number of entries.
    pub objects: u32,
    /// Size of the pack in bytes.
    pub bytes: u64,
    /// Checksum in the trailer.
    pub trailer: ObjectId,
    /// Offset of each entry, ascending, and the end of the last one.
    pub(crate) offsets: Vec<u64>,
    /// Bases of ref deltas, sorted and without repetition.
    pub bases: Vec<ObjectId>,
    /// Number of offset deltas.
    pub offset_deltas: u32,
    /// Parents of the last commits of the pack that are not among these commits: a guess, made before the pack is
    /// resolved, at the commits on which the pack builds. At most [`MAX_RECENT_COMMITS`] times [`MAX_PARENTS`].
    pub parents: Vec<ObjectId>,
    /// Declared bytes of all objects together; for a delta the declared size of its result.
    pub claimed: u64,
}

/// Reads a pack up to its end, not further, and writes it to `out`.
///
/// `progress` counts entries and bytes, and can cancel.
pub fn arrive(
    input: &mut dyn BufRead,
    format: Format,
    limits: ArrivalLimits,
    out: &mut dyn Write,
    progress: &CheckProgress,
) -> Result<Arrival, Fault> {
    let window =
        Window { input, out, hasher: gix::hash::hasher(format), buffer: Vec::new(), written: 0, at: 0, offset: 0 };
    let mut reader = Reader {
        window,
        format,
        limits,
        inflater: Inflater::new().map_err(|e| Fault::File(e.into()))?,
        stream: Decompress::new(true),
        scratch: Vec::new(),
        buffer: Vec::new(),
        recent: VecDeque::new(),
    };
    reader.read(progress)
}

struct Reader<'a> {
    window: Window<'a>,
    format: Format,
    limits: ArrivalLimits,
    inflater: Inflater,
    stream: Decompress,
    scratch: Vec<u8>,
    buffer: Vec<u8>,
    /// Last commits of the pack so far, with their parents.
    recent: VecDeque<(ObjectId, Vec<ObjectId>)>,
}

impl Reader<'_> {
    fn read(&mut self, progress: &CheckProgress) -> Result<Arrival, Fault> {
        use std::sync::atomic::Ordering::Relaxed;
        let objects = self.header()?;
        progress.objects_total.store(objects.into(), Relaxed);
        let mut arrival = Arrival {
            format: self.format,
            objects,
            bytes: 0,
            trailer: ObjectId::null(self.format),
            offsets: Vec::with_capacity(objects.min(RESERVED_ENTRIES) as usize + 1),
            bases: Vec::new(),
            offset_deltas: 0,
            parents: Vec::new(),
            claimed: 0,
        };
        for _ in 0..objects {
            progress.check()?;
            let offset = self.window.offset;
            arrival.offsets.push(offset);
            self.entry(offset, &mut arrival)?;
            progress.add(1, self.window.offset - offset);
        }
        arrival.offsets.push(self.window.offset);
        arrival.trailer = self.trailer()?;
        arrival.bytes = self.window.offset;
        arrival.bases.sort_unstable();
        arrival.bases.dedup();
        let recent: HashSet<ObjectId> = self.recent.iter().map(|(id, _)| *id).collect();
        arrival.parents = self.recent.drain(..).flat_map(|(_, parents)| parents).collect();
        arrival.parents.retain(|parent| !recent.contains(parent));
        arrival.parents.sort_unstable();
        arrival.parents.dedup();
        Ok(arrival)
    }

    /// Reads until at least `bytes` bytes are in the window or the input ends.
    fn fill(&mut self, bytes: usize) -> Result<(), Fault> {
        while self.window.rest().len() < bytes && self.window.more()? {
            self.check_limit()?;
        }
        Ok(())
    }

    fn check_limit(&self) -> Result<(), Fault> {
        let limit = self.limits.pack_bytes;
        let bytes = self.window.offset + self.window.rest().len() as u64;
        if bytes > limit { Err(Fault::PackTooLarge { limit }) } else { Ok(()) }
    }

    fn header(&mut self) -> Result<u32, Fault> {
        self.fill(HEADER_BYTES)?;
        let header = self.window.rest().get(..HEADER_BYTES).ok_or_else(cut_off)?;
        let word = |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        if !header.starts_with(b"PACK") {
            return Err(Fault::File("it does not begin with PACK".into()));
        }
        if !matches!(word(4), 2 | 3) {
            return Err(Fault::File(format!("version {} is not supported", word(4))));
        }
        let objects = word(8);
        // The two highest numbers are reserved as markers in tables of objects.
        if objects >= u32::MAX - 1 {
            return Err(Fault::File(format!("{objects} objects are too many for one pack")));
        }
        self.window.take(HEADER_BYTES)?;
        Ok(objects)
    }

    fn entry(&mut self, offset: u64, arrival: &mut Arrival) -> Result<(), Fault> {
        // The shortest entry and the trailer together have this many bytes, so the wait is never for bytes beyond the
        // pack.
        self.fill(MIN_ENTRY_BYTES + self.format.len_in_bytes())?;
        let mut parsed = self.parse(offset)?;
        if parsed.is_none() {
            self.fill(MAX_ENTRY_HEADER_BYTES)?;
            parsed = self.parse(offset)?;
        }
        let entry = parsed.ok_or_else(cut_off)?;
        match entry.header {
            Header::RefDelta { base_id } => arrival.bases.push(base_id),
            Header::OfsDelta { .. } => arrival.offset_deltas += 1,
            _ => {}
        }
        let size = entry.decompressed_size;
        if size > self.limits.object_bytes {
            let what = if entry.header.as_kind() == Some(Kind::Blob) { "file" } else { "object" };
            return Err(Fault::TooLarge { offset, what, size, limit: self.limits.object_bytes });
        }
        self.window.take(entry.header_size())?;
        match entry.header.as_kind() {
            None => {
                self.inflate(offset, size, MAX_DELTA_SIZES_BYTES)?;
                arrival.claimed = arrival.claimed.saturating_add(self.result_size(offset)?);
            }
            Some(kind) => {
                let is_commit = kind == Kind::Commit && size <= MAX_COMMIT_BYTES;
                self.inflate(offset, size, if is_commit { MAX_COMMIT_BYTES as usize } else { 0 })?;
                if is_commit {
                    self.remember_commit();
                }
                arrival.claimed = arrival.claimed.saturating_add(size);
            }
        }
        Ok(())
    }

    /// Declared result size of the delta in `scratch`.
    fn result_size(&self, offset: u64) -> Result<u64, Fault> {
        let delta = Delta::parse(&self.scratch).map_err(|reason| Fault::entry(offset, reason))?;
        let size = delta.result_size;
        let limit = self.limits.object_bytes;
        if size > limit {
            return Err(Fault::TooLarge { offset, what: "result of the delta", size, limit });
        }
        Ok(size)
    }

    /// Remembers the parents of the commit in `scratch`.
    fn remember_commit(&mut self) {
        let data = &self.scratch;
        let id = gix::objs::compute_hash(self.format, Kind::Commit, data);
        let mut parents = Vec::new();
        // The check of the pack reports unparsable commits.
        let _ = for_each_link(Kind::Commit, data, self.format, |id, kind| {
            if kind == Kind::Commit && parents.len() < MAX_PARENTS {
                parents.push(id.to_owned());
            }
        });
        if self.recent.len() == MAX_RECENT_COMMITS {
            self.recent.pop_front();
        }
        self.recent.extend(id.ok().map(|id| (id, parents)));
    }

    /// Parses the header of an entry; `None` if the window is too short.
    fn parse(&self, offset: u64) -> Result<Option<Entry>, Fault> {
        match Entry::from_bytes(self.window.rest(), offset, self.format) {
            Ok(entry) => Ok(Some(entry)),
            Err(_) if self.window.rest().len() < MAX_ENTRY_HEADER_BYTES => Ok(None),
            Err(error) => Err(Fault::entry(offset, error.to_string())),
        }
    }

    /// Consumes the compressed data of an entry. Afterwards `scratch` holds at least the first `keep` inflated bytes,
    /// or all if there are fewer.
    fn inflate(&mut self, offset: u64, size: u64, keep: usize) -> Result<(), Fault> {
        if size <= SMALL_BYTES
            && let Ok(taken) = self.inflater.inflate(self.window.rest(), size, &mut self.scratch)
        {
            return self.window.take(taken);
        }
        // Too large, incomplete in the window, or damaged: only the streaming decoder distinguishes these cases.
        self.stream.reset(true);
        self.buffer.resize(STREAM_BUFFER_BYTES, 0);
        self.scratch.clear();
        loop {
            let in_before = self.stream.total_in();
            let out_before = self.stream.total_out();
            let status = self.stream.decompress(self.window.rest(), &mut self.buffer, FlushDecompress::None);
            let status = status.map_err(|_| Fault::entry(offset, "its compressed data is damaged"))?;
            let taken = self.stream.total_in() - in_before;
            let made = self.stream.total_out() - out_before;
            self.window.take(taken as usize)?;
            if self.stream.total_out() > size {
                return Err(Fault::entry(offset, "it is longer than it says"));
            }
            if self.scratch.len() < keep {
                self.scratch.extend_from_slice(&self.buffer[..made as usize]);
            }
            match status {
                Status::StreamEnd if self.stream.total_out() == size => return Ok(()),
                Status::StreamEnd => return Err(Fault::entry(offset, "it is shorter than it says")),
                _ if made > 0 || (taken > 0 && !self.window.rest().is_empty()) => {}
                _ => {
                    if !self.window.more()? {
                        return Err(cut_off());
                    }
                    self.check_limit()?;
                }
            }
        }
    }

    fn trailer(&mut self) -> Result<ObjectId, Fault> {
        self.window.write_out()?;
        let hasher = std::mem::replace(&mut self.window.hasher, gix::hash::hasher(self.format));
        let computed = hasher.try_finalize().map_err(|_| Fault::Collision { offset: 0 })?;
        let width = self.format.len_in_bytes();
        self.fill(width)?;
        let stored = self.window.rest().get(..width).and_then(|id| ObjectId::try_from(id).ok()).ok_or_else(cut_off)?;
        if stored != computed {
            return Err(Fault::Checksum { stored, computed });
        }
        self.window.take(width)?;
        self.window.write_out()?;
        match self.window.rest().len() {
            0 => Ok(stored),
            bytes => Err(Fault::File(format!("at least {bytes} bytes follow its end"))),
        }
    }
}

/// Bytes of the shortest entry: one byte of header and an empty zlib stream.
const MIN_ENTRY_BYTES: usize = 9;

fn cut_off() -> Fault {
    Fault::File("it is cut off".into())
}

/// Buffer of bytes that have been read but not written.
struct Window<'a> {
    input: &'a mut dyn BufRead,
    out: &'a mut dyn Write,
    hasher: Hasher,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been written.
    written: usize,
    /// Bytes of the buffer that have been consumed.
    at: usize,
    /// Bytes of the pack that have been consumed.
    offset: u64,
}

impl Window<'_> {
    /// Bytes that have been read but not consumed.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        debug_assert!(bytes <= self.rest().len(), "only bytes that have been read are consumed");
        self.at += bytes;
        self.offset += bytes as u64;
        if self.at >= WINDOW_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Hashes and writes the consumed bytes.
    fn write_out(&mut self) -> Result<(), Fault> {
        let done = &self.buffer[self.written..self.at];
        self.hasher.update(done);
        self.out.write_all(done).map_err(Fault::io("write it"))?;
        self.buffer.drain(..self.at);
        (self.written, self.at) = (0, 0);
        Ok(())
    }

    /// Waits for more; `false` at the end of the input.
    fn more(&mut self) -> Result<bool, Fault> {
        loop {
            match self.input.fill_buf() {
                Ok([]) => return Ok(false),
                Ok(bytes) => {
                    let count = bytes.len().min(WINDOW_BYTES);
                    self.buffer.extend_from_slice(&bytes[..count]);
                    self.input.consume(count);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::io("receive it")(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
