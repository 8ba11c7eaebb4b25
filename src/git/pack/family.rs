//! Worker thread that resolves families; see [`super::resolve`].

use std::collections::VecDeque;

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use super::content::Content;
use super::delta::Delta;
use super::error::Fault;
use super::inflate::{check_size, inflate_streaming};
use super::limits::{MAX_DELTA_DEPTH, STREAMED_BLOB_BYTES};
use super::link_sink::LinkSink;
use super::resolve::{Children, HaltOnDrop, Job, Resolver};
use super::unpack::{Unpacker, check_tiling};
use crate::fsck::Checker;
use crate::lfs::Pointers;
use crate::links::{for_each_link, for_each_new_tree_link};

/// Most unparsable objects that are listed; further ones are counted.
pub const MAX_LISTED_UNPARSABLE: usize = 1000;

/// Findings of one thread.
pub(crate) struct Findings<'a> {
    pub(crate) sink: LinkSink<'a>,
    /// Objects whose links cannot be parsed; at most [`MAX_LISTED_UNPARSABLE`].
    pub(crate) unparsable: Vec<ObjectId>,
    pub(crate) unparsable_count: u64,
    /// Results of the fsck checks, if requested.
    pub(crate) checker: Option<Checker<'a>>,
    /// LFS pointers among the blobs.
    pub(crate) pointers: Pointers,
}

/// Resolved object with unapplied deltas on it.
struct Frame {
    entry: u32,
    /// Content; empty unless `held`: released for good, or dropped to be resolved again.
    data: Content,
    held: bool,
    /// True if all links of the object could be parsed.
    parsed: bool,
    children: Children,
}

pub(crate) struct Worker<'a> {
    resolver: &'a Resolver<'a>,
    findings: Findings<'a>,
    unpacker: Unpacker<'a>,
    /// Length of the delta chain of the lowest object on the stack.
    depth: usize,
    /// Delta chain from the family's root (or the base of a [`Job`]) to the object whose deltas are being applied.
    stack: Vec<Frame>,
    /// Positions in `stack` of the frames that hold data, ascending.
    held: VecDeque<usize>,
    held_bytes: u64,
    held_limit: u64,
    /// Objects that are resolved but not yet added to the progress.
    objects: u64,
    bytes: u64,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(resolver: &'a Resolver<'a>, sink: LinkSink<'a>) -> Result<Self, Fault> {
        Ok(Worker {
            resolver,
            findings: Findings {
                sink,
                unparsable: Vec::new(),
                unparsable_count: 0,
                checker: resolver.rules.map(|rules| Checker::new(rules, resolver.pack.format)),
                pointers: Pointers::default(),
            },
            unpacker: Unpacker::new(resolver)?,
            depth: 0,
            stack: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            held_limit: resolver.options.max_held_bytes / resolver.threads as u64,
            objects: 0,
            bytes: 0,
        })
    }

    /// Works until no work is left for any thread.
    pub(crate) fn run(mut self) -> Result<Findings<'a>, Fault> {
        let _guard = HaltOnDrop(self.resolver);
        let result = self.work();
        if result.is_err() {
            self.resolver.halt();
        }
        result.map(|()| self.findings)
    }

    fn work(&mut self) -> Result<(), Fault> {
        while let Some(chunk) = self.resolver.next_chunk() {
            self.resolver.check()?;
            for entry in chunk {
                self.family(entry)?;
            }
            self.report();
        }
        while let Some(job) = self.resolver.next_job() {
            self.held_bytes = job.data.len() as u64;
            self.depth = job.depth;
            self.stack.push(Frame {
                entry: job.entry,
                data: job.data,
                held: true,
                parsed: job.parsed,
                children: job.children,
            });
            self.descend(job.kind, true)?;
            self.report();
        }
        Ok(())
    }

    fn report(&mut self) {
        self.resolver.progress.add(std::mem::take(&mut self.objects), std::mem::take(&mut self.bytes));
    }

    /// Resolves the family with the root `entry`; does nothing if `entry` is a delta.
    fn family(&mut self, entry: u32) -> Result<(), Fault> {
        let (offset, bytes) = self.resolver.boundaries.slice(&self.resolver.pack, entry);
        let (header, data) = self.resolver.pack.entry(offset, bytes)?;
        let Some(kind) = header.header.as_kind() else { return Ok(()) };
        let size = header.decompressed_size;
        self.depth = 0;
        self.resolver.claim(entry, kind);
        self.check_walked(offset, kind, size)?;
        if kind == Kind::Blob && size > STREAMED_BLOB_BYTES && self.resolver.families.children(entry).is_empty() {
            let id = self.hash_streaming(offset, data, size)?;
            self.record(entry, &id)?;
            let by_id = self.resolver.families.children_by_id(&self.resolver.pack, self.resolver.boundaries, &id);
            if by_id.is_empty() {
                return Ok(());
            }
            let data = self.unpacker.whole(entry)?;
            self.push(Frame { entry, data, held: true, parsed: true, children: Children { by_id, by_offset: 0..0 } });
        } else {
            let data = self.unpacker.whole(entry)?;
            self.take(entry, kind, data, None)?;
        }
        self.descend(kind, false)
    }

    /// Applies all deltas on the frames of the stack. The lowest frame is `pinned` if it cannot be resolved again
    /// because its own base is not on the stack.
    fn descend(&mut self, kind: Kind, pinned: bool) -> Result<(), Fault> {
        while let Some(top) = self.stack.last_mut() {
            let Some(child) = top.children.next(self.resolver.families) else {
                self.release(self.stack.len() - 1);
                self.stack.pop();
                continue;
            };
            self.resolver.check()?;
            if !self.resolver.claim(child, kind) {
                continue; // the base is in the pack twice, which is reported at the end
            }
            let position = self.stack.len() - 1;
            self.ensure_held(position)?;
            self.check_depth(child)?;
            self.child(child, kind, position)?;
            if self.stack[position].children.is_empty() && !(pinned && position == 0) {
                self.release(position);
            }
            self.limit_held();
            if self.resolver.wants_jobs() {
                self.share(kind, pinned);
            }
        }
        self.held.clear();
        self.held_bytes = 0;
        Ok(())
    }

    /// Resolves a delta on the frame at `base`. A large blob that is no base itself is hashed as a stream.
    fn child(&mut self, entry: u32, kind: Kind, base: usize) -> Result<(), Fault> {
        let (offset, delta) = self.unpacker.delta(entry)?;
        let parsed = Delta::parse(&delta).map_err(|e| Fault::entry(offset, e))?;
        let size = parsed.result_size;
        self.check_walked(offset, kind, size)?;
        let families = self.resolver.families;
        if kind != Kind::Blob || size <= STREAMED_BLOB_BYTES || !families.children(entry).is_empty() {
            let data = self.unpacker.make(offset, &parsed, &self.stack[base].data)?;
            self.unpacker.recycle(delta);
            return self.take(entry, kind, data, Some(base));
        }
        self.unpacker.check_limit(offset, "result of the delta", size)?;
        self.resolver.count(size)?;
        let mut hasher = self.hasher(kind, size);
        parsed.apply_to(
            &self.stack[base].data,
            |e| Fault::entry(offset, e),
            |piece| {
                hasher.update(piece);
                self.resolver.check()
            },
        )?;
        let id = hasher.try_finalize().map_err(|_| Fault::Collision { offset })?;
        self.record(entry, &id)?;
        let by_id = families.children_by_id(&self.resolver.pack, self.resolver.boundaries, &id);
        if !by_id.is_empty() {
            let data = self.unpacker.make(offset, &parsed, &self.stack[base].data)?;
            self.push(Frame { entry, data, held: true, parsed: true, children: Children { by_id, by_offset: 0..0 } });
        }
        Ok(())
    }

    fn check_depth(&self, entry: u32) -> Result<(), Fault> {
        let offset = self.resolver.boundaries.offsets[entry as usize];
        if self.depth + self.stack.len() > MAX_DELTA_DEPTH {
            return Err(Fault::TooDeep { offset, limit: MAX_DELTA_DEPTH });
        }
        Ok(())
    }

    /// Hashes an object, finds its links, and keeps it if deltas build on it. `base` is the frame of its delta base.
    fn take(&mut self, entry: u32, kind: Kind, data: Content, base: Option<usize>) -> Result<(), Fault> {
        let offset = self.resolver.boundaries.offsets[entry as usize];
        let mut hasher = self.hasher(kind, data.len() as u64);
        hasher.update(&data);
        let id = hasher.try_finalize().map_err(|_| Fault::Collision { offset })?;
        self.record(entry, &id)?;
        self.resolver.count(data.len() as u64)?;
        if let Some(checker) = &mut self.findings.checker {
            checker.object(id, kind, &data);
        }
        if kind == Kind::Blob {
            self.findings.pointers.record(&id, &data);
        }
        let parsed = self.find_links(entry, kind, &id, &data, base)?;
        let families = self.resolver.families;
        let by_id = families.children_by_id(&self.resolver.pack, self.resolver.boundaries, &id);
        let children = Children { by_id, by_offset: families.children(entry) };
        if children.is_empty() {
            self.unpacker.recycle(data);
        } else {
            self.push(Frame { entry, data, held: true, parsed, children });
        }
        Ok(())
    }

    /// Passes the links of an object to the sink. Returns true if all links could be parsed.
    fn find_links(
        &mut self,
        entry: u32,
        kind: Kind,
        id: &ObjectId,
        data: &[u8],
        base: Option<usize>,
    ) -> Result<bool, Fault> {
        let mut fault = Ok(());
        let sink = &mut self.findings.sink;
        let visit = |id: &oid, linked| {
            if fault.is_ok() {
                fault = sink.take(id, linked);
            }
            if fault.is_ok() && (kind, linked) == (Kind::Tree, Kind::Tree) {
                fault = sink.nest(entry, id);
            }
        };
        let format = self.resolver.pack.format;
        let base = base.and_then(|base| self.stack.get(base)).filter(|base| base.held && base.parsed);
        let parsed = match (kind, base) {
            (Kind::Blob, _) => return Ok(true),
            (Kind::Tree, Some(base)) => for_each_new_tree_link(&base.data, data, format, visit),
            _ => for_each_link(kind, data, format, visit),
        };
        if parsed.is_err() {
            self.findings.unparsable_count += 1;
            if self.findings.unparsable.len() < MAX_LISTED_UNPARSABLE {
                self.findings.unparsable.push(*id);
            }
        }
        fault.map(|()| parsed.is_ok())
    }

    fn record(&mut self, entry: u32, id: &ObjectId) -> Result<(), Fault> {
        self.objects += 1;
        self.bytes += self.resolver.boundaries.slice(&self.resolver.pack, entry).1.len() as u64;
        self.resolver.record(entry, id)
    }

    fn hasher(&self, kind: Kind, size: u64) -> gix::hash::Hasher {
        let mut hasher = gix::hash::hasher(self.resolver.pack.format);
        hasher.update(&gix::objs::encode::loose_header(kind, size));
        hasher
    }

    fn hash_streaming(&self, offset: u64, data: &[u8], size: u64) -> Result<ObjectId, Fault> {
        check_size(data, size).map_err(|e| Fault::entry(offset, e))?;
        self.resolver.count(size)?;
        let mut hasher = self.hasher(Kind::Blob, size);
        let bad = |reason| Fault::entry(offset, reason);
        let taken = inflate_streaming(data, size, bad, |piece| {
            hasher.update(piece);
            self.resolver.check()
        })?;
        check_tiling(offset, taken, data.len())?;
        hasher.try_finalize().map_err(|_| Fault::Collision { offset })
    }

    /// Checks the separate limit of commits, trees and tags, which walks over histories read as a whole.
    fn check_walked(&self, offset: u64, kind: Kind, size: u64) -> Result<(), Fault> {
        let limit = self.resolver.options.max_walked_bytes;
        let what = match kind {
            Kind::Blob => return Ok(()),
            Kind::Commit => "commit",
            Kind::Tree => "tree",
            Kind::Tag => "tag",
        };
        if size > limit { Err(Fault::TooLarge { offset, what, size, limit }) } else { Ok(()) }
    }

    fn push(&mut self, frame: Frame) {
        self.held.push_back(self.stack.len());
        self.held_bytes += frame.data.len() as u64;
        self.stack.push(frame);
    }

    /// Frees the data of a frame that is the topmost or right below it.
    fn release(&mut self, position: usize) {
        let Some(frame) = self.stack.get_mut(position).filter(|frame| frame.held) else { return };
        let data = std::mem::take(&mut frame.data);
        frame.held = false;
        self.held_bytes = self.held_bytes.saturating_sub(data.len() as u64);
        if let Some(at) = self.held.iter().rposition(|held| *held == position) {
            self.held.remove(at);
        }
        self.unpacker.recycle(data);
    }

    /// Drops the data of the frames farthest from the top until the limit holds.
    fn limit_held(&mut self) {
        while self.held_bytes > self.held_limit && self.held.len() > 1 {
            let Some(frame) = self.held.pop_front().and_then(|position| self.stack.get_mut(position)) else { break };
            frame.held = false;
            self.held_bytes = self.held_bytes.saturating_sub(frame.data.len() as u64);
            frame.data = Content::default();
        }
    }

    /// Resolves the topmost frame again if its data was dropped.
    fn ensure_held(&mut self, top: usize) -> Result<(), Fault> {
        if self.stack[top].held {
            return Ok(());
        }
        // The nearest frame below that holds data; a pinned frame always does.
        let mut base = self.held.back().copied().unwrap_or(0);
        let mut borrowed = None;
        if !self.stack[base].held {
            base = 0;
            self.stack[0].data = self.unpacker.whole(self.stack[0].entry)?;
            borrowed = Some(0);
        }
        for position in base + 1..=top {
            let data = self.unpacker.apply(self.stack[position].entry, &self.stack[position - 1].data)?;
            if let Some(below) = borrowed.replace(position) {
                let done = std::mem::take(&mut self.stack[below].data);
                self.unpacker.recycle(done);
            }
            self.stack[position].data = data;
        }
        self.stack[top].held = true;
        self.held_bytes += self.stack[top].data.len() as u64;
        self.held.push_back(top);
        Ok(())
    }

    /// Hands about half of the deltas on the lowest object with unapplied deltas to a waiting thread.
    fn share(&mut self, kind: Kind, pinned: bool) {
        let lowest = if pinned { Some(0) } else { None };
        let Some(frame) = lowest.into_iter().chain(self.held.iter().copied()).find_map(|position| {
            self.stack.get(position).filter(|f| f.held && !f.children.is_empty()).map(|_| position)
        }) else {
            return;
        };
        let depth = self.depth + frame;
        let Some(frame) = self.stack.get_mut(frame) else { return };
        self.resolver.offer(|| {
            let data = frame.data.share()?;
            let children = frame.children.split();
            Some(Job { data, depth, entry: frame.entry, kind, parsed: frame.parsed, children })
        });
    }
}
