//! Resolution of every object of a pack on several threads: inflate, apply deltas, hash, find links.
//!
//! A family is a whole object and all deltas that build on it. Threads claim families in the order of the pack and
//! process each depth first; a base is freed after its last delta has been applied. Once all families are claimed, busy
//! threads hand parts of their families to idle ones.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use super::content::Content;
use super::entries::{Boundaries, Families, PackData, base_id};
use super::error::Fault;
use super::index::Index;
use super::link_sink::IdTable;
use super::progress::{CheckOptions, CheckProgress};
use crate::fsck::Rules;

/// Entries that a thread claims at a time.
const CHUNK_ENTRIES: u32 = 64;

/// Use of the computed ids and checksums of entries.
pub(crate) enum Ids<'a> {
    /// Compare them with the index that came with the pack.
    Compare(&'a Index),
    /// Keep them for a new index.
    Keep { ids: IdTable, crcs: Vec<AtomicU32> },
}

/// State shared by all threads.
pub(crate) struct Resolver<'a> {
    pub(crate) pack: PackData<'a>,
    pub(crate) boundaries: &'a Boundaries,
    pub(crate) families: &'a Families,
    pub(crate) ids: Ids<'a>,
    pub(crate) options: &'a CheckOptions,
    pub(crate) progress: &'a CheckProgress,
    /// Directory for large objects that exceed the memory budget.
    pub(crate) directory: &'a Path,
    /// Rules of the fsck checks; `None` skips them.
    pub(crate) rules: Option<&'a Rules>,
    /// Bytes of all objects resolved so far.
    total: AtomicU64,
    /// Kind of each entry's object, as [`crate::links::kind_code`]; 0 until resolved.
    kinds: Vec<AtomicU8>,
    next: AtomicU32,
    /// Number of threads that wait for work.
    idle: AtomicUsize,
    pub(crate) threads: usize,
    stop: AtomicBool,
    jobs: Mutex<Vec<Job>>,
    wake: Condvar,
}

/// Part of a family that one thread hands to another.
pub(crate) struct Job {
    /// Content of the base.
    pub(crate) data: Content,
    /// Length of the delta chain of the base.
    pub(crate) depth: usize,
    pub(crate) entry: u32,
    pub(crate) kind: Kind,
    /// True if all links of the base could be parsed.
    pub(crate) parsed: bool,
    pub(crate) children: Children,
}

/// Unapplied deltas on one base, as positions in [`Families`].
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

    /// Splits off about half of the deltas, at least one if there is any: those with the most descendants.
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

    /// Claims the next chunk of entries; `None` when all are claimed.
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

    /// Returns true if a thread waits for work. A hint only: [`Resolver::offer`] checks under the lock.
    pub(crate) fn wants_jobs(&self) -> bool {
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Hands over the job from `split` if a thread still waits for one.
    pub(crate) fn offer(&self, split: impl FnOnce() -> Option<Job>) {
        let mut jobs = self.lock();
        if jobs.len() < self.idle.load(Ordering::Relaxed)
            && let Some(job) = split()
        {
            jobs.push(job);
            self.wake.notify_one();
        }
    }

    /// Stops all threads.
    pub(crate) fn halt(&self) {
        // Under the lock, so that no thread is between its check of `stop` and its wait.
        let _jobs = self.lock();
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// Fails if the work was stopped or cancelled.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.stop.load(Ordering::Relaxed) { Err(Fault::Cancelled) } else { self.progress.check() }
    }

    /// Adds the bytes of a resolved object to the total, and fails above the limit.
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

    /// Claims an entry for the calling thread. Returns false if the entry has been claimed before.
    pub(crate) fn claim(&self, entry: u32, kind: Kind) -> bool {
        self.kinds[entry as usize].swap(crate::links::kind_code(kind), Ordering::Relaxed) == 0
    }

    /// Kind code of an entry's object; 0 if it has not been resolved.
    pub(crate) fn kind_code(&self, entry: u32) -> u8 {
        self.kinds[entry as usize].load(Ordering::Relaxed)
    }

    /// Records or compares the computed id of an entry.
    pub(crate) fn record(&self, entry: u32, id: &oid) -> Result<(), Fault> {
        let (offset, bytes) = self.boundaries.slice(&self.pack, entry);
        let crc32 = crc32fast::hash(bytes);
        match &self.ids {
            Ids::Compare(index) => {
                let row = self.boundaries.rows[entry as usize];
                if index.id(row) != id {
                    let claimed = index.id(row);
                    return Err(Fault::Index(format!(
                        "it lists {claimed} at offset {offset}, the pack has {id} there"
                    )));
                }
                if index.crc32(row) != crc32 {
                    return Err(Fault::Index(format!("the CRC-32 of object {id} at offset {offset} does not match")));
                }
            }
            Ids::Keep { ids, crcs } => {
                ids.set(entry, id);
                crcs[entry as usize].store(crc32, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Id of a resolved entry.
    pub(crate) fn id(&self, entry: u32) -> ObjectId {
        match &self.ids {
            Ids::Compare(index) => index.id(self.boundaries.rows[entry as usize]).to_owned(),
            Ids::Keep { ids, .. } => ids.get(entry),
        }
    }

    /// Fails with [`Fault::MissingBase`] if the bases of some deltas are not in the pack.
    pub(crate) fn check_all_resolved(&self) -> Result<(), Fault> {
        let left = self.families.by_id().iter().filter(|entry| self.kind_code(**entry) == 0);
        let Some(first) = left.clone().min() else { return Ok(()) };
        let base = |entry: &u32| base_id(&self.pack, self.boundaries, *entry).to_owned();
        // `by_id` is sorted by base.
        let mut bases: Vec<ObjectId> = left.clone().map(base).collect();
        bases.dedup();
        let offset = self.boundaries.offsets[*first as usize];
        let count = left.count() as u64;
        Err(Fault::MissingBase { offset, base: base(first), count, bases: bases.into() })
    }
}

/// Guard that stops the other threads when a thread panics.
pub(crate) struct HaltOnDrop<'a, 'b>(pub(crate) &'a Resolver<'b>);

impl Drop for HaltOnDrop<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.halt();
        }
    }
}
