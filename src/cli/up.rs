//! `gitferry up`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use gitferry_audit::AuditTrail;
use gitferry_base::supervise::Supervisor;
use gitferry_config::{AuthConfig, Config, DEFAULT_FILE, HostConfig, IamAuth, OnPush};
use gitferry_engine::announce::{Fanout, Sink};
use gitferry_engine::region::Region;
use gitferry_git::local::RefPatterns;
use gitferry_host::auth::iam::IamAuthenticator;
use gitferry_host::auth::{Authenticator, Open};
use gitferry_host::forward::Forwarder;
use gitferry_host::{Host, HostOptions, PushPolicies, Quarantines, upstreams};
use gitferry_identity::Identities;
use gitferry_service::events::in_process::{self, InProcess};
use gitferry_service::open;
use gitferry_service::worker::{Worker, WorkerOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account_feed::Feed;
use super::aws_identities::aws_identities;
use super::context::{Context, with_memory_budgets};
use super::failure::{Exit, Failure};
use super::hosts::HostFiles;
use super::late::{self, OpenAndLate};
use super::places::USUAL_DIR;
use super::reload::Files;
use super::replicas::fence_if_rolled_back;
use super::signals::Signals;
use super::{apis, audit, init, output, region_tasks};

/// Run a Git host for each region and a worker that replicates between them, all in one process.
#[derive(Debug, Args)]
#[command(
    after_help = "State stays in the folder and is used again at the next start. Ctrl-C or SIGTERM stops the process
after running requests have ended; a second one stops it at once. SIGHUP reads certificates and
tokens again; changed files of tokens and SSH keys are noticed without it.

With --host, only that region is served and nothing is replicated: run `gitferry worker` for that.

Example:
  gitferry up
  git push http://127.0.0.1:8411/my-repo main
  git clone http://127.0.0.1:8412/my-repo"
)]
pub struct Up {
    /// Folder with the configuration and the regions' state, created if missing [default: the configuration named by
    /// --config or GITFERRY_CONFIG_TOML, else gitferry.toml of the current folder, else ./gitferry-data].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Serve only this region, without a worker; may be given several times.
    #[arg(long = "host", value_name = "REGION")]
    hosts: Vec<String>,
}

impl Up {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = self.config(context).await?;
        let served = self.served(&config)?;
        // Each connection and each open pack takes a file descriptor; the usual limit is small.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
        let signals = Signals::listen()?;
        let (stop_hosts, hosts_stopped) = watch::channel(false);
        let (stop_worker, worker_stopped) = watch::channel(false);
        let (to_worker, announced) = in_process::channel();
        let mut tasks = Supervisor::new(worker_stopped.clone());
        let sink = self.start_regions(&config, to_worker, &mut tasks).await?;
        let files = served.iter().map(|(region, host)| HostFiles::open(&config, region, host));
        let files: Vec<HostFiles> = files.collect::<Result<_, _>>()?;
        let mut reloaded = Files::default();
        files.iter().for_each(|files| files.reload_with(&mut reloaded));
        let ssh_lines: Vec<String> = files.iter().flat_map(HostFiles::ssh_lines).collect();
        let hosts = served.iter().copied().zip(files);
        let running = start_hosts(&config, hosts, &sink, &mut tasks, &hosts_stopped).await?;
        let reloaded = Arc::new(reloaded);
        let stop = tasks.stop();
        tasks.keep("the reloading of certificates, tokens and keys", move || reloaded.clone().reload(stop.clone()));
        let worker = self.open_worker(&config, sink, &worker_stopped).await?;
        tasks.vital("the worker", worker.run(announced, worker_stopped));
        for (region, host) in &served {
            output::line(format!("{region:<12} {}", host.url()));
        }
        ssh_lines.into_iter().for_each(output::line);
        if self.replicates() {
            print_links(&config);
        }
        output::line("press Ctrl-C to stop");
        let all = run_all(running, tasks, stop_hosts.clone(), stop_worker);
        signals.until(all, || _ = stop_hosts.send_replace(true)).await?;
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
        let config = with_memory_budgets(Config::load(&file)?);
        output::line(format!("configuration {}", file.display()));
        Ok(config)
    }

    /// Returns true if this process replicates between the regions.
    fn replicates(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Returns the hosts to run, with the names of their regions.
    fn served<'a>(&self, config: &'a Config) -> Result<Vec<(&'a String, &'a HostConfig)>, Failure> {
        if let Some(unknown) = self.hosts.iter().find(|region| !config.hosts.contains_key(*region)) {
            return Err(Failure::usage(format!("{} has no [hosts.{unknown}]", config.file.display())));
        }
        let wanted = |region: &String| self.replicates() || self.hosts.contains(region);
        let served: Vec<_> = config.hosts.iter().filter(|(region, _)| wanted(region)).collect();
        if served.is_empty() {
            let file = config.file.display();
            return Err(Failure::usage(format!("{file} has no [hosts.REGION]: there is nothing to serve")));
        }
        Ok(served)
    }

    /// Starts garbage collection and outbox of each region. The returned sink passes new commits on to the worker and to
    /// the bus of their region. In a region without a bus, a relay also reads the outbox for the worker, as other
    /// commands and crashed hosts leave events there.
    async fn start_regions(
        &self,
        config: &Config,
        to_worker: InProcess,
        tasks: &mut Supervisor,
    ) -> Result<Arc<dyn Sink>, Failure> {
        let to_worker: Arc<dyn Sink> = Arc::new(to_worker);
        let mut sinks = vec![to_worker.clone()];
        let wanted = |region: &&String| self.replicates() || self.hosts.contains(region);
        // A worker in another process reads the outbox itself.
        let relay_to = self.replicates().then(|| to_worker.clone());
        for name in config.regions.keys().filter(wanted) {
            match open::writable_region(config, name).await.map_err(Failure::from) {
                Ok(region) => sinks.extend(region_tasks::start(config, region, relay_to.clone(), tasks).await),
                Err(failure) if failure.is_refusal() => return Err(failure),
                Err(failure) => {
                    output::note(format!(
                        "warning: region {name} cannot be opened yet, and is tried again: {}",
                        failure.message()
                    ));
                    let config = config.clone();
                    let region = name.clone();
                    let relay_to = relay_to.clone();
                    let stop = tasks.stop();
                    let late = move || {
                        region_tasks::start_late(config.clone(), region.clone(), relay_to.clone(), stop.clone())
                    };
                    tasks.keep(format!("the opening and garbage collection of {name}"), late);
                }
            }
        }
        Ok(Arc::new(Fanout(sinks)))
    }

    /// Opens the worker: over all links, or over none with `--host`.
    async fn open_worker(
        &self,
        config: &Config,
        sink: Arc<dyn Sink>,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Worker, Failure> {
        let options = WorkerOptions { outbox_every: None, ..WorkerOptions::default() };
        let names: Vec<String> = config.links.keys().filter(|_| self.replicates()).cloned().collect();
        let links = match late::open_links(config, &names).await {
            Ok(links) => links,
            Err(failure) if failure.is_refusal() => return Err(failure),
            // The hosts run all the same, so all links are opened later.
            Err(_) => OpenAndLate { open: Vec::new(), late: names },
        };
        // Without tasks: `start_regions` collects the garbage of all regions.
        Ok(late::worker(config, links, options, None, stopped).await?.announcing(sink))
    }
}

/// Starts the hosts of regions that can be opened. The others are served as soon as they can be, unless no host starts.
async fn start_hosts(
    config: &Config,
    hosts: impl Iterator<Item = ((&String, &HostConfig), HostFiles)>,
    sink: &Arc<dyn Sink>,
    tasks: &mut Supervisor,
    stopped: &watch::Receiver<bool>,
) -> Result<JoinSet<std::io::Result<()>>, Failure> {
    let mut running = JoinSet::new();
    let mut late = Vec::new();
    for ((region, host), files) in hosts {
        match open_host(config, region, host, &files, sink.clone(), tasks).await {
            Ok(service) => _ = running.spawn(files.bind(service)?.serve(stopped.clone())),
            Err(failure) if failure.is_refusal() => return Err(failure),
            Err(failure) => late.push((Late { config: config.clone(), region: region.clone(), files }, failure)),
        }
    }
    for (late, failure) in late {
        if running.is_empty() {
            return Err(failure);
        }
        output::note(format!(
            "warning: region {} is not served yet, and is tried again: {}",
            late.region,
            failure.message()
        ));
        running.spawn(late.serve(sink.clone(), stopped.clone()));
    }
    Ok(running)
}

/// Runs until all hosts have ended, and then ends the tasks. A host or vital task that ends stops all hosts.
async fn run_all(
    mut hosts: JoinSet<std::io::Result<()>>,
    mut tasks: Supervisor,
    stop_hosts: watch::Sender<bool>,
    stop_tasks: watch::Sender<bool>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    loop {
        let ended = tokio::select! {
            ended = hosts.join_next() => match ended {
                Some(ended) => ended.map_err(std::io::Error::other).flatten(),
                None => break,
            },
            lost = tasks.lost() => Err(std::io::Error::other(lost)),
        };
        outcome = outcome.and(ended);
        stop_hosts.send_replace(true);
    }
    // The worker outlives all hosts, as forwarded pushes wait for its deliveries.
    stop_tasks.send_replace(true);
    tasks.join().await;
    Ok(outcome?)
}

/// A host whose region could not be opened yet.
struct Late {
    config: Config,
    region: String,
    files: HostFiles,
}

impl Late {
    /// Serves the region as soon as it can be opened, until `stopped`.
    async fn serve(self, sink: Arc<dyn Sink>, mut stopped: watch::Receiver<bool>) -> std::io::Result<()> {
        let Late { config, region, files } = self;
        let Some(host) = config.hosts.get(&region) else { return Ok(()) };
        loop {
            if late::open_region(&config, &region, &mut stopped).await.is_none() {
                return Ok(());
            }
            // The tasks outlive the host: its last requests have their records, too.
            let (stop_tasks, tasks_stopped) = watch::channel(false);
            let mut tasks = Supervisor::new(tasks_stopped);
            match open_host(&config, &region, host, &files, sink.clone(), &mut tasks).await {
                Ok(service) => {
                    let sockets = files.bind(service).map_err(|failure| std::io::Error::other(failure.message()))?;
                    let served = sockets.serve(stopped).await;
                    stop_tasks.send_replace(true);
                    tasks.join().await;
                    return served;
                }
                Err(failure) => tracing::warn!(error = failure.message(), region, "not served yet; tried again"),
            }
        }
    }
}

/// Opens the identities of a region's account, and follows them under `tasks`. Until the account has been read, the host
/// refuses all requests.
async fn open_identities(config: &Config, region: &Region, tasks: &mut Supervisor) -> Result<Arc<Identities>, Failure> {
    let services = open::key_services(config, Some(region.name())).await?;
    let identities = Identities::new(region, services);
    identities.run_under(tasks);
    let name = region.name();
    match Feed::read(config, region).await? {
        Feed::Sound => {}
        Feed::Unknown(reason) => output::note(format!("warning: {reason}")),
        Feed::Stopped(reason) => {
            output::note(format!("warning: the account of region {name} counts no longer: {reason}"));
            identities.abandon(reason);
        }
    }
    match identities.refresh().await {
        Ok(()) if !identities.has_account() => output::note(format!(
            "warning: region {name} has no account, so its host refuses all requests; make one with \
             `gitferry iam init --region {name}`, or replicate it from the region that has it"
        )),
        Ok(()) => {}
        Err(error) => tracing::error!(region = name, %error, "the account cannot be read yet; tried again"),
    }
    Ok(identities)
}

fn open_forwarder(config: &Config, region: &str, host: &HostConfig) -> Result<Arc<Forwarder>, Failure> {
    if host.on_push == OnPush::Refuse {
        return Ok(Arc::default());
    }
    let others: Vec<_> = config.hosts.iter().filter(|(other, _)| *other != region).collect();
    let cas: Vec<Option<PathBuf>> = others.iter().map(|(_, host)| host.ca.as_ref().map(|ca| config.path(ca))).collect();
    let others = others.iter().zip(&cas).map(|((region, host), ca)| (region.as_str(), host.url(), ca.as_deref()));
    Ok(Arc::new(Forwarder::new(others)?))
}

async fn open_host(
    config: &Config,
    region: &str,
    host: &HostConfig,
    files: &HostFiles,
    events: Arc<dyn Sink>,
    tasks: &mut Supervisor,
) -> Result<Arc<Host>, Failure> {
    let hidden = hidden_refs(host)?;
    let quarantines = Quarantines::new(host.url());
    let mut options = HostOptions {
        policies: PushPolicies::open(config, hidden.clone(), &quarantines)?,
        hidden,
        quarantines: Some(quarantines),
        ref_in_want: host.ref_in_want,
        create_on_push: host.create_on_push,
        trusted_proxies: host.trusted_proxies.clone(),
        upstreams: upstreams(config, region).map_err(Failure::usage)?,
        urls: config.hosts.iter().map(|(region, host)| (region.clone(), host.url())).collect(),
        url: host.url.clone(),
        limits: host.limits.clone(),
        forwarder: open_forwarder(config, region, host)?,
        apis: None,
        codecommit: None,
        quotas: host.quotas,
        audit: AuditTrail::default(),
        ssh: None,
    };
    let mut region = open::writable_region(config, region).await?;
    fence_if_rolled_back(config, &mut region, None).await;
    let account = match &host.auth {
        AuthConfig::Iam(IamAuth::Iam) => {
            let identities = open_identities(config, &region, tasks).await?;
            options.apis = Some(apis::open(config, &region, identities.clone(), events.clone())?);
            options.codecommit = Some(apis::codecommit(config, region.name(), host));
            Some(Arc::new(IamAuthenticator::new(region.name(), identities)))
        }
        AuthConfig::Iam(IamAuth::Aws) => {
            let identities = aws_identities(config, &region, &host.url()).await?;
            identities.run_under(tasks);
            Some(Arc::new(IamAuthenticator::new(region.name(), identities)))
        }
        AuthConfig::None(_) | AuthConfig::Tokens { .. } => None,
    };
    options.ssh = files.ssh_access(account.clone());
    let authenticator = authenticator(host, account, files);
    options.audit = audit::open(config, &region, host, tasks).await?;
    let name = region.name().to_owned();
    let host = Host::new(region, authenticator, events, options);
    let counted = host.clone();
    let stop = tasks.stop();
    tasks.keep(format!("the usage of the quotas of {name}"), move || counted.clone().keep_counting(stop.clone()));
    Ok(host)
}

fn hidden_refs(host: &HostConfig) -> Result<Option<RefPatterns>, Failure> {
    if host.hidden.is_empty() {
        return Ok(None);
    }
    RefPatterns::new(&host.hidden).map(Some).map_err(|error| Failure::usage(error.to_string()))
}

/// Authenticates by the account, or else by the file of tokens.
fn authenticator(
    host: &HostConfig,
    account: Option<Arc<IamAuthenticator>>,
    files: &HostFiles,
) -> Arc<dyn Authenticator> {
    if let Some(account) = account {
        return account;
    }
    if let Some(tokens) = files.tokens() {
        return tokens;
    }
    assert!(matches!(host.auth, AuthConfig::None(_)), "`HostFiles::open` opens the tokens of a host that has some");
    Arc::new(Open)
}

/// Prints the links, and commands to try one.
fn print_links(config: &Config) {
    for (name, link) in &config.links {
        output::line(format!("link {name:<7} {} → {}", link.source, link.target));
    }
    let example = config
        .links
        .values()
        .find(|link| config.hosts.contains_key(&link.source) && config.hosts.contains_key(&link.target));
    if let Some(link) = example {
        output::line("try:");
        output::line(format!("  git push {}/my-repo HEAD", config.hosts[&link.source].url()));
        output::line(format!("  git clone {}/my-repo", config.hosts[&link.target].url()));
    }
}
