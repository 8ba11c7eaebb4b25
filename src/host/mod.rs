//! The host of one region: Git over smart HTTP (gitprotocol-http) on the region's repositories.
//!
//! This layer knows HTTP, who asks and which repository is meant; everything about Git is in `git/`, run on
//! blocking threads, as many at a time as [`HostOptions::requests`] says.

pub mod auth;
mod body;
mod fetch;
pub mod hook;
mod push;
pub mod push_policies;
pub mod quarantines;
pub mod route;
pub mod views;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use crate::Kind;
use crate::events::Sink;
use crate::git::local::RefPatterns;
use crate::git::protocol::{Service as GitService, Version};
use crate::region::{Region, RegionError};
use auth::{Access, Authorizer, Denied, Identity};
use push_policies::PushPolicies;
use quarantines::Quarantines;
use route::{Route, Service};
use views::Views;

/// How to serve.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Requests that work on Git data at a time; more wait.
    pub requests: usize,
    /// What pushes are accepted.
    pub policies: PushPolicies,
    /// Refs that nobody is shown; `None` for none. The policies say the same.
    pub hidden: Option<RefPatterns>,
    /// Pushes that hooks are looking at.
    pub quarantines: Option<Arc<Quarantines>>,
    /// Whether a push to a name that there is no repository of makes one.
    pub create_on_push: bool,
    /// Where the hosts of regions are reached, by region.
    pub urls: BTreeMap<String, String>,
}

impl Default for HostOptions {
    fn default() -> Self {
        HostOptions {
            requests: 64,
            policies: PushPolicies::default(),
            hidden: None,
            quarantines: None,
            create_on_push: false,
            urls: BTreeMap::new(),
        }
    }
}

/// A region's host.
#[derive(Debug)]
pub struct Host {
    region: Region,
    views: Arc<Views>,
    policies: PushPolicies,
    quarantines: Option<Arc<Quarantines>>,
    create_on_push: bool,
    urls: BTreeMap<String, String>,
    authorizer: Arc<dyn Authorizer>,
    events: Arc<dyn Sink>,
    gate: Arc<Semaphore>,
}

impl Host {
    /// A host for a region.
    pub fn new(
        region: Region,
        authorizer: Arc<dyn Authorizer>,
        events: Arc<dyn Sink>,
        options: HostOptions,
    ) -> Arc<Self> {
        let HostOptions { requests, policies, hidden, quarantines, create_on_push, urls } = options;
        let views = Arc::new(Views::new(region.clone(), hidden));
        let gate = Arc::new(Semaphore::new(requests.max(1)));
        Arc::new(Host { region, views, policies, quarantines, create_on_push, urls, authorizer, events, gate })
    }

    /// Its HTTP service.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(self)
    }
}

/// Why a request is refused before Git has a say.
#[derive(Debug)]
enum Refusal {
    Denied(Denied),
    NotFound,
    Method,
    ContentType,
    Bad(String),
    Region(RegionError),
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
    // What stands behind it is a secret.
    let path =
        if request.uri().path().starts_with(quarantines::PREFIX) { quarantines::PREFIX } else { request.uri().path() };
    let (method, path) = (request.method().clone(), path.to_owned());
    let response = match host.route(request).await {
        Ok(response) => response,
        Err(refusal) => refuse(refusal),
    };
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

impl Host {
    async fn route(self: Arc<Self>, request: Request) -> Result<Response, Refusal> {
        if request.uri().path() == "/_health" {
            return Ok("ok\n".into_response());
        }
        if let Some(path) = request.uri().path().strip_prefix(quarantines::PREFIX).map(str::to_owned) {
            return self.quarantined(&path, request).await;
        }
        let route = route::parse(request.uri().path()).ok_or(Refusal::NotFound)?;
        let (parts, body) = request.into_parts();
        if parts.method == Method::POST {
            check_content_type(route.service, &parts.headers)?;
        }
        match (route.service, &parts.method) {
            (Service::InfoRefs, &Method::GET) => self.info_refs(route, &parts).await,
            (Service::UploadPack, &Method::POST) => self.upload_pack(route, &parts.headers, body).await,
            (Service::ReceivePack, &Method::POST) => self.receive_pack(route, &parts.headers, body).await,
            (Service::InfoRefs | Service::UploadPack | Service::ReceivePack, _) => Err(Refusal::Method),
            _ => Err(Refusal::NotFound),
        }
    }

    fn authorize(&self, headers: &HeaderMap, repository: &str, access: Access) -> Result<Identity, Refusal> {
        self.authorizer.authorize(headers, repository, access).map_err(Refusal::Denied)
    }

    /// A body that is written while it is sent, by one of the requests that may work at a time.
    async fn written(&self, write: impl FnOnce(&mut body::Sender) -> std::io::Result<()> + Send + 'static) -> Body {
        let permit = self.gate.clone().acquire_owned().await;
        let (mut sender, answer) = body::channel();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if let Err(error) = write(&mut sender).and_then(|()| sender.flush()) {
                tracing::debug!(%error, "an answer ended early");
                sender.fail(error.to_string());
            }
        });
        answer
    }

    async fn info_refs(&self, route: Route, request: &Parts) -> Result<Response, Refusal> {
        let query = request.uri.query().unwrap_or_default();
        let service = query.split('&').find_map(|pair| pair.strip_prefix("service="));
        // Without a service it is the dumb protocol, which lists files that there are none of.
        let service = service.and_then(|name| GitService::from_name(name.as_bytes()));
        let service = service.ok_or_else(|| Refusal::Bad("only Git's smart protocol is spoken here".into()))?;
        match service {
            GitService::UploadPack => {
                self.authorize(&request.headers, &route.repository, Access::Read)?;
                self.advertise_fetch(&route.repository, version(&request.headers)).await
            }
            GitService::ReceivePack => {
                let identity = self.authorize(&request.headers, &route.repository, Access::Write)?;
                self.advertise_push(&route.repository, &identity).await
            }
        }
    }
}

/// The protocol version that a request asks for.
fn version(headers: &HeaderMap) -> Version {
    headers.get("git-protocol").map(|value| Version::negotiate(value.as_bytes())).unwrap_or_default()
}

/// Refuses what is not a request of Git: other content a browser would send for any page that tells it to.
fn check_content_type(service: Service, headers: &HeaderMap) -> Result<(), Refusal> {
    let expected = match service {
        Service::UploadPack => "application/x-git-upload-pack-request",
        Service::ReceivePack => "application/x-git-receive-pack-request",
        _ => return Ok(()),
    };
    match headers.get(header::CONTENT_TYPE) {
        Some(sent) if sent.as_bytes().eq_ignore_ascii_case(expected.as_bytes()) => Ok(()),
        _ => Err(Refusal::ContentType),
    }
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

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Denied(Denied::Unknown) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"gitferry\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "credentials are needed\n").into_response()
        }
        Refusal::Denied(Denied::Forbidden) => (StatusCode::FORBIDDEN, "not allowed\n").into_response(),
        Refusal::NotFound => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").into_response(),
        Refusal::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not a request of Git\n").into_response(),
        Refusal::Bad(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
        Refusal::Region(error) => {
            tracing::error!(%error, "a request failed");
            let status = match error.kind() {
                Kind::Transient | Kind::Conflict | Kind::Environment => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, "the repository cannot be served now; the operator's log says why\n").into_response()
        }
    }
}
