//! `gitferry up`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gitferry::config::{AuthConfig, Config, DEFAULT_FILE, HostConfig, OnPush, TlsConfig};
use gitferry::events::in_process::{self, InProcess};
use gitferry::events::outbox::{self, Relay};
use gitferry::events::{Several, Sink};
use gitferry::git::local::RefPatterns;
use gitferry::host::auth::{Authorizer, Open, TokenFile};
use gitferry::host::forward::Forwarder;
use gitferry::host::listen::Listening;
use gitferry::host::listen::tls::Certificate;
use gitferry::host::push_policies::PushPolicies;
use gitferry::host::quarantines::Quarantines;
use gitferry::host::{Host, HostOptions};
use gitferry::region::Region;
use gitferry::worker::upkeep::{SWEEP_EVERY, upkeep};
use gitferry::worker::{Worker, WorkerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::context::{Context, in_force};
use super::failure::{Exit, Failure};
use super::signals::Signals;
use super::{events, init, output};

/// Run everything on this machine: a Git host for each region, and a worker that replicates between them.
#[derive(Debug, Args)]
#[command(after_help = "State stays in the folder and is there the next time. Ctrl-C or SIGTERM ends it when running
requests have ended, a second one at once. SIGHUP reads certificates again.

With --host only that region is served, and nothing is replicated: that is what `gitferry
worker` is for, elsewhere.

Example:
  gitferry up
  git push http://127.0.0.1:8411/my-repo main
  git clone http://127.0.0.1:8412/my-repo")]
pub struct Up {
    /// Where the configuration and the regions' state are; made if missing. Without --dir, --config and
    /// GITFERRY_CONFIG_TOML count, then gitferry.toml of this folder, then gitferry-data.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only the host of this region, without a worker; may be given several times.
    #[arg(long = "host", value_name = "REGION")]
    hosts: Vec<String>,
}

/// The folder that is made where no other configuration is found.
pub const USUAL_DIR: &str = "gitferry-data";

impl Up {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = self.config(context).await?;
        let served = self.served(&config)?;
        // Each connection and each open pack is a file; the usual limit is small.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        let signals = Signals::listen()?;
        let (stop_hosts, hosts_stopped) = watch::channel(false);
        let (stop_worker, worker_stopped) = watch::channel(false);
        let (to_worker, announced) = in_process::channel();
        let mut keeping = JoinSet::new();
        let sink = self.keep(&config, to_worker, &mut keeping, &worker_stopped).await?;
        let mut running = JoinSet::new();
        let mut certificates = Vec::new();
        for (region, host) in &served {
            let certificate = open_certificate(&config, host)?;
            certificates.extend(certificate.clone());
            let service = open_host(&config, context, region, host, sink.clone()).await?;
            let listening = Listening::bind(service, host.listen, certificate).map_err(|error| {
                Failure::from(error).about(&format!("cannot listen on {} for {region}", host.listen))
            })?;
            running.spawn(listening.serve(hosts_stopped.clone()));
        }
        if !certificates.is_empty() {
            tokio::spawn(reload(certificates)?);
        }
        let worker = self.open_worker(&config, context, sink).await?;
        let worker = tokio::spawn(worker.run(announced, worker_stopped));
        for (region, host) in &served {
            output::line(format!("{region:<12} {}", host.url()));
        }
        if self.replicates() {
            say(&config);
        }
        output::line("Ctrl-C stops");
        // The worker goes on until all hosts have ended: forwarded pushes wait for it.
        let hosts_stop = stop_hosts.clone();
        let all = async move {
            let mut outcome = Ok(());
            while let Some(ended) = running.join_next().await {
                let ended = ended.map_err(std::io::Error::other).flatten();
                outcome = outcome.and(ended);
                // One that failed ends the others.
                stop_hosts.send_replace(true);
            }
            stop_worker.send_replace(true);
            worker.await.map_err(std::io::Error::other)?;
            while keeping.join_next().await.is_some() {}
            Ok(outcome?)
        };
        signals.until(all, || _ = hosts_stop.send_replace(true)).await?;
        output::line("stopped");
        Ok(Exit::Done)
    }

    async fn config(&self, context: &Context) -> Result<Config, Failure> {
        if self.dir.is_none() && context.is_given() {
            return context.config();
        }
        let dir = match self.dir.as_deref() {
            Some(dir) => dir,
            None if Path::new(DEFAULT_FILE).exists() => Path::new("."),
            None => Path::new(USUAL_DIR),
        };
        let file = dir.join(DEFAULT_FILE);
        if !file.exists() {
            init::make(dir).await?;
        }
        let config = in_force(Config::load(&file)?);
        output::line(format!("configuration {}", file.display()));
        Ok(config)
    }

    /// Whether the regions are kept in step here.
    fn replicates(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The hosts that are to run.
    fn served<'a>(&self, config: &'a Config) -> Result<Vec<(&'a String, &'a HostConfig)>, Failure> {
        if let Some(unknown) = self.hosts.iter().find(|region| !config.hosts.contains_key(*region)) {
            return Err(Failure::usage(format!("{} has no [hosts.{unknown}]", config.file.display())));
        }
        let wanted = |region: &String| self.replicates() || self.hosts.contains(region);
        let served: Vec<_> = config.hosts.iter().filter(|(region, _)| wanted(region)).collect();
        match served.is_empty() {
            true => {
                let file = config.file.display();
                Err(Failure::usage(format!("{file} has no [hosts.REGION]: there is nothing to serve")))
            }
            false => Ok(served),
        }
    }

    /// Upkeep and outbox of each region. What is committed goes to the worker at once, and to the bus of its region;
    /// where there is none, what other commands or a killed host leave in the outbox goes to the worker, too.
    async fn keep(
        &self,
        config: &Config,
        to_worker: InProcess,
        keeping: &mut JoinSet<()>,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Arc<dyn Sink>, Failure> {
        let to_worker: Arc<dyn Sink> = Arc::new(to_worker);
        let mut sinks = vec![to_worker.clone()];
        let wanted = |region: &&String| self.replicates() || self.hosts.contains(region);
        for region in config.regions.keys().filter(wanted) {
            let region = Region::open_writable(config, region).await?;
            match events::publish(config, &region, keeping, stopped.clone()).await {
                Some(nudge) => sinks.push(Arc::new(nudge)),
                // The worker that is elsewhere reads the outbox.
                None if !self.replicates() => {}
                None => {
                    let relay = Relay::new(region.clone(), to_worker.clone());
                    keeping.spawn(relay.run(outbox::SWEEP_EVERY, stopped.clone()));
                }
            }
            keeping.spawn(upkeep(region, SWEEP_EVERY, stopped.clone()));
        }
        Ok(Arc::new(Several(sinks)))
    }

    /// Of all links, or of none.
    async fn open_worker(&self, config: &Config, context: &Context, sink: Arc<dyn Sink>) -> Result<Worker, Failure> {
        let options = WorkerOptions { outbox_every: None, ..WorkerOptions::default() };
        let names: Vec<&String> = config.links.keys().filter(|_| self.replicates()).collect();
        let mut links = Vec::with_capacity(names.len());
        for name in &names {
            links.push(context.any_link(config, name, true).await?);
        }
        let mut worker = Worker::new(links, options).announcing(sink);
        for name in names {
            if let Some(queue) = events::open_queue(config, name).await? {
                worker = worker.listen(name, queue);
            }
        }
        Ok(worker)
    }
}

/// Reads certificates again whenever the process is told to.
fn reload(certificates: Vec<Arc<Certificate>>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            for certificate in &certificates {
                match certificate.reload() {
                    Ok(()) => tracing::info!(?certificate, "read again"),
                    Err(error) => tracing::error!(%error, "the old certificate stays in use"),
                }
            }
        }
    })
}

fn open_certificate(config: &Config, host: &HostConfig) -> Result<Option<Arc<Certificate>>, Failure> {
    let Some(TlsConfig { cert, key }) = &host.tls else { return Ok(None) };
    Ok(Some(Arc::new(Certificate::load(config.path(cert), config.path(key))?)))
}

fn open_forwarder(config: &Config, region: &str, host: &HostConfig) -> Result<Option<Arc<Forwarder>>, Failure> {
    if host.on_push == OnPush::Refuse {
        return Ok(None);
    }
    let others: Vec<_> = config.hosts.iter().filter(|(other, _)| *other != region).collect();
    let cas: Vec<Option<PathBuf>> = others.iter().map(|(_, host)| host.ca.as_ref().map(|ca| config.path(ca))).collect();
    let others = others.iter().zip(&cas).map(|((region, host), ca)| (region.as_str(), host.url(), ca.as_deref()));
    Ok(Some(Arc::new(Forwarder::new(others)?)))
}

/// Longest look at a replica before a host starts. One that does not answer proves nothing.
const REPLICA_PATIENCE: Duration = Duration::from_secs(10);

/// Whether replicas of a region have changes that it lacks: then it was set back, and its host takes no pushes.
async fn look_at_replicas(config: &Config, context: &Context, region: &mut Region) {
    for (name, link) in config.links.iter().filter(|(_, link)| link.source == region.name && !config.has_remote(link)) {
        let look = async { Ok::<_, Failure>(context.link(config, name).await?.lost_at_source().await?) };
        let lost = match tokio::time::timeout(REPLICA_PATIENCE, look).await {
            Ok(Ok(lost)) => lost,
            Ok(Err(failure)) => {
                tracing::warn!(link = name, "the replicas cannot be looked at: {}", failure.message());
                continue;
            }
            Err(_) => {
                tracing::warn!(link = name, "the replicas did not answer in time");
                continue;
            }
        };
        if let Some(first) = lost.first() {
            let (source, target, more) = (&region.name, &link.target, lost.len() - 1);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let reason = format!(
                "{source} was set back: {target} holds changes that it lacks, of {first}{more}. It takes no pushes until \
                 its newer state is restored; `gitferry verify {name}` lists what it lacks"
            );
            tracing::error!("{reason}");
            region.set_back = Some(reason.into());
            return;
        }
    }
}

async fn open_host(
    config: &Config,
    context: &Context,
    region: &str,
    host: &HostConfig,
    events: Arc<dyn Sink>,
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
        ref_in_want: host.ref_in_want,
        create_on_push: host.create_on_push,
        urls: config.hosts.iter().map(|(region, host)| (region.clone(), host.url())).collect(),
        url: host.url.clone(),
        limits: host.limits.clone(),
        forwarder: open_forwarder(config, region, host)?,
    };
    let mut region = Region::open_writable(config, region).await?;
    look_at_replicas(config, context, &mut region).await;
    Ok(Host::new(region, authorizer, events, options))
}

fn say(config: &Config) {
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
}
