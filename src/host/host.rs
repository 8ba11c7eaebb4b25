//! A host, put together from its services.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use tokio::sync::watch;

use super::admission::{AdmissionMetrics, compute_pool};
use super::announcer::Announcer;
use super::apis::ApiDoor;
use super::auth::Authenticator;
use super::client::Clients;
use super::codecommit::ApiRepositories;
use super::exchange::Exchanges;
use super::fetch::upload_pack::UploadPack;
use super::fetch::{Fetches, QuarantineFetches};
use super::forward::Forwarder;
use super::forward::push::Forwarding;
use super::frontier::Frontiers;
use super::head::DefaultBranches;
use super::lfs::{Endpoints, LfsService, Repositories};
use super::metrics::{self, Metrics, MetricsPage, Observer, QueueMetrics};
use super::push::Pushes;
use super::push::create_on_push::{Creation, Upstream};
use super::push::destination::Destinations;
use super::push::policies::PushPolicies;
use super::push::quarantines::Quarantines;
use super::push::receive_pack::ReceivePack;
use super::quotas::Quotas;
use super::readiness::Readiness;
use super::request::access_control::AccessControl;
use super::request::account_guard::AccountGuard;
use super::request::browser_guard::BrowserGuard;
use super::request::urls::HostUrls;
use super::request::{Requests, Services};
use super::ssh::identities::SshAccess;
use super::ssh::lfs_tokens::LfsTokens;
use super::views::Views;
use gitferry_api::Apis;
use gitferry_audit::AuditTrail;
use gitferry_codecommit::Settings;
use gitferry_config::{HostLimits, Network, QuotaConfig};
use gitferry_engine::announce::Sink;
use gitferry_engine::region::Region;
use gitferry_git::local::RefPatterns;

/// Options of a [`Host`].
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Limits on concurrency, and timeouts.
    pub limits: HostLimits,
    /// Rules that pushes have to meet, by repository.
    pub policies: PushPolicies,
    /// Refs that are hidden from every client; `None` hides none. The same patterns have to be in `policies`.
    pub hidden: Option<RefPatterns>,
    /// Pushes in quarantine that hooks at a URL may fetch from.
    pub quarantines: Option<Arc<Quarantines>>,
    /// True if fetches may want refs by name (`ref-in-want` of protocol version 2).
    pub ref_in_want: bool,
    /// True if a push to a name without a repository creates the repository.
    pub create_on_push: bool,
    /// Networks of the proxies whose forwarding headers are trusted.
    pub trusted_proxies: Vec<Network>,
    /// Links that replicate repositories into this region. A push does not create those here.
    pub upstreams: Vec<Upstream>,
    /// URLs of the hosts, by region.
    pub urls: BTreeMap<String, String>,
    /// URL of this host for the hrefs of Git LFS; by default the URL that the client has used.
    pub url: Option<String>,
    /// Access over SSH; `None` for a host without an SSH server.
    pub ssh: Option<SshAccess>,
    /// Forwards pushes to the primary. A push to a replica whose primary it does not know is refused.
    pub forwarder: Arc<Forwarder>,
    /// APIs of AWS, for a host with an account.
    pub apis: Option<Arc<Apis>>,
    /// Settings of CodeCommit's API, for a host that has `apis`.
    pub codecommit: Option<Settings>,
    /// Quotas of the region, where the account sets no others.
    pub quotas: QuotaConfig,
    /// Audit trail of the host; by default none.
    pub audit: AuditTrail,
}

/// The Git host of one region.
#[derive(Debug)]
pub struct Host {
    region: Region,
    urls: Arc<HostUrls>,
    ssh: Option<SshAccess>,
    limits: HostLimits,
    authenticator: Arc<dyn Authenticator>,
    exchanges: Arc<Exchanges>,
    requests: Arc<Requests>,
    metrics: Arc<Metrics>,
    audit: AuditTrail,
    quotas: Arc<Quotas>,
}

impl Host {
    /// Creates the host of `region`. `events` receives every change that is committed here.
    pub fn new(
        region: Region,
        authenticator: Arc<dyn Authenticator>,
        events: Arc<dyn Sink>,
        options: HostOptions,
    ) -> Arc<Self> {
        let limits = options.limits.clone();
        let audit = options.audit.clone();
        let urls = Arc::new(HostUrls::new(region.name(), options.urls.clone()));
        let metrics = Metrics::new(region.name());
        let queues = AdmissionMetrics { requests: metrics.queue("git"), compute: metrics.queue("compute") };
        let exchanges = Exchanges::new(&limits, queues);
        let clients = Clients::new(region.shared_clock().clone(), options.trusted_proxies.clone());
        let guard = BrowserGuard::new(authenticator.allows_anonymous(), urls.clone());
        let announcer = Announcer::new(region.name(), events);
        let account = AccountGuard::new(region.clone());
        let quotas = Quotas::new(authenticator.clone(), options.quotas, metrics.clone());
        let ssh = options.ssh.clone();
        let lfs_tokens = ssh.as_ref().map(|ssh| LfsTokens::new(ssh, region.shared_clock().clone()));
        let services = services(&region, &urls, &exchanges, &announcer, &metrics, &quotas, options);
        let secure = urls.own().is_some_and(|url| url.starts_with("https:"));
        let access =
            AccessControl { authenticator: authenticator.clone(), lfs_tokens, account, quotas: quotas.clone(), secure };
        let requests = Arc::new(Requests::new(clients, guard, access, services, limits.clone()));
        Arc::new(Host { region, urls, ssh, limits, authenticator, exchanges, requests, metrics, audit, quotas })
    }

    /// The HTTP service of this host.
    pub fn router(&self) -> Router {
        let observer = Observer { metrics: self.metrics.clone(), audit: self.audit.clone() };
        let observing = from_fn_with_state(Arc::new(observer), metrics::observe);
        Router::new().fallback(answer).layer(observing).with_state(self.requests.clone())
    }

    /// Counts what the quotas limit until `stop` turns true.
    pub async fn keep_counting(self: Arc<Self>, stop: watch::Receiver<bool>) {
        self.quotas.clone().keep_counting(self.region.clone(), stop).await;
    }

    /// Waits until no Git request is in progress.
    pub async fn wait_until_idle(&self) {
        self.exchanges.wait_until_idle().await;
    }

    /// Audit trail of this host. Every front door begins an entry of it for each request.
    pub fn audit(&self) -> &AuditTrail {
        &self.audit
    }

    /// Metrics of this host.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The services of this host.
    pub(crate) fn services(&self) -> &Services {
        self.requests.services()
    }

    /// Access to the repositories of this host.
    pub(crate) fn access(&self) -> &AccessControl {
        self.requests.access()
    }

    /// Access over SSH; `None` for a host without an SSH server.
    pub(crate) fn ssh(&self) -> Option<&SshAccess> {
        self.ssh.as_ref()
    }

    /// URL of this host for clients; empty if it is not configured.
    pub(crate) fn url(&self) -> &str {
        self.urls.own().unwrap_or_default()
    }

    /// A new id for the log.
    pub(crate) fn new_request_id(&self) -> String {
        self.region.clock().new_id().simple().to_string()
    }

    /// Name of the host's region.
    pub fn region_name(&self) -> &str {
        self.region.name()
    }

    /// Limits on concurrency, and timeouts.
    pub fn limits(&self) -> &HostLimits {
        &self.limits
    }

    /// Returns true if requests need no credentials.
    pub fn allows_anonymous(&self) -> bool {
        self.authenticator.allows_anonymous()
    }
}

async fn answer(State(requests): State<Arc<Requests>>, request: Request) -> Response {
    requests.answer(request).await
}

fn services(
    region: &Region,
    urls: &Arc<HostUrls>,
    exchanges: &Arc<Exchanges>,
    announcer: &Announcer,
    metrics: &Arc<Metrics>,
    quotas: &Arc<Quotas>,
    options: HostOptions,
) -> Services {
    let HostOptions { limits, hidden, quarantines, ref_in_want, forwarder, audit, .. } = options;
    let views = Arc::new(Views::new(region.clone(), hidden));
    let policies = Arc::new(options.policies);
    let creation =
        Creation::new(region.name(), options.create_on_push, options.upstreams, urls.clone(), forwarder.clone());
    let creation = Arc::new(creation);
    // A push waits for its hook while it holds a slot, so the fetches of hooks have an admission of their own.
    let hook_queues = AdmissionMetrics { requests: metrics.queue("hooks"), compute: metrics.queue("hook_compute") };
    let hook_exchanges = Exchanges::new(&limits, hook_queues);
    let pushes = Pushes::new(
        views.clone(),
        Destinations::new(region.clone(), urls.clone(), views.clone(), creation.clone(), forwarder.clone()),
        Forwarding::new(region.clone(), exchanges.clone(), announcer.clone(), limits.forward_wait),
        exchanges.clone(),
        ReceivePack::new(
            region.clone(),
            views.clone(),
            policies.clone(),
            announcer.clone(),
            metrics.clone(),
            quotas.clone(),
        ),
        quotas.clone(),
    );
    let repositories = ApiRepositories {
        region: region.clone(),
        views: views.clone(),
        policies: policies.clone(),
        announcer: announcer.clone(),
        quotas: quotas.clone(),
        creation: creation.clone(),
        compute: compute_pool(QueueMetrics::default()),
    };
    let api_queues = ["apis", "apis_large"]
        .map(|name| AdmissionMetrics { requests: metrics.queue(name), ..AdmissionMetrics::default() });
    let apis = ApiDoor::new(options.apis, repositories.apis(options.codecommit), &limits, api_queues);
    let repositories =
        Repositories::new(region.clone(), creation, forwarder, urls.clone(), announcer.clone(), quotas.clone());
    let endpoints = Endpoints::new(urls.clone(), options.url);
    Services {
        readiness: Readiness::new(region.clone()),
        metrics: MetricsPage::new(region.clone(), metrics.clone(), audit),
        quarantines: QuarantineFetches::new(quarantines, UploadPack::new(hook_exchanges, metrics.clone(), ref_in_want)),
        fetches: Fetches::new(views.clone(), UploadPack::new(exchanges.clone(), metrics.clone(), ref_in_want)),
        pushes,
        frontiers: Frontiers::new(views),
        default_branches: DefaultBranches::new(region.clone(), announcer.clone(), limits.request_silence),
        lfs: LfsService::new(region, repositories, endpoints, &policies, &limits, metrics),
        apis,
    }
}
