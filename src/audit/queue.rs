//! The bounded queue of records in front of one sink.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

/// Most records that wait for one sink. With [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES) it bounds their memory.
pub const MAX_QUEUED: usize = 4_096;
/// Part of a queue that requests of proven principals have for themselves: a flood of refused requests cannot displace
/// the record of a user.
const RESERVED_FOR_PROVEN: usize = MAX_QUEUED / 2;
/// Longest time that a request waits for a place in the queue of a sink that is slow. Without one its record is dropped.
pub const MAX_WAIT: Duration = Duration::from_millis(250);

/// Text of a record, shared by the queues of all sinks.
pub(crate) type Record = Arc<str>;
/// Place in a queue, which its record takes later.
pub(crate) type Place = OwnedPermit<Record>;

/// Counts of one sink since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkCounts {
    /// Name of the sink: `file` or `events`.
    pub sink: &'static str,
    /// Records that the sink has taken.
    pub written: u64,
    /// Records that were dropped because the queue was full.
    pub dropped: u64,
    /// Failed attempts to write.
    pub failures: u64,
    /// True while the last attempt failed.
    pub is_failing: bool,
}

/// Records that were dropped and of which no record tells yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) count: u64,
    pub(crate) since: Timestamp,
}

/// Counts of one sink, shared by its queue and its task.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    failing: AtomicBool,
    gap: Mutex<Option<Gap>>,
}

impl Counts {
    pub(crate) fn wrote(&self, records: u64) {
        self.written.fetch_add(records, Ordering::Relaxed);
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Counts a failed attempt. Returns true for the first one after a success.
    pub(crate) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        !self.failing.swap(true, Ordering::Relaxed)
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Counts records that are dropped. The first since the last gap is logged.
    pub(crate) fn dropped(&self, sink: &'static str, records: u64, now: Timestamp) {
        if records == 0 {
            return;
        }
        self.dropped.fetch_add(records, Ordering::Relaxed);
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        if gap.is_none() {
            tracing::error!(sink, "the audit trail loses records: its queue is full, as the sink takes none");
        }
        let known = gap.unwrap_or(Gap { count: 0, since: now });
        *gap = Some(Gap { count: known.count + records, ..known });
    }

    /// The gap since the last call.
    pub(crate) fn take_gap(&self) -> Option<Gap> {
        self.gap.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Sending end of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sink: &'static str,
    sender: Sender<Record>,
    counts: Arc<Counts>,
}

impl Queue {
    /// Makes the queue of a sink.
    pub(crate) fn new(sink: &'static str) -> (Queue, Receiver<Record>, Arc<Counts>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let counts = Arc::new(Counts::default());
        (Queue { sink, sender, counts: counts.clone() }, receiver, counts)
    }

    /// Reserves a place for the record of a proven principal. Waits at most [`MAX_WAIT`], and not for a sink that fails.
    pub(crate) async fn reserve(&self) -> Option<Place> {
        match self.sender.clone().try_reserve_owned() {
            Ok(place) => Some(place),
            Err(_) if self.counts.is_failing() => None,
            Err(_) => tokio::time::timeout(MAX_WAIT, self.sender.clone().reserve_owned()).await.ok()?.ok(),
        }
    }

    /// Queues a record in its place, or without one if the queue has room. Never waits.
    pub(crate) fn put(&self, place: Option<Place>, is_proven: bool, record: Record, now: Timestamp) {
        if let Some(place) = place {
            drop(place.send(record));
            return;
        }
        let has_room = is_proven || self.sender.capacity() > RESERVED_FOR_PROVEN;
        if !has_room || self.sender.try_send(record).is_err() {
            self.counts.dropped(self.sink, 1, now);
        }
    }

    pub(crate) fn counts(&self) -> SinkCounts {
        let Counts { written, dropped, failures, failing, .. } = &*self.counts;
        SinkCounts {
            sink: self.sink,
            written: written.load(Ordering::Relaxed),
            dropped: dropped.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
            is_failing: failing.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Arc::from("{}")
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_without_credentials_leaves_half_of_the_queue_to_users() {
        let (queue, receiver, counts) = Queue::new("file");
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..MAX_QUEUED {
            queue.put(None, false, record(), now);
        }
        assert_eq!(receiver.len(), MAX_QUEUED - RESERVED_FOR_PROVEN);
        let lost = (MAX_QUEUED - receiver.len()) as u64;
        assert_eq!(counts.take_gap().unwrap().count, lost);
        let place = queue.reserve().await;
        assert!(place.is_some());
        queue.put(place, true, record(), now);
        assert_eq!(receiver.len(), MAX_QUEUED - RESERVED_FOR_PROVEN + 1);
        assert!(counts.take_gap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_holds_a_request_for_a_moment_and_a_failing_one_not_at_all() {
        let (queue, _receiver, counts) = Queue::new("file");
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..MAX_QUEUED {
            queue.put(None, true, record(), now);
        }
        let start = tokio::time::Instant::now();
        assert!(queue.reserve().await.is_none());
        assert_eq!(start.elapsed(), MAX_WAIT);
        assert!(counts.failed());
        assert!(queue.reserve().await.is_none());
        assert_eq!(start.elapsed(), MAX_WAIT);
        queue.put(None, true, record(), now);
        assert_eq!((queue.counts().dropped, counts.take_gap().unwrap().count), (1, 1));
    }
}
