//! Git LFS over HTTP: the Batch API and the basic transfer (git-lfs `docs/api/batch.md`, `basic-transfers.md`).
//!
//! All answers are JSON of LFS's own media type, refusals too. Objects go through this host: hrefs lead back
//! to it.

mod batch;
mod download;
mod forward;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::auth::{Denied, Identity};
use super::birthplace::Birthplace;
use super::client::Client;
use super::gate::Gate;
use super::route::{Route, Service};
use super::{Host, RETRY_AFTER_SECONDS, Refusal, body, check_content_type};
use gitferry_base::Kind;
use gitferry_config::HostLimits;
use gitferry_engine::announce::Event;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::{RegionError, is_visible};
use gitferry_git::lfs::LfsOid;

const BUSY: &str = "too many requests at the moment; try again";
/// The media type of requests and answers.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
/// Largest request of the Batch API, in bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Most objects of one request of the Batch API. (git-lfs asks for 100 at a time.)
pub const MAX_BATCH_OBJECTS: usize = 1_000;
/// Uploads at a time; more wait.
pub const MAX_UPLOADS: usize = 128;
/// Downloads at a time; more wait.
pub const MAX_DOWNLOADS: usize = 256;
/// How long one waits for its turn before it is answered 503, which git-lfs does not try again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What bounds the transfers of a host.
#[derive(Debug)]
pub(super) struct Transfers {
    uploads: Gate,
    downloads: Gate,
}

impl Transfers {
    pub(super) fn new(limits: &HostLimits) -> Self {
        Transfers {
            uploads: Gate::for_places(MAX_UPLOADS, LONGEST_WAIT, limits),
            downloads: Gate::for_places(MAX_DOWNLOADS, LONGEST_WAIT, limits),
        }
    }
}

/// The end of the path of an LFS endpoint.
const LFS_PATH: &str = "/info/lfs";

/// Where a client reaches the LFS of a repository.
struct Endpoint {
    url: String,
    /// What the client has to send there, where it would not know so by itself.
    authorization: Option<String>,
}

/// Why a request is refused.
#[derive(Debug)]
struct LfsRefusal {
    status: StatusCode,
    message: String,
    /// What the operator is told instead, where the client cannot help it.
    error: Option<Box<RegionError>>,
}

impl LfsRefusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        LfsRefusal { status, message: message.into(), error: None }
    }

    fn unprocessable(message: impl Into<String>) -> Self {
        LfsRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }
}

impl From<Refusal> for LfsRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(Denied::Unknown) => LfsRefusal::new(StatusCode::UNAUTHORIZED, "credentials are needed"),
            Refusal::Denied(Denied::Forbidden) => LfsRefusal::new(StatusCode::FORBIDDEN, "not allowed"),
            Refusal::Forbidden(reason) => LfsRefusal::new(StatusCode::FORBIDDEN, reason),
            Refusal::NotFound => LfsRefusal::new(StatusCode::NOT_FOUND, "there is no such repository"),
            Refusal::CrossSite => LfsRefusal::new(StatusCode::FORBIDDEN, "a page of another site asks"),
            Refusal::Name(error) => LfsRefusal::new(StatusCode::NOT_FOUND, error.to_string()),
            Refusal::Method => LfsRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            Refusal::NotMeant => LfsRefusal::new(StatusCode::MISDIRECTED_REQUEST, "this is another host"),
            Refusal::MediaType(expected) => {
                LfsRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {expected}"))
            }
            Refusal::Silent => LfsRefusal::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come"),
            Refusal::Busy => LfsRefusal::new(StatusCode::SERVICE_UNAVAILABLE, BUSY),
            Refusal::Primary(status, reason) => LfsRefusal::new(status, reason),
            Refusal::Bad(reason) => LfsRefusal::new(StatusCode::BAD_REQUEST, reason),
            Refusal::Region(error) => error.into(),
        }
    }
}

impl From<RegionError> for LfsRefusal {
    fn from(error: RegionError) -> Self {
        if matches!(error, RegionError::Replaced { .. }) {
            return LfsRefusal::new(StatusCode::CONFLICT, error.to_string());
        }
        let status = match error.kind() {
            Kind::NotFound => return LfsRefusal::new(StatusCode::NOT_FOUND, "there is no such repository"),
            Kind::Refused | Kind::Usage => return LfsRefusal::new(StatusCode::FORBIDDEN, error.to_string()),
            Kind::Transient | Kind::InDoubt | Kind::Conflict => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Environment => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Corrupt | Kind::Missing | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = "the server failed; its operator's log says why, under this request_id".into();
        LfsRefusal { status, message, error: Some(Box::new(error)) }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl Host {
    /// Answers a request for anything of LFS.
    pub(super) async fn lfs(self: Arc<Self>, route: Route, parts: Parts, body: Body) -> Response {
        match self.clone().lfs_answer(route, parts, body).await {
            Ok(response) => response,
            Err(refusal) => self.lfs_refuse(&refusal),
        }
    }

    async fn lfs_answer(self: Arc<Self>, route: Route, parts: Parts, body: Body) -> Result<Response, LfsRefusal> {
        let oid = route.object.as_deref().and_then(|oid| oid.parse::<LfsOid>().ok());
        match (route.service, &parts.method, oid) {
            (Service::LfsBatch, &Method::POST, _) => self.lfs_batch(&route.repository, &parts, body).await,
            (Service::LfsVerify, &Method::POST, _) => self.lfs_verify(&route.repository, &parts, body).await,
            (Service::LfsObject, &Method::PUT, Some(oid)) => {
                self.lfs_upload(&route.repository, oid, &parts, body).await
            }
            (Service::LfsObject, &Method::GET | &Method::HEAD, Some(oid)) => {
                self.lfs_download(&route.repository, oid, &parts).await
            }
            (Service::LfsLocks, _, _) => {
                // This is how git-lfs learns that it need not ask again.
                Err(LfsRefusal::new(StatusCode::NOT_IMPLEMENTED, "file locking is not supported"))
            }
            _ => Err(LfsRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
        }
    }

    fn lfs_refuse(&self, refusal: &LfsRefusal) -> Response {
        let LfsRefusal { status, message, error } = refusal;
        let request_id = error.as_ref().map(|error| {
            tracing::error!(%error, "a request for LFS failed");
            Client::current().request_id.clone()
        });
        let mut response = json(*status, &ErrorBody { message, request_id });
        let headers = response.headers_mut();
        if message.as_str() == BUSY {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert("lfs-authenticate", HeaderValue::from_static("Basic realm=\"gitferry\""));
        }
        response
    }

    /// The repository as it is now.
    async fn lfs_repository(&self, name: &str) -> Result<HeadItem, LfsRefusal> {
        let found = self.region.find(name).await?.filter(|item| is_visible(&item.head));
        Ok(found.ok_or(Refusal::NotFound)?)
    }

    /// The repository that takes uploads here; `None` where there is none, and the first upload makes it. A replica
    /// says where to upload instead.
    async fn lfs_writable(&self, name: &str, headers: &HeaderMap) -> Result<Option<HeadItem>, LfsRefusal> {
        let Some(item) = self.region.find(name).await?.filter(|item| is_visible(&item.head)) else {
            return match self.birthplace(name, headers)? {
                Birthplace::Here => Ok(None),
                Birthplace::There(primary) => {
                    let reason = format!("{name} would be made by {}; upload there", primary.url);
                    Err(LfsRefusal::new(StatusCode::FORBIDDEN, reason))
                }
                Birthplace::Elsewhere(reason) => Err(LfsRefusal::new(StatusCode::FORBIDDEN, reason)),
            };
        };
        self.region.check_writable(&item).map_err(|error| match error {
            RegionError::Replica { primary, .. } => {
                let place = self.urls.get(&primary).map(|url| format!("{}/{name}", url.trim_end_matches('/')));
                let place = place.unwrap_or_else(|| format!("region {primary}"));
                LfsRefusal::new(StatusCode::FORBIDDEN, format!("{name} is a replica here; push to {place}"))
            }
            error => error.into(),
        })?;
        Ok(Some(item))
    }

    /// Makes the repository that an object has been uploaded for: its pointer is pushed after it.
    async fn lfs_create(&self, name: &str, identity: &Identity) -> Result<HeadItem, LfsRefusal> {
        match self.region.create(name, gix::hash::Kind::Sha1, &identity.name).await {
            // Another upload was faster.
            Err(RegionError::NameTaken { .. }) => self.lfs_repository(name).await,
            made => Ok(made?),
        }
    }

    /// The LFS endpoint that a request of it was sent to, as its client sees it: in the form of the URL that was asked
    /// for, below what the configuration says, else what trusted proxies say, else what the client has used.
    fn lfs_endpoint(&self, parts: &Parts) -> Result<Endpoint, LfsRefusal> {
        let path = parts.uri.path();
        let path = path.find(LFS_PATH).map_or(path, |at| &path[..at + LFS_PATH.len()]);
        let asked = self.lfs_asked(parts)?;
        let base = self.url.as_deref().map_or(asked.as_str(), |url| url.trim_end_matches('/'));
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // Clients keep credentials by scheme and host.
        let elsewhere = !base.eq_ignore_ascii_case(&asked) && !base.starts_with(&format!("{asked}/"));
        Ok(Endpoint {
            url: format!("{base}{path}"),
            authorization: authorization.filter(|_| elsewhere).map(Into::into),
        })
    }

    /// The scheme and host that the client has used, as far as they are known.
    fn lfs_asked(&self, parts: &Parts) -> Result<String, LfsRefusal> {
        let seen = &Client::current().seen;
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let named = seen.host.clone().or_else(|| parts.uri.authority().cloned());
        let named = named.or_else(|| host?.parse::<Authority>().ok());
        let authority = named.filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        let authority =
            authority.ok_or_else(|| LfsRefusal::new(StatusCode::BAD_REQUEST, "the Host header is not one"))?;
        let tls = self.urls.get(&self.region.name).is_some_and(|url| url.starts_with("https:"));
        let own = parts.uri.scheme_str().unwrap_or(if tls { "https" } else { "http" });
        let scheme = seen.scheme.unwrap_or(own);
        Ok(format!("{scheme}://{authority}"))
    }

    /// Has a change name objects that came after their pointers.
    async fn lfs_name(&self, item: &HeadItem, objects: &[LfsObject], identity: &Identity) -> Result<(), LfsRefusal> {
        if let Some(item) = self.region.name_lfs_objects(item.id, objects, &identity.name).await? {
            let (region, repository, seq) = (self.region.name.clone(), item.id, item.head.frontier.seq);
            self.events.publish(Event { region, repository, seq });
        }
        Ok(())
    }
}

/// Reads a request of the Batch API, of whose body nothing may come for as long as `silence`.
async fn read_request(parts: &Parts, body: Body, silence: Duration) -> Result<Bytes, LfsRefusal> {
    check_accept(parts)?;
    check_content_type(&parts.headers, MEDIA_TYPE)?;
    let (mut pieces, mut bytes) = (body::pieces(body, silence, None), BytesMut::new());
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(Refusal::from)?);
        if bytes.len() > MAX_BATCH_BYTES {
            let reason = format!("a request has at most {MAX_BATCH_BYTES} bytes");
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
    }
    Ok(bytes.freeze())
}

fn parse<T: DeserializeOwned>(request: &[u8]) -> Result<T, LfsRefusal> {
    serde_json::from_slice(request).map_err(|error| LfsRefusal::unprocessable(format!("the request: {error}")))
}

/// Whether the client takes what is answered.
fn check_accept(parts: &Parts) -> Result<(), LfsRefusal> {
    let Some(accept) = parts.headers.get(header::ACCEPT) else { return Ok(()) };
    let accept = accept.to_str().unwrap_or_default();
    let taken = |range: &str| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", "application/json", MEDIA_TYPE]
            .iter()
            .any(|some| media_type.eq_ignore_ascii_case(some))
    };
    if accept.split(',').any(taken) {
        return Ok(());
    }
    Err(LfsRefusal::new(StatusCode::NOT_ACCEPTABLE, format!("answers are of type {MEDIA_TYPE}")))
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], text).into_response()
}
