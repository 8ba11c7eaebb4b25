//! Host of one region: serves the region's repositories with Git over smart HTTP (gitprotocol-http) and Git LFS.
//!
//! This layer covers HTTP, authentication and routing to repositories. The Git protocol is implemented in
//! `gitferry_git` and runs on one thread per request, within the [`HostLimits`].

mod admission;
pub mod auth;
mod body;
pub mod client;
pub mod create_on_push;
mod cross_site;
mod drain;
mod fair_share;
mod fetch;
pub mod forward;
pub mod head;
pub mod hook;
mod lfs;
pub mod listen;
pub mod maintenance;
mod metrics;
mod proxies;
mod push;
pub mod push_policies;
pub mod quarantines;
mod rebinding;
pub mod route;
pub mod tokens;
pub mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use tokio::runtime::Handle;
use tracing::Instrument as _;

use admission::{Admission, Slot};
use auth::{Access, Authorizer, Denied, Identity};
use client::Client;
use create_on_push::Upstream;
use forward::{Forwarder, RepositoryFrontier};
use gitferry_base::Kind;
use gitferry_config::{HostLimits, Network};
use gitferry_engine::announce::Sink;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::limits::WALK_STACK_BYTES;
use gitferry_git::local::RefPatterns;
use gitferry_git::protocol::{Service as GitService, Version};
use gitferry_git::refname::NameError;
use listen::ClientConnection;
use push_policies::PushPolicies;
use quarantines::Quarantines;
use route::{Route, Service};
use views::Views;

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
    /// Forwards pushes to the primary; without one, a push to a replica is refused.
    pub forwarder: Option<Arc<Forwarder>>,
}

/// The Git host of one region.
#[derive(Debug)]
pub struct Host {
    region: Region,
    views: Arc<Views>,
    policies: PushPolicies,
    quarantines: Option<Arc<Quarantines>>,
    ref_in_want: bool,
    create_on_push: bool,
    upstreams: Vec<Upstream>,
    trusted_proxies: Vec<Network>,
    urls: BTreeMap<String, String>,
    url: Option<String>,
    transfers: lfs::Transfers,
    authorizer: Arc<dyn Authorizer>,
    events: Arc<dyn Sink>,
    admission: Admission,
    /// Separate admission for the fetches of hooks: a push waits for its hook while it holds a slot of `admission`.
    hook_admission: Admission,
    limits: HostLimits,
    forwarder: Option<Arc<Forwarder>>,
    metrics: metrics::Metrics,
}

impl Host {
    /// Creates the host of `region`. `events` receives every change that is committed here.
    pub fn new(
        region: Region,
        authorizer: Arc<dyn Authorizer>,
        events: Arc<dyn Sink>,
        options: HostOptions,
    ) -> Arc<Self> {
        let HostOptions {
            limits,
            policies,
            hidden,
            quarantines,
            ref_in_want,
            create_on_push,
            upstreams,
            trusted_proxies,
            urls,
            url,
            forwarder,
        } = options;
        let views = Arc::new(Views::new(region.clone(), hidden));
        let admission = Admission::new(&limits);
        let hook_admission = Admission::new(&limits);
        let transfers = lfs::Transfers::new(&limits);
        Arc::new(Host {
            region,
            views,
            policies,
            quarantines,
            ref_in_want,
            create_on_push,
            upstreams,
            trusted_proxies,
            urls,
            url,
            transfers,
            authorizer,
            events,
            admission,
            hook_admission,
            limits,
            forwarder,
            metrics: metrics::Metrics::default(),
        })
    }

    /// The HTTP service of this host.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(self)
    }

    /// Waits until no Git request is in progress.
    pub async fn wait_until_idle(&self) {
        self.admission.wait_until_idle().await;
    }
}

/// Response header with the id of the request, which is also in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Path of the liveness check. Never refused when the host is busy.
const HEALTH: &str = "/_health";
/// Path of the readiness check: are the stores of the region usable? Never refused when the host is busy.
const READY: &str = "/_ready";
/// Path of the metrics, in Prometheus's text format.
const METRICS: &str = "/_metrics";

/// Reason for refusing a request before the Git protocol begins.
#[derive(Debug)]
enum Refusal {
    Denied(Denied),
    /// Forbidden by a rule. The text names the rule and the alternative.
    Forbidden(String),
    NotFound,
    /// The path holds a name that no repository can have.
    Name(NameError),
    Method,
    /// The request is addressed to another host.
    Misdirected,
    /// A web page of another site made the browser send the request.
    CrossSite,
    BadRequest(String),
    /// The body has another media type than this one.
    MediaType(&'static str),
    /// The body did not arrive within the idle timeout.
    IdleTimeout,
    /// Admission control refused the request.
    Busy,
    /// The primary's host refused a forwarded push, or could not be reached.
    Primary(StatusCode, String),
    Region(RegionError),
}

impl From<admission::Busy> for Refusal {
    fn from(_: admission::Busy) -> Self {
        Refusal::Busy
    }
}

/// Converts errors of reading a request's body.
impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Refusal::IdleTimeout,
            std::io::ErrorKind::ResourceBusy => Refusal::Busy,
            _ => Refusal::BadRequest(format!("the request's body ends early: {error}")),
        }
    }
}

impl From<route::RouteError> for Refusal {
    fn from(error: route::RouteError) -> Self {
        match error {
            route::RouteError::NotFound => Refusal::NotFound,
            route::RouteError::InvalidName(error) => Refusal::Name(error),
        }
    }
}

impl From<RegionError> for Refusal {
    fn from(error: RegionError) -> Self {
        match error.kind() {
            Kind::NotFound => Refusal::NotFound,
            _ => Refusal::Region(error),
        }
    }
}

async fn answer(State(host): State<Arc<Host>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let connection = parts.extensions.remove::<Arc<ClientConnection>>();
    let peer = connection.as_ref().and_then(|connection| Some(connection.peer?.ip()));
    let info = proxies::client_info(peer, &host.trusted_proxies, &parts.headers);
    let client = Client::new(host.region.clock.new_id().simple().to_string(), info, connection);
    // The rest of a quarantine's path is a secret.
    let path = if parts.uri.path().starts_with(quarantines::PREFIX) { quarantines::PREFIX } else { parts.uri.path() };
    // At the highest level, so that messages of every level have it as context.
    let span = tracing::error_span!(
        "request",
        request_id = client.request_id,
        address = client.info.address.map(tracing::field::display),
        method = %parts.method,
        path,
        repository = tracing::field::Empty,
        actor = tracing::field::Empty,
    );
    host.respond(client, parts, body).instrument(span).await
}

impl Host {
    /// Answers a request. The response begins when the body has been read or dropped; see [`drain`].
    async fn respond(self: Arc<Self>, client: Arc<Client>, parts: Parts, body: Body) -> Response {
        let start = tokio::time::Instant::now();
        let (body, delay) = drain::track(&parts.headers, body);
        let request = Request::from_parts(parts, body);
        // The rest of a quarantine's path is a secret.
        let is_secret = request.uri().path().starts_with(quarantines::PREFIX);
        let path = if is_secret { quarantines::PREFIX } else { request.uri().path() }.to_owned();
        let idle_timeout = self.limits.request_silence;
        let is_reserved = client.connection.as_ref().is_some_and(|connection| connection.reserved);
        let is_health_check = [HEALTH, READY].contains(&request.uri().path());
        let routed = if !self.is_addressed_here(&request) {
            Err(Refusal::Misdirected)
        } else if self.is_cross_site(&request, &client) {
            Err(Refusal::CrossSite)
        } else if is_reserved && !is_health_check {
            Err(Refusal::Busy)
        } else {
            client.clone().scope(self.route(request)).await
        };
        let response = routed.unwrap_or_else(|refusal| match refusal {
            // The path as in the URL, percent-encoded: it has no control characters.
            Refusal::NotFound => (StatusCode::NOT_FOUND, format!("not found: {path}\n")).into_response(),
            refusal => refuse(refusal),
        });
        let mut response =
            delay.until_read(response, idle_timeout, || client.is_revoked(), || refuse(Refusal::Busy)).await;
        if let Ok(id) = HeaderValue::from_str(&client.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let milliseconds = start.elapsed().as_millis() as u64;
        tracing::info!(status = response.status().as_u16(), milliseconds, "answered");
        response
    }

    /// Returns true if the request is addressed to this host. A host with authentication accepts every name; see
    /// [`rebinding`].
    fn is_addressed_here(&self, request: &Request) -> bool {
        if !self.authorizer.allows_anonymous() {
            return true;
        }
        let header = request.headers().get(header::HOST);
        let asked = match (request.uri().authority(), header) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(header)) => header.to_str().unwrap_or_default(),
            // HTTP/1.0 without the header: not a browser.
            (None, None) => return true,
        };
        rebinding::is_own_authority(asked, self.urls.get(&self.region.name).map(String::as_str))
    }

    /// Returns true if a web page of another site made the browser send the request; see [`cross_site`].
    fn is_cross_site(&self, request: &Request, client: &Client) -> bool {
        let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let asked = request.uri().authority().map(|authority| authority.as_str()).or(header);
        let own = self.urls.get(&self.region.name).map(|url| cross_site::authority_of(url));
        let forwarded = client.info.host.as_ref().map(|host| host.as_str());
        cross_site::is_cross_site(request.headers(), asked.into_iter().chain(own).chain(forwarded))
    }

    async fn route(self: Arc<Self>, request: Request) -> Result<Response, Refusal> {
        if request.uri().path() == HEALTH {
            return Ok("ok\n".into_response());
        }
        if request.uri().path() == READY {
            return Ok(self.ready().await);
        }
        if request.uri().path() == METRICS {
            return self.show_metrics(request.method()).await;
        }
        if let Some(path) = request.uri().path().strip_prefix(quarantines::PREFIX).map(str::to_owned) {
            return self.quarantined(&path, request).await;
        }
        let route = route::parse(request.uri().path())?;
        tracing::Span::current().record("repository", &route.repository);
        let (parts, body) = request.into_parts();
        match (route.service, &parts.method) {
            // The server omits the body of a response to HEAD.
            (Service::InfoRefs, &Method::GET | &Method::HEAD) => self.info_refs(route, &parts).await,
            (Service::Frontier, &Method::GET | &Method::HEAD) => self.frontier(&route.repository, &parts.headers).await,
            (Service::UploadPack, &Method::POST) => self.upload_pack(route, &parts.headers, body).await,
            (Service::ReceivePack, &Method::POST) => self.receive_pack(route, &parts.headers, body).await,
            (Service::Head, &Method::PUT) => self.put_head(&route, &parts, body).await,
            (Service::InfoRefs | Service::Frontier | Service::Head | Service::UploadPack | Service::ReceivePack, _) => {
                Err(Refusal::Method)
            }
            (Service::LfsBatch | Service::LfsObject | Service::LfsVerify | Service::LfsLocks, _) => {
                Ok(self.lfs(route, parts, body).await)
            }
        }
    }

    /// Answers the readiness check. The reason of a failure goes to the log only, as any client may ask.
    async fn ready(&self) -> Response {
        if self.region.check_stores().await.is_ok() && self.region.set_back.is_none() {
            return "ok\n".into_response();
        }
        let reason = format!("region {} cannot be used; the operator's log says why\n", self.region.name);
        (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
    }

    fn authorize(&self, headers: &HeaderMap, repository: &str, access: Access) -> Result<Identity, Refusal> {
        let identity = self.authorizer.authorize(headers, repository, access).map_err(Refusal::Denied)?;
        tracing::Span::current().record("actor", &identity.name);
        // Without authentication all clients have one name: they are told apart by network.
        if !self.authorizer.allows_anonymous() {
            Client::current().set_token_name(&identity.name);
        }
        Ok(identity)
    }

    /// Answers with the frontier of a repository.
    async fn frontier(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        self.authorize(headers, repository, Access::Read)?;
        let item = self.views.head(repository).await?;
        let answer = RepositoryFrontier { repository: item.id, frontier: item.head.frontier };
        let text =
            serde_json::to_string(&answer).map_err(|error| Refusal::Region(std::io::Error::from(error).into()))?;
        git_response("application/json".into(), text.into())
    }

    /// Admits a request whose body is read while its response is written. A compressed body fails after `max_inflated`
    /// bytes.
    async fn begin_exchange(
        &self,
        admission: &Admission,
        headers: &HeaderMap,
        input: Body,
        max_inflated: u64,
    ) -> Result<Exchange, Refusal> {
        let slot = admission.admit().await?;
        let input = body::await_first(body::chunks(input, self.limits.request_silence, Some(slot.clone()))).await?;
        let runtime = Handle::current();
        let input = body::reader(headers, input, &runtime, max_inflated).map_err(Refusal::BadRequest)?;
        let (sender, response) = body::channel(self.limits.response_silence, &runtime);
        Ok(Exchange { slot, input, sender, response, runtime })
    }

    /// Admits a request and returns the body of its response, which `write` produces on a thread of its own.
    async fn stream_response(
        &self,
        admission: &Admission,
        write: impl FnOnce(&mut body::Sender) -> std::io::Result<()> + Send + 'static,
    ) -> Result<Body, Refusal> {
        let slot = admission.admit().await?;
        let runtime = Handle::current();
        let (mut sender, response) = body::channel(self.limits.response_silence, &runtime);
        spawn_request_thread(move || {
            sender.release_while_waiting(slot.begin_compute(&runtime));
            match write(&mut sender) {
                // The response is complete; a client that disconnects now loses only its own copy.
                Ok(()) => _ = sender.finish(),
                Err(error) => {
                    tracing::debug!(%error, "a response ended early");
                    sender.fail(error.to_string());
                }
            }
        })?;
        Ok(response)
    }

    async fn info_refs(&self, route: Route, request: &Parts) -> Result<Response, Refusal> {
        let query = request.uri.query().unwrap_or_default();
        let service = query.split('&').find_map(|pair| pair.strip_prefix("service="));
        // A request without a service is of the dumb protocol, which this host does not serve.
        let service = service.and_then(route::decode).and_then(|name| GitService::from_name(name.as_bytes()));
        let service = service.ok_or_else(|| Refusal::BadRequest("only Git's smart protocol is spoken here".into()))?;
        match service {
            GitService::UploadPack => {
                self.authorize(&request.headers, &route.repository, Access::Read)?;
                self.advertise_fetch(&route.repository, version(&request.headers)).await
            }
            GitService::ReceivePack => {
                self.authorize(&request.headers, &route.repository, Access::Write)?;
                self.advertise_push(&route.repository, &request.headers).await
            }
        }
    }
}

/// A request that has been admitted, for the thread that answers it.
struct Exchange {
    slot: Slot,
    input: body::LazyReader,
    sender: body::Sender,
    /// The body that `sender` writes.
    response: Body,
    runtime: Handle,
}

/// Runs the work of a request on a thread of its own. The threads of the runtime serve stores and tables, and slow
/// clients must not block them.
fn spawn_request_thread(work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    let span = tracing::Span::current();
    let thread = std::thread::Builder::new().name("git-request".into()).stack_size(WALK_STACK_BYTES);
    match thread.spawn(move || span.in_scope(work)) {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(%error, "the thread of a request could not be started; the request is answered 503");
            Err(Refusal::Busy)
        }
    }
}

/// Refuses a body of another media type: web pages may send some media types across sites without a preflight request.
fn check_content_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|sent| sent.as_bytes().split(|byte| *byte == b';').next());
    if sent.is_some_and(|sent| sent.trim_ascii().eq_ignore_ascii_case(expected.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::MediaType(expected))
    }
}

/// Protocol version of a request, from the header `Git-Protocol`.
fn version(headers: &HeaderMap) -> Version {
    headers.get("git-protocol").map(|value| Version::negotiate(value.as_bytes())).unwrap_or_default()
}

/// Response of a Git service, with headers that forbid caching.
fn git_response(content_type: String, body: Body) -> Result<Response, Refusal> {
    let content_type = HeaderValue::from_str(&content_type).map_err(|error| Refusal::BadRequest(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0, must-revalidate")),
        (header::EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, body).into_response())
}

/// Challenge of a 401 response (`WWW-Authenticate`).
const CHALLENGE: &str = "Basic realm=\"gitferry\", charset=\"UTF-8\"";
/// Seconds after which a client that was answered 503 may retry (`Retry-After`).
const RETRY_AFTER_SECONDS: &str = "5";

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Denied(Denied::Unknown) => {
            let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
            (StatusCode::UNAUTHORIZED, challenge, "credentials are needed\n").into_response()
        }
        Refusal::Denied(Denied::Forbidden) => (StatusCode::FORBIDDEN, "not allowed\n").into_response(),
        Refusal::Forbidden(reason) => (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response(),
        Refusal::NotFound => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        Refusal::Name(error) => (StatusCode::NOT_FOUND, format!("not found: {error}\n")).into_response(),
        Refusal::Misdirected => {
            let reason = "without authentication this host answers to localhost and its own url only\n";
            (StatusCode::MISDIRECTED_REQUEST, reason).into_response()
        }
        Refusal::CrossSite => {
            (StatusCode::FORBIDDEN, "requests that pages of other sites make are not answered\n").into_response()
        }
        Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").into_response(),
        Refusal::MediaType(expected) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {expected}\n")).into_response()
        }
        Refusal::IdleTimeout => (StatusCode::REQUEST_TIMEOUT, "the request's body did not come\n").into_response(),
        Refusal::Busy => {
            let later = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)];
            (StatusCode::SERVICE_UNAVAILABLE, later, "too many requests at the moment; try again\n").into_response()
        }
        Refusal::Primary(StatusCode::UNAUTHORIZED, reason) => {
            let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
            (StatusCode::UNAUTHORIZED, challenge, format!("{reason}\n")).into_response()
        }
        Refusal::Primary(status, reason) => (status, format!("{reason}\n")).into_response(),
        Refusal::BadRequest(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
        Refusal::Region(error @ RegionError::Replaced { .. }) => {
            (StatusCode::CONFLICT, format!("{error}\n")).into_response()
        }
        Refusal::Region(error) => {
            tracing::error!(%error, "a request failed");
            let status = match error.kind() {
                Kind::Transient | Kind::InDoubt | Kind::Conflict | Kind::Environment => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, "the repository cannot be served now; the operator's log says why\n").into_response()
        }
    }
}
