//! Git LFS over HTTP: the Batch API and the basic transfer (git-lfs `docs/api/batch.md`, `basic-transfers.md`).
//!
//! All responses are JSON of the LFS media type, refusals included. The hrefs point to this host: objects are
//! transferred through it, not by presigned URLs.

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

use super::admission::Admission;
use super::auth::{Denied, Identity};
use super::client::Client;
use super::create_on_push::CreationSite;
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
/// Media type of requests and responses.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
/// Largest request of the Batch API, in bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Most objects per request of the Batch API. (git-lfs sends 100.)
pub const MAX_BATCH_OBJECTS: usize = 1_000;
/// Concurrent uploads; more of them wait.
pub const MAX_UPLOADS: usize = 128;
/// Concurrent downloads; more of them wait.
pub const MAX_DOWNLOADS: usize = 256;
/// Longest wait of a transfer before it is answered 503, which git-lfs does not retry.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Admission control of LFS transfers.
#[derive(Debug)]
pub(super) struct Transfers {
    uploads: Admission,
    downloads: Admission,
}

impl Transfers {
    pub(super) fn new(limits: &HostLimits) -> Self {
        Transfers {
            uploads: Admission::with_capacity(MAX_UPLOADS, LONGEST_WAIT, limits),
            downloads: Admission::with_capacity(MAX_DOWNLOADS, LONGEST_WAIT, limits),
        }
    }
}

/// Path of the LFS endpoint below its repository.
const LFS_PATH: &str = "/info/lfs";

/// LFS endpoint of a repository as the client reaches it.
struct Endpoint {
    url: String,
    /// Credentials for the hrefs; `None` if the client sends them by itself, which it does for the host that it asked.
    authorization: Option<String>,
}

/// Refusal of an LFS request.
#[derive(Debug)]
struct LfsRefusal {
    status: StatusCode,
    message: String,
    /// Cause for the log, if it is not the client's fault.
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
            Refusal::CrossSite => {
                LfsRefusal::new(StatusCode::FORBIDDEN, "requests that pages of other sites make are not answered")
            }
            Refusal::Name(error) => LfsRefusal::new(StatusCode::NOT_FOUND, error.to_string()),
            Refusal::Method => LfsRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            Refusal::Misdirected => LfsRefusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "without authentication this host answers to localhost and its own url only",
            ),
            Refusal::MediaType(expected) => {
                LfsRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {expected}"))
            }
            Refusal::IdleTimeout => LfsRefusal::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come"),
            Refusal::Busy => LfsRefusal::new(StatusCode::SERVICE_UNAVAILABLE, BUSY),
            Refusal::Primary(status, reason) => LfsRefusal::new(status, reason),
            Refusal::BadRequest(reason) => LfsRefusal::new(StatusCode::BAD_REQUEST, reason),
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
    /// Answers an LFS request.
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
                // git-lfs stops asking for locks after a 501.
                Err(LfsRefusal::new(StatusCode::NOT_IMPLEMENTED, "file locking is not supported"))
            }
            _ => Err(LfsRefusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
        }
    }

    fn lfs_refuse(&self, refusal: &LfsRefusal) -> Response {
        let LfsRefusal { status, message, error } = refusal;
        let request_id = error.as_ref().map(|error| {
            tracing::error!(%error, "an LFS request failed");
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

    /// Reads the head of a repository.
    async fn lfs_repository(&self, name: &str) -> Result<HeadItem, LfsRefusal> {
        let found = self.region.find(name).await?.filter(|item| is_visible(&item.head));
        Ok(found.ok_or(Refusal::NotFound)?)
    }

    /// The repository that accepts uploads here; `None` if it does not exist and the first upload creates it. A replica
    /// refuses and names the primary.
    async fn lfs_writable(&self, name: &str, headers: &HeaderMap) -> Result<Option<HeadItem>, LfsRefusal> {
        let Some(item) = self.region.find(name).await?.filter(|item| is_visible(&item.head)) else {
            return match self.creation_site(name, headers)? {
                CreationSite::Here => Ok(None),
                CreationSite::There(primary) => {
                    let reason = format!("{name} has to be created by the host {}; upload there", primary.url);
                    Err(LfsRefusal::new(StatusCode::FORBIDDEN, reason))
                }
                CreationSite::Elsewhere(reason) => Err(LfsRefusal::new(StatusCode::FORBIDDEN, reason)),
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

    /// Creates the repository of an uploaded object: objects arrive before the push of their pointers.
    async fn lfs_create(&self, name: &str, identity: &Identity) -> Result<HeadItem, LfsRefusal> {
        match self.region.create(name, gix::hash::Kind::Sha1, &identity.name).await {
            // Another upload has created the repository first.
            Err(RegionError::NameTaken { .. }) => self.lfs_repository(name).await,
            created => Ok(created?),
        }
    }

    /// The LFS endpoint of a request, as its client reaches it. The path is that of the request; the base is the
    /// configured URL, otherwise the URL that trusted proxies report, otherwise the one that the client has used.
    fn lfs_endpoint(&self, parts: &Parts) -> Result<Endpoint, LfsRefusal> {
        let path = parts.uri.path();
        let path = path.find(LFS_PATH).map_or(path, |at| &path[..at + LFS_PATH.len()]);
        let asked = self.lfs_asked(parts)?;
        let base = self.url.as_deref().map_or(asked.as_str(), |url| url.trim_end_matches('/'));
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // Clients store credentials by scheme and host.
        let elsewhere = !base.eq_ignore_ascii_case(&asked) && !base.starts_with(&format!("{asked}/"));
        Ok(Endpoint {
            url: format!("{base}{path}"),
            authorization: authorization.filter(|_| elsewhere).map(Into::into),
        })
    }

    /// Scheme and host of the URL that the client has used, as `SCHEME://HOST[:PORT]`.
    fn lfs_asked(&self, parts: &Parts) -> Result<String, LfsRefusal> {
        let client = Client::current();
        let info = &client.info;
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let named = info.host.clone().or_else(|| parts.uri.authority().cloned());
        let named = named.or_else(|| host?.parse::<Authority>().ok());
        let authority = named.filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        let authority =
            authority.ok_or_else(|| LfsRefusal::new(StatusCode::BAD_REQUEST, "the Host header is not a valid host"))?;
        let tls = self.urls.get(&self.region.name).is_some_and(|url| url.starts_with("https:"));
        let own = parts.uri.scheme_str().unwrap_or(if tls { "https" } else { "http" });
        let scheme = info.scheme.unwrap_or(own);
        Ok(format!("{scheme}://{authority}"))
    }

    /// Records objects in a change that were uploaded after the push of their pointers.
    async fn lfs_record(&self, item: &HeadItem, objects: &[LfsObject], identity: &Identity) -> Result<(), LfsRefusal> {
        if let Some(item) = self.region.name_lfs_objects(item.id, objects, &identity.name).await? {
            let seq = item.head.frontier.seq;
            self.events.publish(Event { region: self.region.name.clone(), repository: item.id, seq });
        }
        Ok(())
    }
}

/// Reads the body of a request of the Batch API.
async fn read_request(parts: &Parts, body: Body, idle_timeout: Duration) -> Result<Bytes, LfsRefusal> {
    check_accept(parts)?;
    check_content_type(&parts.headers, MEDIA_TYPE)?;
    let mut chunks = body::chunks(body, idle_timeout, None);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(Refusal::from)?);
        if bytes.len() > MAX_BATCH_BYTES {
            let reason = format!("a request has at most {MAX_BATCH_BYTES} bytes");
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
    }
    Ok(bytes.freeze())
}

fn parse<T: DeserializeOwned>(request: &[u8]) -> Result<T, LfsRefusal> {
    serde_json::from_slice(request)
        .map_err(|error| LfsRefusal::unprocessable(format!("the request is not valid JSON of the Batch API: {error}")))
}

/// Refuses a client whose `Accept` header excludes the media type of the responses.
fn check_accept(parts: &Parts) -> Result<(), LfsRefusal> {
    let Some(accept) = parts.headers.get(header::ACCEPT) else { return Ok(()) };
    let accept = accept.to_str().unwrap_or_default();
    let accepts = |range: &str| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", "application/json", MEDIA_TYPE]
            .iter()
            .any(|accepted| media_type.eq_ignore_ascii_case(accepted))
    };
    if accept.split(',').any(accepts) {
        return Ok(());
    }
    Err(LfsRefusal::new(StatusCode::NOT_ACCEPTABLE, format!("responses are of type {MEDIA_TYPE}")))
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], text).into_response()
}
