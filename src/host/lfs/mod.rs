//! Git LFS over HTTP: the Batch API and the basic transfer (git-lfs `docs/api/batch.md`, `basic-transfers.md`).
//!
//! All answers are JSON of LFS's own media type, refusals too. Objects go through this host: hrefs lead back
//! to it.

mod batch;
mod download;
mod forward;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::auth::{Access, Denied, Identity};
use super::route::{Route, Service};
use super::{Host, Refusal, body};
use crate::Kind;
use crate::events::Event;
use crate::git::lfs::LfsOid;
use crate::ledger::change::LfsObject;
use crate::ledger::head::HeadItem;
use crate::region::{RegionError, is_visible};

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

/// What bounds the transfers of a host.
#[derive(Debug)]
pub(super) struct Transfers {
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    refusals: AtomicU64,
}

impl Default for Transfers {
    fn default() -> Self {
        Transfers {
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            downloads: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
            refusals: AtomicU64::new(0),
        }
    }
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
            Refusal::NotFound => LfsRefusal::new(StatusCode::NOT_FOUND, "there is no such repository"),
            Refusal::Name(error) => LfsRefusal::new(StatusCode::NOT_FOUND, error.to_string()),
            Refusal::Method => LfsRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            Refusal::NotMeant => LfsRefusal::new(StatusCode::MISDIRECTED_REQUEST, "this is another host"),
            Refusal::MediaType(expected) => {
                LfsRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {expected}"))
            }
            Refusal::Silent => LfsRefusal::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come"),
            Refusal::Busy => LfsRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at the moment"),
            Refusal::Primary(status, reason) => LfsRefusal::new(status, reason),
            Refusal::Bad(reason) => LfsRefusal::new(StatusCode::BAD_REQUEST, reason),
            Refusal::Region(error) => error.into(),
        }
    }
}

impl From<RegionError> for LfsRefusal {
    fn from(error: RegionError) -> Self {
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
            let number = self.transfers.refusals.fetch_add(1, Ordering::Relaxed);
            let id = format!("{}-{number}", self.region.clock.now().as_millisecond());
            tracing::error!(%error, request_id = id, "a request for LFS failed");
            id
        });
        let mut response = json(*status, &ErrorBody { message, request_id });
        let headers = response.headers_mut();
        if *status == StatusCode::UNAUTHORIZED {
            headers.insert("lfs-authenticate", HeaderValue::from_static("Basic realm=\"gitferry\""));
        }
        response
    }

    /// The repository as it is now. With `Access::Write`, one that takes writes here: a replica says where
    /// else.
    async fn lfs_repository(&self, name: &str, identity: &Identity, access: Access) -> Result<HeadItem, LfsRefusal> {
        let mut found = self.region.find(name).await?.filter(|item| is_visible(&item.head));
        if found.is_none() && access == Access::Write && self.create_on_push {
            self.create(name, identity).await?;
            found = self.region.find(name).await?;
        }
        let item = found.ok_or(Refusal::NotFound)?;
        if access == Access::Write {
            self.region.check_writable(&item).map_err(|error| match error {
                RegionError::Replica { primary, .. } => {
                    let place = self.urls.get(&primary).map(|url| format!("{}/{name}", url.trim_end_matches('/')));
                    let place = place.unwrap_or_else(|| format!("region {primary}"));
                    LfsRefusal::new(StatusCode::FORBIDDEN, format!("{name} is a replica here; push to {place}"))
                }
                error => error.into(),
            })?;
        }
        Ok(item)
    }

    /// Where clients reach this host: what its configuration says, else what the client has just used.
    fn lfs_base(&self, parts: &Parts) -> Result<String, LfsRefusal> {
        if let Some(url) = &self.url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let named = parts.uri.authority().cloned().or_else(|| host?.parse::<Authority>().ok());
        let authority = named.filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        let authority =
            authority.ok_or_else(|| LfsRefusal::new(StatusCode::BAD_REQUEST, "the Host header is not one"))?;
        let tls = self.urls.get(&self.region.name).is_some_and(|url| url.starts_with("https:"));
        let scheme = parts.uri.scheme_str().unwrap_or(if tls { "https" } else { "http" });
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
    let (mut pieces, mut bytes) = (body::pieces(body, silence), BytesMut::new());
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
