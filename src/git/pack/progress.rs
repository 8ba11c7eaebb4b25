//! Options of a pack check, and its progress and cancellation.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gix::hash::Kind as Format;

use super::error::Fault;
use super::limits::{MAX_HELD_BYTES, MAX_RESOLVED_BYTES};

/// Objects per thread below which another thread costs more than it saves.
const OBJECTS_PER_THREAD: u32 = 512;

/// Options of a pack check.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Object format of the repository.
    pub format: Format,
    /// Number of threads that resolve objects; `None` for one per processor, fewer for small packs.
    pub threads: Option<NonZeroUsize>,
    /// Most bytes of delta bases in memory; by default [`MAX_HELD_BYTES`].
    pub max_held_bytes: u64,
    /// Most bytes of one object that is resolved; by default [`MAX_RESOLVED_BYTES`].
    pub max_resolved_bytes: u64,
    /// Most bytes of a commit, tree or tag; by default [`MAX_RESOLVED_BYTES`].
    pub max_walked_bytes: u64,
    /// Most bytes of all objects together; no limit by default.
    pub max_total_bytes: u64,
}

impl CheckOptions {
    /// Default options for an object format.
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

    /// Number of threads for a pack of `objects`.
    pub(crate) fn thread_count(&self, objects: u32) -> usize {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(|| available().min(1 + (objects / OBJECTS_PER_THREAD) as usize), NonZeroUsize::get)
    }
}

/// Progress of a check. Any thread may read it, and set [`CheckProgress::cancel`].
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Objects resolved so far.
    pub objects: AtomicU64,
    /// Objects in the pack; 0 until its header has been read.
    pub objects_total: AtomicU64,
    /// Bytes of the resolved objects' entries in the pack.
    pub bytes: AtomicU64,
    /// Bytes of the pack.
    pub bytes_total: AtomicU64,
    /// Cancellation flag: once set, the check soon fails with [`Fault::Cancelled`].
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
