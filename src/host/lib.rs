//! The host of one region: Git over smart HTTP (gitprotocol-http) on the region's repositories.
//!
//! This layer knows HTTP, who asks and which repository is meant; everything about Git is in `git/`, run on
//! a thread for each request, as many at a time as its [`HostLimits`] say.

pub mod auth;
pub mod birthplace;
mod body;
pub mod client;
mod cross_site;
mod fetch;
pub mod forward;
mod gate;
pub mod head;
mod hold;
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
mod shares;
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

use auth::{Access, Authorizer, Denied, Identity};
use birthplace::Upstream;
use client::Client;
use forward::{Forwarder, RepositoryFrontier};
use gate::{Gate, Slot};
use gitferry_base::Kind;
use gitferry_config::{HostLimits, Network};
use gitferry_engine::announce::Sink;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::limits::WALK_STACK_BYTES;
use gitferry_git::local::RefPatterns;
use gitferry_git::protocol::{Service as GitService, Version};
use gitferry_git::refname::NameError;
use listen::Door;
use push_policies::PushPolicies;
use quarantines::Quarantines;
use route::{Route, Service};
use views::Views;

/// How to serve.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// How much it takes on at a time, and how long it waits for whom.
    pub limits: HostLimits,
    /// What pushes are accepted.
    pub policies: PushPolicies,
    /// Refs that nobody is shown; `None` for none. The policies say the same.
    pub hidden: Option<RefPatterns>,
    /// Pushes that hooks are looking at.
    pub quarantines: Option<Arc<Quarantines>>,
    /// Whether fetches may want refs by name.
    pub ref_in_want: bool,
    /// Whether a push to a name that there is no repository of makes one.
    pub create_on_push: bool,
    /// Proxies in front of it that are believed.
    pub trusted_proxies: Vec<Network>,
    /// The links that bring repositories here; those are not made here.
    pub upstreams: Vec<Upstream>,
    /// Where the hosts of regions are reached, by region.
    pub urls: BTreeMap<String, String>,
    /// Where this host is reached, for the hrefs of Git LFS; what a client has used when left out.
    pub url: Option<String>,
    /// Forwards pushes to replicas; without, they are refused.
    pub forwarder: Option<Arc<Forwarder>>,
}

/// A region's host.
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
    gate: Gate,
    /// For what hooks ask about a push that has passed the other gate: they must not wait for each other.
    hook_gate: Gate,
    limits: HostLimits,
    forwarder: Option<Arc<Forwarder>>,
    metrics: metrics::Metrics,
}

impl Host {
    /// A host for a region.
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
        let (gate, hook_gate) = (Gate::new(&limits), Gate::new(&limits));
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
            gate,
            hook_gate,
            limits,
            forwarder,
            metrics: metrics::Metrics::default(),
        })
    }

    /// Its HTTP service.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(self)
    }

    /// Waits until no Git request is in progress.
    pub async fn until_idle(&self) {
        self.gate.until_empty().await;
    }
}

/// Names a request in its answer, as in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where health is answered: never refused for want of room.
const HEALTH: &str = "/_health";
/// Where is answered whether the region's stores can be used: never refused for want of room.
const READY: &str = "/_ready";

/// Where the figures of the host are, for Prometheus.
const METRICS: &str = "/_metrics";

/// Why a request is refused before Git has a say.
#[derive(Debug)]
enum Refusal {
    Denied(Denied),
    /// A rule forbids it: the rule, and the way out.
    Forbidden(String),
    NotFound,
    /// No repository can have that name.
    Name(NameError),
    Method,
    /// It asks for a host of another name.
    NotMeant,
    /// A web page of another site sends it.
    CrossSite,
    Bad(String),
    /// A body of another kind than is understood.
    MediaType(&'static str),
    /// The client asked and then said nothing.
    Silent,
    /// Too much is going on.
    Busy,
    /// The primary's host did not take a forwarded push.
    Primary(StatusCode, String),
    Region(RegionError),
}

impl From<gate::Busy> for Refusal {
    fn from(_: gate::Busy) -> Self {
        Refusal::Busy
    }
}

/// Of a request's body.
impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Refusal::Silent,
            std::io::ErrorKind::ResourceBusy => Refusal::Busy,
            _ => Refusal::Bad(format!("the request's body ends early: {error}")),
        }
    }
}

impl From<route::Astray> for Refusal {
    fn from(astray: route::Astray) -> Self {
        match astray {
            route::Astray::Nothing => Refusal::NotFound,
            route::Astray::Name(error) => Refusal::Name(error),
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
    let door = parts.extensions.remove::<Arc<Door>>();
    let peer = door.as_ref().and_then(|door| Some(door.peer?.ip()));
    let seen = proxies::seen(peer, &host.trusted_proxies, &parts.headers);
    let client = Client::new(host.region.clock.new_id().simple().to_string(), seen, door);
    // What stands behind it is a secret.
    let path = if parts.uri.path().starts_with(quarantines::PREFIX) { quarantines::PREFIX } else { parts.uri.path() };
    // Of the highest level, so that it is there for whatever is logged within.
    let span = tracing::error_span!(
        "request",
        request_id = client.request_id,
        address = client.seen.address.map(tracing::field::display),
        method = %parts.method,
        path,
        repository = tracing::field::Empty,
        actor = tracing::field::Empty,
    );
    host.respond(client, parts, body).instrument(span).await
}

impl Host {
    /// Answers a request once its body has been read or given up.
    async fn respond(self: Arc<Self>, client: Arc<Client>, parts: Parts, body: Body) -> Response {
        let start = tokio::time::Instant::now();
        let (body, watch) = hold::watch(&parts.headers, body);
        let request = Request::from_parts(parts, body);
        // What stands behind the prefix is a secret.
        let is_secret = request.uri().path().starts_with(quarantines::PREFIX);
        let path = if is_secret { quarantines::PREFIX } else { request.uri().path() }.to_owned();
        let silence = self.limits.request_silence;
        let reserved =
            client.door.as_ref().is_some_and(|door| door.reserved) && ![HEALTH, READY].contains(&request.uri().path());
        let routed = match (self.is_meant(&request), self.is_cross_site(&request, &client)) {
            (false, _) => Err(Refusal::NotMeant),
            (true, true) => Err(Refusal::CrossSite),
            (true, false) if reserved => Err(Refusal::Busy),
            (true, false) => client.clone().scope(self.route(request)).await,
        };
        let response = routed.unwrap_or_else(|refusal| match refusal {
            // The path as it stood in the URL: it has no control characters.
            Refusal::NotFound => (StatusCode::NOT_FOUND, format!("not found: {path}\n")).into_response(),
            refusal => refuse(refusal),
        });
        let mut response = watch.hold(response, silence, || client.is_revoked(), || refuse(Refusal::Busy)).await;
        if let Ok(id) = HeaderValue::from_str(&client.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let milliseconds = start.elapsed().as_millis() as u64;
        tracing::info!(status = response.status().as_u16(), milliseconds, "answered");
        response
    }

    /// Whether a request may be answered here at all; see [`rebinding`].
    fn is_meant(&self, request: &Request) -> bool {
        if !self.authorizer.lets_everybody_in() {
            return true;
        }
        let header = request.headers().get(header::HOST);
        let asked = match (request.uri().authority(), header) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(header)) => header.to_str().unwrap_or_default(),
            // Older than the header: no browser.
            (None, None) => return true,
        };
        rebinding::is_ours(asked, self.urls.get(&self.region.name).map(String::as_str))
    }

    /// Whether a web page of another site sends a request; see [`cross_site`].
    fn is_cross_site(&self, request: &Request, client: &Client) -> bool {
        let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let asked = request.uri().authority().map(|authority| authority.as_str()).or(header);
        let own = self.urls.get(&self.region.name).map(|url| cross_site::authority_of(url));
        let forwarded = client.seen.host.as_ref().map(|host| host.as_str());
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
            // The body of an answer to HEAD is not sent.
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

    /// Says whether the region can be used. Why it cannot is for the operator's log: any client may ask.
    async fn ready(&self) -> Response {
        if self.region.look_again().await.is_ok() && self.region.set_back.is_none() {
            return "ok\n".into_response();
        }
        let reason = format!("region {} cannot be used; the operator's log says why\n", self.region.name);
        (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
    }

    fn authorize(&self, headers: &HeaderMap, repository: &str, access: Access) -> Result<Identity, Refusal> {
        let identity = self.authorizer.authorize(headers, repository, access).map_err(Refusal::Denied)?;
        tracing::Span::current().record("actor", &identity.name);
        // Without tokens, a name does not set clients apart.
        if !self.authorizer.lets_everybody_in() {
            Client::current().recognised(&identity.name);
        }
        Ok(identity)
    }

    /// Says which state a repository is in.
    async fn frontier(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        self.authorize(headers, repository, Access::Read)?;
        let item = self.views.head(repository).await?;
        let answer = RepositoryFrontier { repository: item.id, frontier: item.head.frontier };
        let text =
            serde_json::to_string(&answer).map_err(|error| Refusal::Region(std::io::Error::from(error).into()))?;
        git_response("application/json".into(), text.into())
    }

    /// Lets a request in whose body is read while its answer is written; at most `max_inflated` bytes of one that came
    /// compressed.
    async fn converse(
        &self,
        gate: &Gate,
        headers: &HeaderMap,
        input: Body,
        max_inflated: u64,
    ) -> Result<Conversation, Refusal> {
        let slot = gate.enter().await?;
        let input = body::begin(body::pieces(input, self.limits.request_silence, Some(slot.clone()))).await?;
        let runtime = Handle::current();
        let input = body::reader(headers, input, &runtime, max_inflated).map_err(Refusal::Bad)?;
        let (sender, answer) = body::channel(self.limits.response_silence, &runtime);
        Ok(Conversation { slot, input, sender, answer, runtime })
    }

    /// A body that is written while it is sent, by one of the requests that may work at a time.
    async fn written(
        &self,
        gate: &Gate,
        write: impl FnOnce(&mut body::Sender) -> std::io::Result<()> + Send + 'static,
    ) -> Result<Body, Refusal> {
        let slot = gate.enter().await?;
        let runtime = Handle::current();
        let (mut sender, answer) = body::channel(self.limits.response_silence, &runtime);
        on_thread(move || {
            sender.pause(slot.work(&runtime));
            match write(&mut sender) {
                // Whether the client takes the last of it is its own affair.
                Ok(()) => _ = sender.finish(),
                Err(error) => {
                    tracing::debug!(%error, "an answer ended early");
                    sender.fail(error.to_string());
                }
            }
        })?;
        Ok(answer)
    }

    async fn info_refs(&self, route: Route, request: &Parts) -> Result<Response, Refusal> {
        let query = request.uri.query().unwrap_or_default();
        let service = query.split('&').find_map(|pair| pair.strip_prefix("service="));
        // Without a service it is the dumb protocol, which lists files that there are none of.
        let service = service.and_then(route::decode).and_then(|name| GitService::from_name(name.as_bytes()));
        let service = service.ok_or_else(|| Refusal::Bad("only Git's smart protocol is spoken here".into()))?;
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

/// A request that has been let in, for the thread that answers it.
struct Conversation {
    slot: Slot,
    input: body::Opening,
    sender: body::Sender,
    /// What `sender` fills.
    answer: Body,
    runtime: Handle,
}

/// Starts work that a request waits for, on a thread of its own: those of the runtime are for stores and tables,
/// and must not all be taken by slow clients.
fn on_thread(work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    let span = tracing::Span::current();
    let thread = std::thread::Builder::new().name("git-request".into()).stack_size(WALK_STACK_BYTES);
    match thread.spawn(move || span.in_scope(work)) {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(%error, "no thread can be started for a request");
            Err(Refusal::Busy)
        }
    }
}

/// Refuses bodies of another kind, which a web page may send without its user's knowledge.
fn check_content_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    match headers
        .get(header::CONTENT_TYPE)
        .and_then(|sent| sent.as_bytes().split(|byte| *byte == b';').next())
        .is_some_and(|sent| sent.trim_ascii().eq_ignore_ascii_case(expected.as_bytes()))
    {
        true => Ok(()),
        false => Err(Refusal::MediaType(expected)),
    }
}

/// The protocol version that a request asks for.
fn version(headers: &HeaderMap) -> Version {
    headers.get("git-protocol").map(|value| Version::negotiate(value.as_bytes())).unwrap_or_default()
}

/// An answer of a Git service; nobody may cache it.
fn git_response(content_type: String, body: Body) -> Result<Response, Refusal> {
    let content_type = HeaderValue::from_str(&content_type).map_err(|error| Refusal::Bad(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0, must-revalidate")),
        (header::EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, body).into_response())
}

/// How somebody says who they are.
const CHALLENGE: &str = "Basic realm=\"gitferry\", charset=\"UTF-8\"";
/// When a request that was one too many may try again.
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
        Refusal::NotMeant => {
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
        Refusal::Silent => (StatusCode::REQUEST_TIMEOUT, "the request's body did not come\n").into_response(),
        Refusal::Busy => {
            let later = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)];
            (StatusCode::SERVICE_UNAVAILABLE, later, "too many requests at the moment; try again\n").into_response()
        }
        Refusal::Primary(StatusCode::UNAUTHORIZED, reason) => {
            let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
            (StatusCode::UNAUTHORIZED, challenge, format!("{reason}\n")).into_response()
        }
        Refusal::Primary(status, reason) => (status, format!("{reason}\n")).into_response(),
        Refusal::Bad(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
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
