//! `gitferry up`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use gitferry::config::{AuthConfig, Config, DEFAULT_FILE, HostConfig};
use gitferry::events::in_process;
use gitferry::git::local::RefPatterns;
use gitferry::host::auth::{Authorizer, Open, TokenFile};
use gitferry::host::push_policies::PushPolicies;
use gitferry::host::quarantines::Quarantines;
use gitferry::host::{Host, HostOptions};
use gitferry::region::Region;
use gitferry::replication::deliver::Link;
use gitferry::worker::upkeep::{SWEEP_EVERY, upkeep};
use gitferry::worker::{Worker, WorkerOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::{init, output};

/// Run everything on this machine: a Git host for each region, and a worker that replicates between them.
#[derive(Debug, Args)]
#[command(
    after_help = "State stays in the folder and is there the next time. Ctrl-C ends it when running requests have ended.

Example:
  gitferry up
  git push http://127.0.0.1:8411/my-repo main
  git clone http://127.0.0.1:8412/my-repo"
)]
pub struct Up {
    /// Where the configuration and the regions' state are; made if missing.
    #[arg(long, default_value = "gitferry-data", value_name = "DIR")]
    dir: PathBuf,
}

impl Up {
    pub async fn run(self) -> Result<Exit, Failure> {
        let file = self.dir.join(DEFAULT_FILE);
        if !file.exists() {
            init::write(&self.dir)?;
        }
        let config = Config::load(&file)?;
        if config.hosts.is_empty() {
            return Err(Failure::usage(format!("{} has no [hosts.REGION]: there is nothing to serve", file.display())));
        }
        let (stop, stopped) = watch::channel(false);
        let (sink, events) = in_process::channel();
        let mut running = JoinSet::new();
        for (region, host) in &config.hosts {
            let listener = TcpListener::bind(host.listen).await.map_err(|error| {
                Failure::from(error).about(&format!("cannot listen on {} for {region}", host.listen))
            })?;
            let service = open_host(&config, region, host, Arc::new(sink.clone()))?.router();
            let mut stopped = stopped.clone();
            let ended = async move { _ = stopped.wait_for(|stop| *stop).await };
            running.spawn(async move { axum::serve(listener, service).with_graceful_shutdown(ended).await });
        }
        drop(sink);
        let mut keeping = JoinSet::new();
        for region in config.regions.keys() {
            keeping.spawn(upkeep(Region::open(&config, region)?, SWEEP_EVERY, stopped.clone()));
        }
        let worker = Worker::new(open_links(&config, &file)?, WorkerOptions::default());
        let worker = tokio::spawn(worker.run(events, stopped));
        say(&config);
        let outcome = tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(()),
            Some(ended) = running.join_next() => ended.map_err(std::io::Error::other)?,
        };
        stop.send_replace(true);
        while let Some(ended) = running.join_next().await {
            ended.map_err(std::io::Error::other)??;
        }
        worker.await.map_err(std::io::Error::other)?;
        while keeping.join_next().await.is_some() {}
        outcome?;
        output::line("stopped");
        Ok(Exit::Done)
    }
}

fn open_host(
    config: &Config,
    region: &str,
    host: &HostConfig,
    events: Arc<in_process::InProcess>,
) -> Result<Arc<Host>, Failure> {
    let authorizer: Arc<dyn Authorizer> = match &host.auth {
        AuthConfig::None(_) => Arc::new(Open),
        AuthConfig::Tokens { tokens } => {
            let file = TokenFile::load(&config.path(tokens)).map_err(|error| Failure::usage(error.to_string()))?;
            Arc::new(file)
        }
    };
    let hidden = match host.hidden.is_empty() {
        true => None,
        false => Some(RefPatterns::new(&host.hidden).map_err(|error| Failure::usage(error.to_string()))?),
    };
    let quarantines = Quarantines::new(host.url());
    let options = HostOptions {
        policies: PushPolicies::open(config, hidden.clone(), &quarantines)?,
        hidden,
        quarantines: Some(quarantines),
        create_on_push: host.create_on_push,
        urls: config.hosts.iter().map(|(region, host)| (region.clone(), host.url())).collect(),
        ..HostOptions::default()
    };
    Ok(Host::new(Region::open(config, region)?, authorizer, events, options))
}

fn open_links(config: &Config, file: &std::path::Path) -> Result<Vec<Link>, Failure> {
    let context = Context::new(file.to_owned());
    config.links.keys().map(|name| context.link(config, name)).collect()
}

fn say(config: &Config) {
    for (region, host) in &config.hosts {
        output::line(format!("{region:<12} {}", host.url()));
    }
    for (name, link) in &config.links {
        output::line(format!("link {name:<7} {} → {}", link.source, link.target));
    }
    let pushed = config
        .links
        .values()
        .find(|link| config.hosts.contains_key(&link.source) && config.hosts.contains_key(&link.target));
    if let Some(link) = pushed {
        output::line("try:");
        output::line(format!("  git push {}/my-repo HEAD", config.hosts[&link.source].url()));
        output::line(format!("  git clone {}/my-repo", config.hosts[&link.target].url()));
    }
    output::line("Ctrl-C stops");
}
