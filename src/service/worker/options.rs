//! Settings of a worker.

use std::time::Duration;

use gitferry_replication::pass::DEFAULT_JOBS;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Most deliveries at a time for each link, and with each Git server.
    pub jobs: usize,
    /// Period between two reads of the sources' outboxes; `None` where another task passes them on.
    pub outbox_every: Option<Duration>,
    /// Period between two sweeps.
    pub sweep_every: Duration,
    /// Most repositories that a sweep compares per second.
    pub sweep_rate: u32,
    /// Age at which a change that a sweep found counts as not announced by any event.
    pub announced_within: Duration,
    /// Longest time that running deliveries get to end once the worker stops.
    pub grace: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions {
            jobs: DEFAULT_JOBS,
            outbox_every: Some(Duration::from_secs(5)),
            sweep_every: Duration::from_secs(300),
            sweep_rate: 1_000,
            announced_within: Duration::from_secs(60),
            grace: Duration::from_secs(60),
        }
    }
}
