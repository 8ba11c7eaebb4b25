//! Pending jobs: the durable queue of a link. A [job](super::job) is a row of the link's table which says that an event has announced
//! a repository and no delivery has answered it yet. Once the row is durable the message of the event is deleted,
//! however long the delivery takes.
//!
//! A job is never overwritten: a delivery that began after the job was read clears it, and a later event adds a job
//! of its own. Where the source is a region the job names the change that the target has to reach. A remote has no
//! numbered changes, so each of its events adds a job with a token of its own.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::job::PendingJob;
use super::link::Link;
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_store::table::{Condition, MAX_TRANSACTION_ITEMS, Query, Table, TableError, Write};

/// Age at which a pending job is taken up by another process than the one that added it.
pub(crate) const ABANDONED_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Most jobs that one read returns; the rest follow when these are done.
pub const MAX_READ: usize = 10_000;

/// The pending jobs of one link.
#[derive(Clone, Debug)]
pub struct PendingJobs {
    /// `None` for a link that keeps no jobs, which has no queue either.
    table: Option<Arc<dyn Table>>,
    clock: Arc<dyn Clock>,
    link: String,
}

impl PendingJobs {
    /// The jobs of a link between regions, which its target keeps.
    pub fn new(target: &Region, link: &str) -> Self {
        PendingJobs {
            table: Some(target.shared_table().clone()),
            clock: target.shared_clock().clone(),
            link: link.into(),
        }
    }

    /// The jobs of a link.
    pub fn of(link: &dyn Link) -> Self {
        PendingJobs { table: link.table().cloned(), clock: link.clock().clone(), link: link.name().into() }
    }

    /// Adds a job, durably. Adding it again changes nothing.
    pub async fn add(&self, job: &PendingJob) -> Result<(), TableError> {
        let Some(table) = &self.table else { return Ok(()) };
        let document = job.document(self.clock.now());
        table.transact(vec![Write::put(job.key(&self.link), Condition::Any, document)]).await
    }

    /// Clears jobs that a delivery has answered.
    pub async fn clear(&self, jobs: &[PendingJob]) -> Result<(), TableError> {
        let Some(table) = &self.table else { return Ok(()) };
        for jobs in jobs.chunks(MAX_TRANSACTION_ITEMS) {
            table.transact(self.clearing(jobs)).await?;
        }
        Ok(())
    }

    /// The writes that clear jobs, for a transaction with the commit of a delivery.
    pub(super) fn clearing(&self, jobs: &[PendingJob]) -> Vec<Write> {
        // No transaction names a key twice.
        let mut seen = HashSet::new();
        let jobs = jobs.iter().filter(|job| seen.insert(*job));
        jobs.map(|job| Write::delete(job.key(&self.link), Condition::Any)).collect()
    }

    /// Reads the jobs that were added before a moment, at most [`MAX_READ`].
    pub async fn read(&self, before: Timestamp) -> Result<Vec<PendingJob>, TableError> {
        self.read_below("", |_, since| since <= before.as_millisecond()).await
    }

    /// Reads the jobs of a repository of a remote, at most [`MAX_READ`].
    pub async fn of_name(&self, name: &str) -> Result<Vec<PendingJob>, TableError> {
        self.of_name_until(name, Timestamp::MAX).await
    }

    /// Reads the jobs of a repository of a remote that were added before a moment, at most [`MAX_READ`].
    pub async fn of_name_until(&self, name: &str, before: Timestamp) -> Result<Vec<PendingJob>, TableError> {
        let is_of = |job: &PendingJob| matches!(job, PendingJob::Event { name: other, .. } if **other == *name);
        let wanted = |job: &PendingJob, since| since <= before.as_millisecond() && is_of(job);
        self.read_below(&keys::pending_event_prefix(name), wanted).await
    }

    async fn read_below(
        &self,
        prefix: &str,
        wanted: impl Fn(&PendingJob, i64) -> bool,
    ) -> Result<Vec<PendingJob>, TableError> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let mut query = Query::prefix(keys::pending_partition(&self.link), prefix);
        let mut found = Vec::new();
        loop {
            let mut page = table.query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                let Some(job) = PendingJob::parse(&item) else {
                    tracing::warn!(key = %item.key, "this row of pending jobs names no repository; it is passed over");
                    continue;
                };
                let since = item.document.get("since").and_then(Value::as_i64).unwrap_or(0);
                if wanted(&job, since) && found.len() < MAX_READ {
                    found.push(job);
                }
            }
            match next {
                Some(next) if found.len() < MAX_READ => query.after = Some(next),
                _ => return Ok(found),
            }
        }
    }
}
