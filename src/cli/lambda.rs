//! `gitferry lambda`

use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use gitferry_base::clock::SystemClock;
use gitferry_config::Config;
use gitferry_replication::pass::DEFAULT_JOBS;
use gitferry_service::lambda;
use gitferry_service::lambda::handler::Handler;
use gitferry_service::lambda::links::{OpenServed, Served};
use gitferry_service::lambda::runtime::RuntimeApi;
use gitferry_service::worker::metrics::LinkMetrics;
use tokio::sync::watch;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::metrics::Metrics;
use super::signals::Signals;
use super::{events, links};

/// Replicate as an AWS Lambda function with a custom runtime.
#[derive(Debug, Args)]
#[command(
    after_help = "The program runs this command if its file is named `bootstrap`. The function handles SQS batches
(enable ReportBatchItemFailures), single EventBridge events, and EventBridge schedules, each of
which runs a sweep. Work stops three seconds before the deadline; the next invocation resumes it.

Environment of a function:
  GITFERRY_CONFIG=/var/task/gitferry.toml, or the text itself in GITFERRY_CONFIG_TOML
  GITFERRY_LINKS=dr
  GITFERRY_METRICS=emf
  GITFERRY_LOG=info

Example:
  gitferry lambda
  gitferry lambda dr --metrics emf"
)]
pub struct Lambda {
    /// Links to replicate [default: all links of the configuration].
    #[arg(env = "GITFERRY_LINKS", value_delimiter = ',')]
    links: Vec<String>,
    /// Repositories to deliver at a time.
    #[arg(long, env = "GITFERRY_JOBS", default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    #[command(flatten)]
    metrics: Metrics,
}

impl Lambda {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let api = RuntimeApi::from_environment()?;
        let signals = Signals::listen()?;
        let handler = match self.open(context).await {
            Ok(handler) => handler,
            Err(failure) => {
                api.fail_to_start(failure.message()).await?;
                return Err(failure);
            }
        };
        let (stop, stopped) = watch::channel(false);
        let print = |metrics: &[LinkMetrics]| self.metrics.print(metrics);
        let running = async { Ok(lambda::run(&api, &handler, &SystemClock, &print, stopped).await?) };
        signals.until(running, || _ = stop.send_replace(true)).await?;
        Ok(Exit::Done)
    }

    async fn open(&self, context: &Context) -> Result<Handler, Failure> {
        let config = context.config()?;
        let names: Vec<&String> =
            if self.links.is_empty() { config.links.keys().collect() } else { self.links.iter().collect() };
        if names.is_empty() {
            let file = config.file.display();
            return Err(Failure::usage(format!("{file} has no [links.NAME]: there is nothing to replicate")));
        }
        let mut served = Vec::new();
        let mut late = Vec::<Arc<dyn OpenServed>>::new();
        let mut first = None;
        for name in names {
            match open_served(&config, name).await {
                Ok(open) => served.push(open),
                Err(failure) if failure.is_refusal() => return Err(failure),
                Err(failure) => {
                    tracing::error!(
                        reason = failure.message(),
                        link = name,
                        "the link cannot be opened; tried again later"
                    );
                    let queue_url = config.link(name)?.queue.clone();
                    late.push(Arc::new(LateServed { config: config.clone(), name: name.clone(), queue_url }));
                    first = first.or(Some(failure));
                }
            }
        }
        match first {
            Some(failure) if served.is_empty() => Err(failure),
            _ => Ok(Handler::new(served, self.jobs).with_late(late)),
        }
    }
}

async fn open_served(config: &Config, name: &str) -> Result<Served, Failure> {
    let link = links::open_for_delivery(config, name).await?;
    let queue = events::open_queue(config, name).await?;
    let publisher = match link.target_region() {
        Some(target) => events::publisher(config, target).await,
        None => None,
    };
    Ok(Served { link, queue, publisher })
}

/// A link that could not be opened when the function started.
#[derive(Debug)]
struct LateServed {
    config: Config,
    name: String,
    queue_url: Option<String>,
}

#[async_trait]
impl OpenServed for LateServed {
    fn name(&self) -> &str {
        &self.name
    }

    fn queue_url(&self) -> Option<&str> {
        self.queue_url.as_deref()
    }

    async fn open(&self) -> Result<Served, String> {
        open_served(&self.config, &self.name).await.map_err(|failure| failure.message().to_owned())
    }
}
