//! What a caller says before a check, and sees and says during it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gix::hash::Kind as Format;

use super::error::Fault;
use super::{MAX_HELD_BYTES, MAX_RESOLVED_BYTES};

/// Another thread is worth its start for this many objects.
const OBJECTS_PER_THREAD: u32 = 512;

/// How to check a pack.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// The repository's object format.
    pub format: Format,
    /// How many threads resolve objects; `None` for as many as there are processors, fewer
    /// for small packs.
    pub threads: Option<NonZeroUsize>,
    /// See [`MAX_HELD_BYTES`].
    pub max_held_bytes: u64,
    /// See [`MAX_RESOLVED_BYTES`].
    pub max_resolved_bytes: u64,
    /// The most bytes that a commit, a tree or a tag may have; as much as any object by default.
    pub max_walked_bytes: u64,
    /// The most bytes that all objects together may have; no limit by default.
    pub max_total_bytes: u64,
}

impl CheckOptions {
    /// The defaults for an object format.
    pub fn new(format: Format) -> Self {
        CheckOptions {
            format,
            threads: None,
            max_held_bytes: MAX_HELD_BYTES,
            max_resolved_bytes: MAX_RESOLVED_BYTES,
            max_walked_bytes: MAX_RESOLVED_BYTES,
            max_total_bytes: u64::MAX,
        }
    }

    /// How many threads to use for a pack of `objects`: starting one for a handful costs more than it saves.
    pub(crate) fn thread_count(&self, objects: u32) -> usize {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(|| available().min(1 + (objects / OBJECTS_PER_THREAD) as usize), NonZeroUsize::get)
    }
}

/// How far a check is. Any thread may read it, and set [`CheckProgress::cancel`].
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Objects that have been resolved.
    pub objects: AtomicU64,
    /// Objects in the pack; 0 until its header has been read.
    pub objects_total: AtomicU64,
    /// Bytes of the pack that these objects take.
    pub bytes: AtomicU64,
    /// Bytes of the pack.
    pub bytes_total: AtomicU64,
    /// Set it to make the check end soon, with [`Fault::Cancelled`].
    pub cancel: AtomicBool,
}

impl CheckProgress {
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.cancel.load(Ordering::Relaxed) { Err(Fault::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn add(&self, objects: u64, bytes: u64) {
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
