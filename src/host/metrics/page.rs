//! `/_metrics`: the metrics of a host and of its process, in Prometheus's text format.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Metrics;
use crate::request::refusal::Refusal;
use gitferry_audit::{AuditTrail, SinkCounts};
use gitferry_base::metrics::{self, Registry};
use gitferry_engine::region::{Region, RegionError};

/// Time for which a count is cached. Any client may send many requests; they must not each read the table.
const CACHE_TIME: Duration = Duration::from_secs(60);
/// Time for which the failure of a count is cached.
const FAILURE_CACHE_TIME: Duration = Duration::from_secs(10);
/// Longest time that a page waits for a count: less than the 10 s after which Prometheus gives up, so that a table that
/// does not answer costs the page one metric and not all.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3);

/// The page of a host.
#[derive(Debug)]
pub struct MetricsPage {
    region: Region,
    metrics: Arc<Metrics>,
    audit: AuditTrail,
    packs_aside: PacksAside,
}

impl MetricsPage {
    /// The page of the metrics of the host of `region`, and of its audit trail.
    pub fn new(region: Region, metrics: Arc<Metrics>, audit: AuditTrail) -> Self {
        MetricsPage { region, metrics, audit, packs_aside: PacksAside::default() }
    }

    /// Answers with all metrics.
    pub async fn answer(&self, method: &Method) -> Result<Response, Refusal> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], self.render().await).into_response())
    }

    /// Renders the page. The damaged packs are missing while the table cannot be read.
    async fn render(&self) -> String {
        let registry = &self.metrics.registry;
        registry.counter(&metrics::PACK_CACHE_HITS, &[]).absolute(self.region.cache().hits());
        registry.counter(&metrics::PACK_CACHE_MISSES, &[]).absolute(self.region.cache().misses());
        for SinkCounts { sink, written, dropped, failures, is_failing } in self.audit.counts() {
            registry.counter(&metrics::AUDIT_WRITTEN, &[sink]).absolute(written);
            registry.counter(&metrics::AUDIT_DROPPED, &[sink]).absolute(dropped);
            registry.counter(&metrics::AUDIT_FAILURES, &[sink]).absolute(failures);
            registry.gauge(&metrics::AUDIT_FAILING, &[sink]).set(f64::from(u8::from(is_failing)));
        }
        // A registry for each page: a count that has become unknown is not on it.
        let aside = Registry::of_region(self.region.name());
        if let Some(packs) = self.packs_aside.count(self.region.packs_aside().all()).await {
            aside.gauge(&metrics::HOST_PACKS_ASIDE, &[]).set(packs as f64);
        }
        registry.page() + &metrics::process().page() + &aside.page()
    }
}

/// Cached number of damaged packs that are set aside in the region: the time of the last count, and its result.
#[derive(Debug, Default)]
struct PacksAside(Mutex<Option<(Instant, Option<u64>)>>);

impl PacksAside {
    /// Awaits `counting` at most once per [`CACHE_TIME`], or per [`FAILURE_CACHE_TIME`] after a failure. Returns `None`
    /// if the last count failed or exceeded [`COUNT_TIMEOUT`].
    async fn count<T>(&self, counting: impl Future<Output = Result<Vec<T>, RegionError>>) -> Option<u64> {
        let mut counted = self.0.lock().await;
        if let Some((at, packs)) = *counted {
            let cache_time = if packs.is_some() { CACHE_TIME } else { FAILURE_CACHE_TIME };
            if at.elapsed() < cache_time {
                return packs;
            }
        }
        let packs = match timeout(COUNT_TIMEOUT, counting).await {
            Ok(Ok(packs)) => Some(packs.len() as u64),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the damaged packs cannot be counted; /_metrics leaves them out");
                None
            }
            Err(_) => {
                let seconds = COUNT_TIMEOUT.as_secs();
                tracing::warn!(seconds, "the table did not answer in time; /_metrics leaves out the damaged packs");
                None
            }
        };
        *counted = Some((Instant::now(), packs));
        packs
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn aside(packs: usize) -> Result<Vec<()>, RegionError> {
        Ok(vec![(); packs])
    }

    async fn not_asked() -> Result<Vec<()>, RegionError> {
        panic!("the table is read again within the time of the cache")
    }

    /// Scrapes cost one read of the table in a minute, and one in ten seconds while the table does not answer.
    #[tokio::test(start_paused = true)]
    async fn scrapes_do_not_each_read_the_table() {
        let packs = PacksAside::default();
        let start = Instant::now();
        let (first, second) = tokio::join!(packs.count(pending::<Result<Vec<()>, _>>()), packs.count(not_asked()));
        assert_eq!((first, second, start.elapsed()), (None, None, COUNT_TIMEOUT));
        tokio::time::sleep(FAILURE_CACHE_TIME).await;
        assert_eq!(packs.count(async { aside(2) }).await, Some(2));
        assert_eq!(packs.count(not_asked()).await, Some(2));
        tokio::time::sleep(CACHE_TIME).await;
        assert_eq!(packs.count(async { aside(0) }).await, Some(0));
    }
}
