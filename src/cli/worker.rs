//! `gitferry worker`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gitferry_base::supervise::Supervisor;
use gitferry_engine::announce::{Several, Sink};
use gitferry_replication::pass::DEFAULT_JOBS;
use gitferry_service::worker::upkeep::{self, upkeep};
use gitferry_service::worker::{OpenLink, Worker, WorkerOptions, health};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::links::{self, Keeping, LateLink};
use super::metrics::Metrics;
use super::signals::Signals;
use super::{events, output};

/// Where health is told when nobody says where.
pub const HEALTH_ADDRESS: &str = "127.0.0.1:8470";

/// Replicate without end: what queues announce, what outboxes hold, and what no event announced.
#[derive(Debug, Args)]
#[command(after_help = "A link's queue is in the configuration: queue and dead_letters of [links.NAME]. Without one,
changes are found by looking at the source's outbox every few seconds.

Of a remote, which sends no events but CodeCommit's, each repository that the link names in full
or has carried before is looked at every --sweep-every.

A link whose stores cannot be opened is tried again while the others are worked on; until then
/_ready says why. It says so as well when every delivery of a link fails.

GET /_health answers 200 while the worker is alive, /_ready while it gets at all that it works
with; otherwise 503. GET /_metrics has figures of each link for Prometheus; --metrics prints
them for CloudWatch. SIGTERM or Ctrl-C lets running deliveries end for --grace; what is cut off
goes on where it was. A second signal ends it at once. Any number of workers may serve one link.

Example:
  gitferry worker dr --jobs 8 --health 0.0.0.0:8470")]
pub struct WorkerCommand {
    /// The links; all of them when left out.
    links: Vec<String>,
    /// Repositories of each link, and with each Git server, to work on at a time.
    #[arg(long, default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    /// Where /_health, /_ready and /_metrics are served.
    #[arg(long, env = "GITFERRY_HEALTH", default_value = HEALTH_ADDRESS, value_name = "ADDR")]
    health: SocketAddr,
    /// How long running deliveries may take to end after SIGTERM. Keep it below the stopTimeout of an ECS task.
    #[arg(long, default_value = "25s", value_name = "DURATION", value_parser = duration)]
    grace: Duration,
    /// How often the sources' outboxes are read. Seldom is enough where a queue brings the events of their hosts.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = duration)]
    outbox_every: Duration,
    /// How often all frontiers are compared, and all repositories of remotes looked at.
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    sweep_every: Duration,
    /// How many of them a second.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    sweep_rate: u32,
    /// What a sweep delivers that was committed longer ago than this, no event has announced: it is counted.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    announced_within: Duration,
    #[command(flatten)]
    metrics: Metrics,
    /// How often metrics are printed.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = duration)]
    metrics_every: Duration,
    /// Print JSON: one line when it is ready to work, one line of counters at the end.
    #[arg(long)]
    json: bool,
}

/// A duration as in the configuration: `90s`, `5m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    gitferry_config::parse_duration(text)
}

impl WorkerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        for (name, period) in [("--outbox-every", self.outbox_every), ("--sweep-every", self.sweep_every)] {
            if period.is_zero() {
                return Err(Failure::usage(format!("{name} is longer than nothing")));
            }
        }
        if self.metrics_every.is_zero() {
            return Err(Failure::usage("--metrics-every is longer than nothing"));
        }
        let config = context.config()?;
        let names = if self.links.is_empty() { config.links.keys().cloned().collect() } else { self.links };
        if names.is_empty() {
            return Err(Failure::usage(format!("{} has no links: there is nothing to do", config.file.display())));
        }
        let signals = Signals::listen()?;
        let (stop, stopped) = watch::channel(false);
        // Publishers and the answers about health outlive the work.
        let (stop_rest, rest_stopped) = watch::channel(false);
        let mut rest = Supervisor::new(rest_stopped.clone());
        let mut sinks = Vec::<Arc<dyn Sink>>::new();
        let (links, late) = links::open(context, &config, &names).await?;
        for link in &links {
            if let Some(target) = link.target_region() {
                let nudge = events::publish(&config, target, &mut rest).await;
                sinks.extend(nudge.map(|nudge| Arc::new(nudge) as Arc<dyn Sink>));
                let (region, stop) = (target.clone(), rest.stop());
                let task = format!("the upkeep of {}", region.name);
                rest.keep(task, move || upkeep(region.clone(), upkeep::SWEEP_EVERY, stop.clone()));
            }
        }
        let keeping = Keeping::default();
        let late_link = |name: String| {
            let (config, keeping, stopped) = (config.clone(), Some(keeping.clone()), rest_stopped.clone());
            Arc::new(LateLink { config, name, keeping, stopped }) as Arc<dyn OpenLink>
        };
        let opened: Vec<String> = links.iter().map(|link| link.name().to_owned()).collect();
        let late: Vec<Arc<dyn OpenLink>> = late.into_iter().map(late_link).collect();
        let options = WorkerOptions {
            jobs: self.jobs,
            outbox_every: Some(self.outbox_every),
            sweep_every: self.sweep_every,
            sweep_rate: self.sweep_rate,
            announced_within: self.announced_within,
            grace: self.grace,
        };
        let mut worker = Worker::over(links, late, options).announcing(Arc::new(Several(sinks)));
        for name in &opened {
            if let Some(queue) = events::open_queue(&config, name).await? {
                worker = worker.listen(name, queue);
            }
        }
        let status = worker.status();
        rest.vital("the printing of metrics", self.metrics.repeat(status.clone(), self.metrics_every, rest.stop()));
        let (address, answering) = health::serve(self.health, status.clone(), rest_stopped)
            .await
            .map_err(|error| Failure::from(error).about(&format!("cannot listen on {}", self.health)))?;
        rest.vital("the answering about health", async move {
            if let Err(error) = answering.await {
                tracing::error!(%error, "health is no longer answered");
            }
        });
        match self.json {
            true => output::json(&json!({ "health": address, "links": names }))?,
            false => output::line(format!("serving {}; health on http://{address}/_health", names.join(", "))),
        }
        // Nothing in this process announces anything.
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
        keeping.join().await;
        match self.json {
            true => output::json(&json!({ "stopped": true, "counters": status.counters.to_json() }))?,
            false => output::line("stopped"),
        }
        Ok(Exit::Done)
    }
}
