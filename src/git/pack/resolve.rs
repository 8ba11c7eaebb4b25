//! Resolving every object of a pack: inflate, apply deltas, hash, find links; several threads at once.
//!
//! A family is a whole object and all deltas that build on it. Threads take families in the order of the
//! pack and walk each depth first; a base is freed when its last delta has been applied. When there are no
//! families left, busy threads hand over parts of theirs.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use super::content::Content;
use super::entries::{Boundaries, Families, PackData};
use super::error::Fault;
use super::index::Index;
use super::link_sink::IdTable;
use super::{CheckOptions, CheckProgress};
use crate::fsck::Rules;

/// Entries that a thread looks through for families at a time.
const CHUNK_ENTRIES: u32 = 64;

/// Where computed ids and checksums of entries go.
pub(crate) enum Ids<'a> {
    /// They are compared with the index that came with the pack.
    Compare(&'a Index),
    /// They are kept.
    Keep { ids: IdTable, crcs: Vec<AtomicU32> },
}

/// Everything that the threads share.
pub(crate) struct Resolver<'a> {
    pub(crate) pack: PackData<'a>,
    pub(crate) boundaries: &'a Boundaries,
    pub(crate) families: &'a Families,
    pub(crate) ids: Ids<'a>,
    pub(crate) options: &'a CheckOptions,
    pub(crate) progress: &'a CheckProgress,
    /// Where large objects go for which there is no memory.
    pub(crate) directory: &'a Path,
    /// By which objects are checked as `git fsck` does, if they are.
    pub(crate) rules: Option<&'a Rules>,
    /// Bytes of all objects resolved so far.
    total: AtomicU64,
    /// The kind of each entry's object, as [`crate::links::kind_code`]; 0 while it is not resolved.
    kinds: Vec<AtomicU8>,
    next: AtomicU32,
    /// How many threads wait for work.
    idle: AtomicUsize,
    pub(crate) threads: usize,
    stop: AtomicBool,
    jobs: Mutex<Vec<Job>>,
    wake: Condvar,
}

/// Part of a family that one thread hands to another.
pub(crate) struct Job {
    /// The base, resolved.
    pub(crate) data: Content,
    /// How many deltas the base is made by, one on the other.
    pub(crate) depth: usize,
    pub(crate) entry: u32,
    pub(crate) kind: Kind,
    /// Whether all its links could be told.
    pub(crate) parsed: bool,
    pub(crate) children: Children,
}

/// Deltas on one base that have not been applied yet, as positions in [`Families`].
#[derive(Clone, Default)]
pub(crate) struct Children {
    pub(crate) by_id: Range<u32>,
    pub(crate) by_offset: Range<u32>,
}

impl Children {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_offset.is_empty()
    }

    pub(crate) fn next(&mut self, families: &Families) -> Option<u32> {
        if let Some(position) = self.by_id.next() {
            return Some(families.child_by_id(position));
        }
        self.by_offset.next().map(|position| families.child(position))
    }

    /// Splits off about half, and at least one if there is any: those with the most descendants.
    pub(crate) fn split(&mut self) -> Children {
        fn back_half(range: &mut Range<u32>) -> Range<u32> {
            let middle = range.start + (range.end - range.start) / 2;
            let half = middle..range.end;
            range.end = middle;
            half
        }
        Children { by_offset: back_half(&mut self.by_offset), by_id: back_half(&mut self.by_id) }
    }
}

impl<'a> Resolver<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        pack: PackData<'a>,
        boundaries: &'a Boundaries,
        families: &'a Families,
        ids: Ids<'a>,
        options: &'a CheckOptions,
        progress: &'a CheckProgress,
        rules: Option<&'a Rules>,
        directory: &'a Path,
    ) -> Self {
        Resolver {
            pack,
            boundaries,
            families,
            ids,
            options,
            progress,
            rules,
            directory,
            total: AtomicU64::new(0),
            kinds: (0..boundaries.len()).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicU32::new(0),
            idle: AtomicUsize::new(0),
            threads: options.thread_count(pack.objects),
            stop: AtomicBool::new(false),
            jobs: Mutex::new(Vec::new()),
            wake: Condvar::new(),
        }
    }

    /// The next entries to look through.
    pub(crate) fn next_chunk(&self) -> Option<Range<u32>> {
        let count = self.boundaries.len();
        let claim = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < count).then(|| next + CHUNK_ENTRIES.min(count - next))
        });
        claim.ok().map(|start| start..start + CHUNK_ENTRIES.min(count - start))
    }

    /// Waits for a part of another thread's family; `None` when all work is done.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut jobs = self.lock();
        let waiting = self.idle.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting == self.threads && jobs.is_empty() {
            self.stop.store(true, Ordering::Relaxed);
            self.wake.notify_all();
        }
        loop {
            if let Some(job) = jobs.pop() {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                return Some(job);
            }
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            jobs = self.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether some thread waits for work. A hint; [`Resolver::offer`] makes sure.
    pub(crate) fn wants_jobs(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Hands over what `split` returns, if some thread still waits for it.
    pub(crate) fn offer(&self, split: impl FnOnce() -> Option<Job>) {
        let mut jobs = self.lock();
        if jobs.len() < self.idle.load(Ordering::Relaxed)
            && let Some(job) = split()
        {
            jobs.push(job);
            self.wake.notify_one();
        }
    }

    /// Ends the work of all threads: it is done, or has failed.
    pub(crate) fn halt(&self) {
        let _no_one_between_looking_and_waiting = self.lock();
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// Whether to go on.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) { Err(Fault::Cancelled) } else { self.progress.check() }
    }

    /// Counts the bytes of a resolved object.
    pub(crate) fn count(&self, bytes: u64) -> Result<(), Fault> {
        let limit = self.options.max_total_bytes;
        if limit != u64::MAX && self.total.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > limit {
            return Err(Fault::Expands { limit });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an entry for the calling thread; `false` if it has been resolved already.
    pub(crate) fn claim(&self, entry: u32, kind: Kind) -> bool {
        self.kinds[entry as usize].swap(crate::links::kind_code(kind), Ordering::Relaxed) == 0
    }

    /// The kind of an entry's object, as a code; 0 if it could not be resolved.
    pub(crate) fn kind_code(&self, entry: u32) -> u8 {
        self.kinds[entry as usize].load(Ordering::Relaxed)
    }

    /// Takes the id that was computed for an entry.
    pub(crate) fn record(&self, entry: u32, id: &oid) -> Result<(), Fault> {
        let (offset, bytes) = self.boundaries.slice(&self.pack, entry);
        let crc32 = crc32fast::hash(bytes);
        match &self.ids {
            Ids::Compare(index) => {
                let row = self.boundaries.rows[entry as usize];
                if index.id(row) != id {
                    let claimed = index.id(row);
                    return Err(Fault::Index(format!("it says {claimed} is at offset {offset}, where {id} is")));
                }
                if index.crc32(row) != crc32 {
                    return Err(Fault::Index(format!("the CRC-32 of object {id} at offset {offset} is another")));
                }
            }
            Ids::Keep { ids, crcs } => {
                ids.set(entry, id);
                crcs[entry as usize].store(crc32, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The id of a resolved entry.
    pub(crate) fn id(&self, entry: u32) -> ObjectId {
        match &self.ids {
            Ids::Compare(index) => index.id(self.boundaries.rows[entry as usize]).to_owned(),
            Ids::Keep { ids, .. } => ids.get(entry),
        }
    }

    /// Fails if there are deltas whose base did not turn up.
    pub(crate) fn check_all_resolved(&self) -> Result<(), Fault> {
        let left = self.families.by_id().iter().filter(|entry| self.kind_code(**entry) == 0);
        let Some(first) = left.clone().min() else { return Ok(()) };
        let base = |entry: &u32| {
            let base = super::entries::base_id(&self.pack, self.boundaries, *entry);
            ObjectId::try_from(base).unwrap_or_else(|_| ObjectId::null(self.pack.format))
        };
        // In the order of their bases already.
        let mut bases: Vec<ObjectId> = left.clone().map(base).collect();
        bases.dedup();
        let (offset, count) = (self.boundaries.offsets[*first as usize], left.count() as u64);
        Err(Fault::MissingBase { offset, base: base(first), count, bases: bases.into() })
    }
}

/// Ends the other threads' waiting when a thread panics.
pub(crate) struct HaltOnDrop<'a, 'b>(pub(crate) &'a Resolver<'b>);

impl Drop for HaltOnDrop<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.halt();
        }
    }
}
