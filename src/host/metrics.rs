//! `/_metrics`: metrics of a host's region in Prometheus's text format. The metrics name no repository, so the path
//! needs no credentials.

use std::time::Duration;

use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::refusal::Refusal;
use gitferry_engine::region::{Region, RegionError};

/// Time for which a count is cached. Any client may send many requests; they must not each read the table.
const CACHE_TIME: Duration = Duration::from_secs(60);

/// Metrics of a host.
#[derive(Debug)]
pub struct Metrics {
    region: Region,
    /// Time of the last count, and the number of damaged packs that are set aside in the region.
    packs_aside: Mutex<Option<(Instant, u64)>>,
}

impl Metrics {
    /// Metrics of the host of `region`.
    pub fn new(region: Region) -> Self {
        Metrics { region, packs_aside: Mutex::default() }
    }

    /// Answers with all metrics.
    pub async fn answer(&self, method: &Method) -> Result<Response, Refusal> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        let packs = self.packs_aside().await?;
        let name = "gitferry_host_packs_aside";
        let region = self.region.name().escape_default();
        let help = "Damaged packs in the region that consolidation passes over until they are mended.";
        let text = format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{region=\"{region}\"}} {packs}\n");
        Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
    }

    /// Counts the damaged packs of the region, at most once per [`CACHE_TIME`].
    async fn packs_aside(&self) -> Result<u64, RegionError> {
        let mut counted = self.packs_aside.lock().await;
        if let Some((at, packs)) = *counted
            && at.elapsed() < CACHE_TIME
        {
            return Ok(packs);
        }
        let packs = self.region.packs_aside().all().await?.len() as u64;
        *counted = Some((Instant::now(), packs));
        Ok(packs)
    }
}
