//! `gitferry worker`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gitferry_base::supervise::Supervisor;
use gitferry_config::Config;
use gitferry_engine::announce::{Fanout, Sink};
use gitferry_replication::pass::DEFAULT_JOBS;
use gitferry_service::delivery::Link;
use gitferry_service::worker::status::Status;
use gitferry_service::worker::{WorkerOptions, health};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::late::{self, LateTasks};
use super::metrics::Metrics;
use super::signals::Signals;
use super::{events, garbage, output};

/// Default address of the health endpoints.
pub const HEALTH_ADDRESS: &str = "127.0.0.1:8470";

/// Replicate continuously: changes from queues and outboxes, and by sweeps those that no event announced.
#[derive(Debug, Args)]
#[command(after_help = "A link's queue is in the configuration: queue and dead_letters of [links.NAME]. For a link
without a queue, the worker reads the source's outbox every --outbox-every.

Remotes send no events, except CodeCommit. Every --sweep-every, the worker compares both sides of
each repository that a link from a remote names in full or has carried before.

GET /_health answers 200 while the worker is alive, and /_ready while it reaches all stores, queues
and servers and deliveries succeed; otherwise 503 with the reason. A link whose stores cannot be
opened is tried again and does not hold up the others. GET /_metrics has the metrics of each link
for Prometheus; --metrics prints them for CloudWatch.

After SIGTERM or Ctrl-C, running deliveries may end within --grace; the next worker resumes those
that are cut off. A second signal stops at once. Any number of workers may serve one link.

Example:
  gitferry worker dr --jobs 8 --health 0.0.0.0:8470")]
pub struct WorkerCommand {
    /// Links to replicate [default: all links of the configuration].
    links: Vec<String>,
    /// Repositories to deliver at a time, per link and per Git server.
    #[arg(long, default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    /// Address to serve /_health, /_ready and /_metrics on.
    #[arg(long, env = "GITFERRY_HEALTH", default_value = HEALTH_ADDRESS, value_name = "ADDR")]
    health: SocketAddr,
    /// Time for running deliveries to end after SIGTERM. Keep it below the stopTimeout of an ECS task.
    #[arg(long, default_value = "25s", value_name = "DURATION", value_parser = duration)]
    grace: Duration,
    /// Interval for reading the sources' outboxes. Raise it, to 5m for example, if a queue gets all events of their
    /// hosts.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration)]
    outbox_every: Duration,
    /// Interval for sweeps, which compare all frontiers, and both sides of all repositories with a remote.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    sweep_every: Duration,
    /// Maximum number of repositories that a sweep compares per second.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    sweep_rate: u32,
    /// Age from which a change that a sweep delivers counts as unannounced.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    announced_within: Duration,
    #[command(flatten)]
    metrics: Metrics,
    /// Interval for printing metrics.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    metrics_every: Duration,
    /// Print JSON: one line after the start, one line with counters at the end.
    #[arg(long)]
    json: bool,
}

/// Parses a duration as in the configuration: `90s`, `5m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    gitferry_config::parse_duration(text)
}

impl WorkerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        self.check_intervals()?;
        let config = context.config()?;
        let names = self.names(&config)?;
        let signals = Signals::listen()?;
        let (stop, stopped) = watch::channel(false);
        // Publishers and health endpoints stop after the deliveries.
        let (stop_rest, rest_stopped) = watch::channel(false);
        let mut rest = Supervisor::new(rest_stopped.clone());
        let links = late::open_links(&config, &names).await?;
        let sinks = start_targets(&config, &links.open, &mut rest).await;
        let late_tasks = LateTasks::default();
        let worker = late::worker(&config, links, self.options(), Some(&late_tasks), &rest_stopped).await?;
        let worker = worker.announcing(Arc::new(Fanout(sinks)));
        let status = worker.status();
        let address = self.serve_health(status.clone(), &mut rest).await?;
        rest.vital("the printing of metrics", self.metrics.repeat(status.clone(), self.metrics_every, rest.stop()));
        if self.json {
            output::json(&json!({ "health": address, "links": names }))?;
        } else {
            output::line(format!("serving {}; health on http://{address}/_health", names.join(", ")));
        }
        // No host in this process announces changes.
        let (_, no_events) = mpsc::channel(1);
        let working = async {
            tokio::select! {
                () = worker.run(no_events, stopped) => Ok(()),
                lost = rest.lost() => Err(Failure::from(std::io::Error::other(lost))),
            }
        };
        signals.until(working, || _ = stop.send_replace(true)).await?;
        stop_rest.send_replace(true);
        rest.join().await;
        late_tasks.join().await;
        if self.json {
            output::json(&json!({ "stopped": true, "counters": status.counters.to_json() }))?;
        } else {
            output::line("stopped");
        }
        Ok(Exit::Done)
    }

    fn check_intervals(&self) -> Result<(), Failure> {
        let intervals = [
            ("--outbox-every", self.outbox_every),
            ("--sweep-every", self.sweep_every),
            ("--metrics-every", self.metrics_every),
        ];
        match intervals.into_iter().find(|(_, interval)| interval.is_zero()) {
            Some((name, _)) => Err(Failure::usage(format!("{name} must be longer than zero"))),
            None => Ok(()),
        }
    }

    /// Names of the links to replicate.
    fn names(&self, config: &Config) -> Result<Vec<String>, Failure> {
        let names = if self.links.is_empty() { config.links.keys().cloned().collect() } else { self.links.clone() };
        if names.is_empty() {
            let file = config.file.display();
            return Err(Failure::usage(format!("{file} has no [links.NAME]: there is nothing to replicate")));
        }
        Ok(names)
    }

    fn options(&self) -> WorkerOptions {
        WorkerOptions {
            jobs: self.jobs,
            outbox_every: Some(self.outbox_every),
            sweep_every: self.sweep_every,
            sweep_rate: self.sweep_rate,
            announced_within: self.announced_within,
            grace: self.grace,
        }
    }

    /// Serves the health endpoints as a supervised task. Returns their address.
    async fn serve_health(&self, status: Arc<Status>, tasks: &mut Supervisor) -> Result<SocketAddr, Failure> {
        let (address, answering) = health::serve(self.health, status, tasks.stop())
            .await
            .map_err(|error| Failure::from(error).about(&format!("cannot listen on {}", self.health)))?;
        tasks.vital("the health endpoints", async move {
            if let Err(error) = answering.await {
                tracing::error!(%error, "the health endpoints stopped");
            }
        });
        Ok(address)
    }
}

/// Starts the publisher of the outbox and the garbage collection of each target. Returns the sinks that wake the
/// publishers.
async fn start_targets(config: &Config, links: &[Arc<dyn Link>], tasks: &mut Supervisor) -> Vec<Arc<dyn Sink>> {
    let mut sinks = Vec::<Arc<dyn Sink>>::new();
    for target in links.iter().filter_map(|link| link.target_region()) {
        let waker = events::publish(config, target, tasks).await;
        sinks.extend(waker.map(|waker| Arc::new(waker) as Arc<dyn Sink>));
        garbage::keep_collecting(target.clone(), tasks);
    }
    sinks
}
