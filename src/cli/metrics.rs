//! `--metrics`: metrics of each link on standard output.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gitferry_base::clock::{Clock as _, SystemClock};
use gitferry_service::worker::metrics::{LinkMetrics, emf};
use gitferry_service::worker::status::Status;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::output;

/// Format of printed metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// CloudWatch's Embedded Metric Format: one line of JSON per link.
    Emf,
}

/// The option `--metrics`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Metrics {
    /// Print metrics of each link to standard output, for CloudWatch Logs to extract.
    #[arg(long, env = "GITFERRY_METRICS", value_name = "FORMAT")]
    metrics: Option<Format>,
}

impl Metrics {
    /// Prints the metrics of all links, if the option is set.
    pub fn print(self, all: &[LinkMetrics]) {
        match self.metrics {
            None => {}
            Some(Format::Emf) => all.iter().for_each(|link| output::line(emf(link, SystemClock.now()))),
        }
    }

    /// Prints the metrics since the line before at each interval, and once more when `stop` turns true.
    pub async fn repeat(self, status: Arc<Status>, every: Duration, mut stop: watch::Receiver<bool>) {
        if self.metrics.is_none() {
            return drop(stop.wait_for(|stop| *stop).await);
        }
        let mut tick = interval_at(Instant::now() + every, every);
        let mut before = status.metrics();
        let mut stopping = std::pin::pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            let last = tokio::select! {
                _ = tick.tick() => false,
                () = &mut stopping => true,
            };
            let now = status.metrics();
            let since: Vec<LinkMetrics> = now.iter().zip(&before).map(|(now, before)| now.since(before)).collect();
            self.print(&since);
            if last {
                return;
            }
            before = now;
        }
    }
}
