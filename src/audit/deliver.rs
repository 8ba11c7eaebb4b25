//! The task that writes the records of one queue to its sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use crate::queue::{Counts, Record};
use crate::record::{Stamp, gap};
use crate::sinks::Sink;
use gitferry_base::Kind;
use gitferry_base::clock::Clock;
use gitferry_base::retry::Backoff;

/// Most records that are taken from the queue at once.
const MAX_BATCH: usize = 256;
/// Longest wait before a sink that failed is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(15);
/// Time for writing the records that wait when the host stops. The rest is lost, and counted in the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// One sink with its records.
pub(crate) struct Delivery {
    pub(crate) region: String,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) records: Receiver<Record>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Delivery {
    /// Writes records until `stop` turns true, and for [`FLUSH_TIMEOUT`] those that wait by then.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let name = self.sink.name();
        let mut stopped = stop.clone();
        let too_late = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
            tokio::time::sleep(FLUSH_TIMEOUT).await;
        };
        let mut batch = VecDeque::with_capacity(MAX_BATCH + 1);
        tokio::select! {
            () = self.write_all(&mut batch, &mut stop) => return,
            () = too_late => {}
        }
        let lost = batch.len() + self.records.len();
        tracing::error!(sink = name, lost, "the sink of the audit trail took no records while the host stopped");
    }

    /// Returns when the queue is closed and empty.
    async fn write_all(&mut self, batch: &mut VecDeque<Record>, stop: &mut watch::Receiver<bool>) {
        while self.take(batch, stop).await {
            if let Some(gap) = self.gap_record() {
                batch.push_front(gap);
            }
            self.write(batch).await;
        }
        if let Some(gap) = self.gap_record() {
            batch.push_back(gap);
            self.write(batch).await;
        }
    }

    /// Waits for records. Returns false when there are no more. Closes the queue on `stop`.
    async fn take(&mut self, batch: &mut VecDeque<Record>, stop: &mut watch::Receiver<bool>) -> bool {
        let mut taken = Vec::with_capacity(MAX_BATCH);
        loop {
            tokio::select! {
                _ = self.records.recv_many(&mut taken, MAX_BATCH) => {
                    batch.extend(taken);
                    return !batch.is_empty();
                }
                _ = stop.wait_for(|stop| *stop), if !self.records.is_closed() => self.records.close(),
            }
        }
    }

    fn gap_record(&self) -> Option<Record> {
        let found = self.counts.take_gap()?;
        let stamp = Stamp { region: &self.region, time: self.clock.now(), id: self.clock.new_id() };
        Some(gap(stamp, self.sink.name(), found.count, found.since).into())
    }

    /// Writes a batch, however often that takes.
    async fn write(&mut self, batch: &mut VecDeque<Record>) {
        let mut waits: Option<Backoff> = None;
        while !batch.is_empty() {
            let before = batch.len();
            let result = self.sink.write(batch).await;
            let written = (before - batch.len()) as u64;
            if written > 0 {
                self.counts.wrote(written);
            }
            let Err(error) = result else { continue };
            let name = self.sink.name();
            if self.counts.failed() {
                tracing::error!(sink = name, %error, "records of the audit trail cannot be written; tried again");
            }
            let wait = waits.get_or_insert_with(|| Backoff::at_most(Kind::Transient, MAX_BACKOFF)).next_wait();
            tokio::time::sleep(wait).await;
        }
        if waits.is_some() {
            tracing::info!(sink = self.sink.name(), "records of the audit trail are written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::queue::{MAX_QUEUED, Queue};
    use crate::sinks::SinkError;
    use gitferry_base::clock::SystemClock;
    use jiff::Timestamp;

    /// A sink that fails a number of times, or hangs.
    struct Flaky {
        failures: usize,
        hangs: bool,
        written: Arc<Mutex<Vec<Record>>>,
    }

    #[async_trait]
    impl Sink for Flaky {
        fn name(&self) -> &'static str {
            "file"
        }

        async fn write(&mut self, records: &mut VecDeque<Record>) -> Result<(), SinkError> {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.failures > 0 {
                self.failures -= 1;
                return Err(SinkError::Bus { bus: "b".into(), reason: "for the test".into() });
            }
            self.written.lock().unwrap().extend(records.drain(..));
            Ok(())
        }
    }

    fn delivery(failures: usize, hangs: bool) -> (Queue, Delivery, Arc<Mutex<Vec<Record>>>) {
        let (queue, records, counts) = Queue::new("file");
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Box::new(Flaky { failures, hangs, written: written.clone() });
        let clock = SystemClock::shared();
        (queue, Delivery { region: "us".into(), sink, records, counts, clock }, written)
    }

    fn put(queue: &Queue, records: usize) {
        for number in 0..records {
            queue.put(None, true, number.to_string().into(), Timestamp::UNIX_EPOCH);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_fails_gets_every_record_once_and_is_told_of_the_gap_first() {
        let (queue, delivery, written) = delivery(3, false);
        put(&queue, MAX_QUEUED + 10);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(delivery.run(stopped));
        while queue.counts().written < MAX_QUEUED as u64 + 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let counts = queue.counts();
        assert_eq!((counts.dropped, counts.failures, counts.is_failing), (10, 3, false));
        {
            let written = written.lock().unwrap();
            assert!(
                written[0].contains("AuditRecordsDropped") && written[0].contains("\"dropped\":10"),
                "{}",
                written[0]
            );
            let numbers: Vec<usize> = written[1..].iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(numbers, (0..MAX_QUEUED).collect::<Vec<_>>());
        }
        stop.send_replace(true);
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_written_when_the_host_stops() {
        let (queue, delivery, written) = delivery(0, false);
        put(&queue, 1_000);
        let (_stop, stopped) = watch::channel(true);
        delivery.run(stopped).await;
        assert_eq!(written.lock().unwrap().len(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_hangs_holds_the_end_of_the_process_for_a_moment() {
        let (queue, delivery, written) = delivery(0, true);
        put(&queue, 10);
        let start = tokio::time::Instant::now();
        let (_stop, stopped) = watch::channel(true);
        delivery.run(stopped).await;
        assert_eq!(start.elapsed(), FLUSH_TIMEOUT);
        assert!(written.lock().unwrap().is_empty());
    }
}
