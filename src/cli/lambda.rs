//! `gitferry lambda`

use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use gitferry_base::clock::SystemClock;
use gitferry_config::Config;
use gitferry_replication::pass::DEFAULT_JOBS;
use gitferry_service::worker::lambda;
use gitferry_service::worker::lambda::handler::{Handler, Served};
use gitferry_service::worker::lambda::links::OpenServed;
use gitferry_service::worker::lambda::runtime::{ADDRESS_VARIABLE, RuntimeApi};
use gitferry_service::worker::metrics::Figures;
use tokio::sync::watch;

use super::context::Context;
use super::events;
use super::failure::{Exit, Failure};
use super::metrics::Metrics;
use super::signals::Signals;

/// Replicate as a Lambda function with a custom runtime.
#[derive(Debug, Args)]
#[command(after_help = "A file of this program with the name `bootstrap` runs this command. The function takes SQS
batches (switch ReportBatchItemFailures on), single EventBridge events, and EventBridge
schedules, which sweep. Work stops three seconds before the deadline and goes on in the next
invocation.

Example (environment of a function):
  GITFERRY_CONFIG=/var/task/gitferry.toml, or the text itself in GITFERRY_CONFIG_TOML
  GITFERRY_LINKS=dr
  GITFERRY_METRICS=emf
  GITFERRY_LOG=info")]
pub struct Lambda {
    /// The links; all of them when left out.
    #[arg(env = "GITFERRY_LINKS", value_delimiter = ',')]
    links: Vec<String>,
    /// Repositories to work on at a time.
    #[arg(long, env = "GITFERRY_JOBS", default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    #[command(flatten)]
    metrics: Metrics,
}

impl Lambda {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Some(address) = std::env::var(ADDRESS_VARIABLE).ok().filter(|address| !address.is_empty()) else {
            return Err(Failure::usage(format!("{ADDRESS_VARIABLE} is not set: this runs as a Lambda function")));
        };
        let api = RuntimeApi::new(&address)?;
        let signals = Signals::listen()?;
        let handler = match self.open(context).await {
            Ok(handler) => handler,
            Err(failure) => {
                api.fail_to_start(failure.message()).await?;
                return Err(failure);
            }
        };
        let (stop, stopped) = watch::channel(false);
        let print = |figures: &[Figures]| self.metrics.print(figures);
        let running = async { Ok(lambda::run(&api, &handler, &SystemClock, &print, stopped).await?) };
        signals.until(running, || _ = stop.send_replace(true)).await?;
        Ok(Exit::Done)
    }

    async fn open(&self, context: &Context) -> Result<Handler, Failure> {
        let config = context.config()?;
        let names: Vec<&String> =
            if self.links.is_empty() { config.links.keys().collect() } else { self.links.iter().collect() };
        if names.is_empty() {
            return Err(Failure::usage(format!("{} has no links: there is nothing to do", config.file.display())));
        }
        let (mut served, mut late, mut first) = (Vec::new(), Vec::<Arc<dyn OpenServed>>::new(), None);
        for name in names {
            match open_served(context, &config, name).await {
                Ok(open) => served.push(open),
                Err(failure) if failure.is_refusal() => return Err(failure),
                Err(failure) => {
                    tracing::error!(reason = failure.message(), link = name, "the link does not open");
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

async fn open_served(context: &Context, config: &Config, name: &str) -> Result<Served, Failure> {
    let link = context.any_link(config, name, true).await?;
    let queue = events::open_queue(config, name).await?;
    let publisher = match link.target_region() {
        Some(target) => events::publisher(config, target).await,
        None => None,
    };
    Ok(Served { link, queue, publisher })
}

/// A link that did not open when the function started.
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
        let context = Context::new(self.config.file.clone());
        open_served(&context, &self.config, &self.name).await.map_err(|failure| failure.message().to_owned())
    }
}
