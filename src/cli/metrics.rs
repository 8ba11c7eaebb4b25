//! `--metrics`: figures on standard output, for whoever turns logs into metrics.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use gitferry_base::clock::{Clock as _, SystemClock};
use gitferry_service::worker::metrics::{Figures, emf};
use gitferry_service::worker::status::Status;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::output;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// CloudWatch's Embedded Metric Format: a line of JSON for each link.
    Emf,
}

/// Whether metrics are printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Metrics {
    /// Print metrics of each link to standard output; CloudWatch Logs makes metrics of them.
    #[arg(long, env = "GITFERRY_METRICS", value_name = "FORMAT")]
    metrics: Option<Format>,
}

impl Metrics {
    /// Prints figures, if they are wanted.
    pub fn print(self, all: &[Figures]) {
        match self.metrics {
            None => {}
            Some(Format::Emf) => all.iter().for_each(|figures| output::line(emf(figures, SystemClock.now()))),
        }
    }

    /// Prints them from time to time until `stop` turns true, and once more then.
    pub async fn repeat(self, status: Arc<Status>, every: Duration, mut stop: watch::Receiver<bool>) {
        if self.metrics.is_none() {
            return drop(stop.wait_for(|stop| *stop).await);
        }
        let mut tick = interval_at(Instant::now() + every, every);
        let mut before = status.figures();
        let mut stopping = std::pin::pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            let last = tokio::select! {
                _ = tick.tick() => false,
                () = &mut stopping => true,
            };
            let now = status.figures();
            let since: Vec<Figures> = now.iter().zip(&before).map(|(now, before)| now.since(before)).collect();
            self.print(&since);
            if last {
                return;
            }
            before = now;
        }
    }
}
