//! Client of a remote repository's LFS server: batch requests, downloads, uploads and verification.
//!
//! As in git-lfs, a request for an action carries only the headers of the action. Configured credentials go only to the
//! host of the repository.

mod batch;
mod body;
mod error;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Slot, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::Mutex;

pub use batch::{Action, MAX_BATCH_OBJECTS, Offer, Operation};
pub use body::{LfsBody, checked};
pub use error::LfsError;

use super::credentials::Login;
use super::http::{Clients, may_share_credentials};
use super::{RemoteRepository, server_text};
use gitferry_base::error::chain;
use gitferry_git::lfs::Pointer;

/// Media type of the Batch API.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.git-lfs+json");
/// Media type of an object.
const OBJECT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Largest answer in bytes: [`MAX_BATCH_OBJECTS`] objects, each with some kilobytes of signed headers.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Most bytes of a refusal that are read.
const MAX_REASON_BYTES: usize = 4096;
/// Most redirects that are followed per request.
pub const MAX_REDIRECTS: usize = 5;

/// Client of one repository's LFS server.
pub struct LfsServer {
    clients: Clients,
    login: Mutex<Option<Login>>,
    endpoint: Url,
    idle_timeout: Duration,
}

/// A repeatable request.
struct Call<'a> {
    doing: &'static str,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: &'a str,
    /// True if the request carries the configured credentials.
    with_credentials: bool,
}

impl RemoteRepository {
    /// Creates the client of the repository's LFS server. Sends no request yet.
    pub fn lfs(&self) -> Result<LfsServer, LfsError> {
        let server = self.lfs_url();
        let endpoint = Url::parse(&server).map_err(|error| LfsError::Unusable { server, reason: error.to_string() })?;
        let (clients, login) = self.http();
        let idle_timeout = self.remote().0.timeouts.idle;
        Ok(LfsServer { clients: clients.clone(), login: Mutex::new(login), endpoint, idle_timeout })
    }
}

impl LfsServer {
    /// URL of the LFS server.
    pub fn url(&self) -> &str {
        self.endpoint.as_str()
    }

    /// Asks how to transfer each of `objects`, at most [`MAX_BATCH_OBJECTS`]. Offers have the order of `objects`.
    pub async fn batch(&self, operation: Operation, objects: &[Pointer]) -> Result<Vec<Offer>, LfsError> {
        debug_assert!(objects.len() <= MAX_BATCH_OBJECTS, "callers send at most {MAX_BATCH_OBJECTS} objects per batch");
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let doing = match operation {
            Operation::Upload => "LFS batch request for uploads",
            Operation::Download => "LFS batch request for downloads",
        };
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/objects/batch", url.path()));
        let headers = HeaderMap::from_iter([(header::ACCEPT, MEDIA_TYPE), (header::CONTENT_TYPE, MEDIA_TYPE)]);
        let body = batch::request(operation, objects);
        let call = Call { doing, method: Method::POST, url, headers, body: &body, with_credentials: true };
        let answer = self.call(call).await?;
        let text = self.read(answer, MAX_ANSWER_BYTES + 1, doing).await?;
        if text.len() > MAX_ANSWER_BYTES {
            return Err(self.protocol(format!("the answer of the LFS server has more than {MAX_ANSWER_BYTES} bytes")));
        }
        batch::offers(&text, operation, objects, &self.endpoint).map_err(|reason| self.protocol(reason))
    }

    /// Starts a download. The body streams in constant memory and is not verified; see [`checked`].
    pub async fn download(&self, action: &Action) -> Result<LfsBody, LfsError> {
        const DOING: &str = "downloading an LFS object";
        let call = self.action_call(DOING, Method::GET, action, "");
        let answer = self.call(call).await?;
        let idle_timeout = self.idle_timeout;
        let server = self.url().to_owned();
        let pieces = futures::stream::unfold(Some(answer), move |answer| {
            let server = server.clone();
            async move {
                let mut answer = answer?;
                let reason = match tokio::time::timeout(idle_timeout, answer.chunk()).await {
                    Ok(Ok(piece)) => return piece.map(|piece| (Ok(piece), Some(answer))),
                    Ok(Err(error)) => chain(&error.without_url()),
                    Err(_) => format!("the server sent nothing for {idle_timeout:?}"),
                };
                Some((Err(LfsError::Connection { server, doing: DOING, reason }.into_io()), None))
            }
        });
        Ok(pieces.boxed())
    }

    /// Uploads an object. Returns the action to upload to instead if the server redirects.
    ///
    /// # Errors
    /// Returns [`LfsError::Source`] if the body fails; the request is truncated then, and the server stores nothing.
    pub async fn upload(&self, action: &Action, pointer: Pointer, body: LfsBody) -> Result<Option<Action>, LfsError> {
        const DOING: &str = "uploading an LFS object";
        let mut call = self.action_call(DOING, Method::PUT, action, "");
        if call.with_credentials {
            self.authorize(&mut call.headers).await?;
        }
        call.headers.entry(header::CONTENT_TYPE).or_insert(OBJECT_TYPE);
        if !action.chunked {
            call.headers.insert(header::CONTENT_LENGTH, pointer.size.into());
        }
        let failed = Arc::new(Slot::new(None));
        let taken = Arc::new(AtomicU64::new(0));
        let body = observed(body, failed.clone(), taken.clone());
        let request = self.client(&call.url, DOING)?.put(call.url.clone()).headers(std::mem::take(&mut call.headers));
        let mut sending = std::pin::pin!(request.body(reqwest::Body::wrap_stream(body)).send());
        let mut before = 0;
        let answer = loop {
            // The timeout applies only while no bytes flow.
            match tokio::time::timeout(self.idle_timeout, &mut sending).await {
                Ok(answer) => break answer,
                Err(_) if taken.load(Ordering::Relaxed) > before => before = taken.load(Ordering::Relaxed),
                Err(_) => return Err(self.timed_out(DOING)),
            }
        };
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(LfsError::Source { server: self.url().into(), error });
        }
        let answer = answer.map_err(|error| self.broken(DOING, error))?;
        if answer.status().is_success() {
            return Ok(None);
        }
        // The action's headers must not reach another host.
        let to =
            location(&call.url, &answer).filter(|to| keeps_method(&answer) && may_share_credentials(&call.url, to));
        match to {
            Some(url) => Ok(Some(Action { url, ..action.clone() })),
            None => Err(self.refusal(answer, DOING).await),
        }
    }

    /// Confirms an upload to the server with the action that it named for that.
    pub async fn verify(&self, action: &Action, pointer: Pointer) -> Result<(), LfsError> {
        let Pointer { oid, size } = pointer;
        let body = serde_json::json!({ "oid": oid.to_string(), "size": size }).to_string();
        let mut call = self.action_call("verifying an LFS object", Method::POST, action, &body);
        call.headers.entry(header::ACCEPT).or_insert(MEDIA_TYPE);
        call.headers.entry(header::CONTENT_TYPE).or_insert(MEDIA_TYPE);
        self.call(call).await.map(drop)
    }

    /// Builds the request of an action. Configured credentials are added only for the host of the endpoint, and only if
    /// the action has none.
    fn action_call<'a>(&self, doing: &'static str, method: Method, action: &Action, body: &'a str) -> Call<'a> {
        let has_own = action.authenticated || action.headers.contains_key(header::AUTHORIZATION);
        let with_credentials = !has_own && may_share_credentials(&self.endpoint, &action.url);
        Call { doing, method, url: action.url.clone(), headers: action.headers.clone(), body, with_credentials }
    }

    /// Sends a request. Follows redirects, and repeats the request once after a 401 if other credentials are available.
    async fn call(&self, mut call: Call<'_>) -> Result<Response, LfsError> {
        let mut retried = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = call.headers.clone();
            if call.with_credentials {
                self.authorize(&mut headers).await?;
            }
            let request =
                self.client(&call.url, call.doing)?.request(call.method.clone(), call.url.clone()).headers(headers);
            let request = if call.method == Method::GET { request } else { request.body(call.body.to_owned()) };
            let answer = match tokio::time::timeout(self.idle_timeout, request.send()).await {
                Ok(answer) => answer.map_err(|error| self.broken(call.doing, error))?,
                Err(_) => return Err(self.timed_out(call.doing)),
            };
            let status = answer.status();
            if status.is_redirection() && answer.headers().contains_key(header::LOCATION) {
                call.follow(&answer).map_err(|reason| self.protocol(reason))?;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && call.with_credentials && !retried && self.reject().await {
                retried = true;
                continue;
            }
            if !status.is_success() {
                return Err(self.refusal(answer, call.doing).await);
            }
            if let (true, Some(login)) = (call.with_credentials, &mut *self.login.lock().await) {
                login.approve().await;
            }
            return Ok(answer);
        }
        Err(self.protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn client(&self, url: &Url, doing: &'static str) -> Result<&reqwest::Client, LfsError> {
        let broken = |reason| LfsError::Connection { server: self.url().into(), doing, reason };
        self.clients.of(url).map_err(broken)
    }

    async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), LfsError> {
        let mut login = self.login.lock().await;
        let Some(login) = &mut *login else { return Ok(()) };
        let header = login.header().await;
        let header = header.map_err(|reason| LfsError::Credentials { server: self.url().into(), reason })?;
        if let Some(header) = header {
            headers.insert(header::AUTHORIZATION, header);
        }
        Ok(())
    }

    /// Records that the server answered 401. Returns true if a retry would send other credentials.
    async fn reject(&self) -> bool {
        match &mut *self.login.lock().await {
            Some(login) => login.reject().await,
            None => false,
        }
    }

    /// Reads at most `most` bytes of an answer.
    async fn read(&self, mut answer: Response, most: usize, doing: &'static str) -> Result<Vec<u8>, LfsError> {
        let mut text = Vec::new();
        while text.len() < most {
            match tokio::time::timeout(self.idle_timeout, answer.chunk()).await {
                Ok(Ok(Some(piece))) => text.extend_from_slice(&piece[..piece.len().min(most - text.len())]),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(self.broken(doing, error)),
                Err(_) => return Err(self.timed_out(doing)),
            }
        }
        Ok(text)
    }

    async fn refusal(&self, answer: Response, doing: &'static str) -> LfsError {
        let status = answer.status();
        let text = self.read(answer, MAX_REASON_BYTES, doing).await.unwrap_or_default();
        let json: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        let words = json.as_ref().and_then(|json| json.get("message")?.as_str());
        let reason = server_text::one_line(words.map_or(&text[..], str::as_bytes));
        let reason = reason.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").into());
        let reason = match &*self.login.lock().await {
            Some(login) => login.scrub(reason),
            None => reason,
        };
        LfsError::Answer { server: self.url().into(), doing, status: status.as_u16(), reason }
    }

    fn broken(&self, doing: &'static str, error: reqwest::Error) -> LfsError {
        LfsError::Connection { server: self.url().into(), doing, reason: chain(&error.without_url()) }
    }

    fn timed_out(&self, doing: &'static str) -> LfsError {
        let reason = format!("the server did not answer for {:?}", self.idle_timeout);
        LfsError::Connection { server: self.url().into(), doing, reason }
    }

    fn protocol(&self, reason: String) -> LfsError {
        LfsError::Protocol { server: self.url().into(), reason }
    }
}

impl Call<'_> {
    /// Retargets the request to a redirect, unless that would downgrade from TLS. For another host, credentials and all
    /// headers except `Accept` and `Content-Type` are dropped.
    fn follow(&mut self, answer: &Response) -> Result<(), String> {
        let to = location(&self.url, answer).ok_or("the redirect names no valid URL")?;
        // git-lfs repeats a POST after a 301 or 302, for renamed repositories.
        let is_moved = matches!(answer.status(), StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND);
        let posts_again = self.method == Method::POST && is_moved && may_share_credentials(&self.url, &to);
        if self.method != Method::GET && !keeps_method(answer) && !posts_again {
            return Err(format!("{}: refused a redirect of {}", self.doing, self.method));
        }
        match (self.url.scheme(), to.scheme()) {
            ("https", "https") | ("http", "http" | "https") => {}
            _ => return Err(format!("refused a redirect: it would downgrade from {}", self.url.scheme())),
        }
        if !may_share_credentials(&self.url, &to) {
            self.with_credentials = false;
            let public = [header::ACCEPT, header::CONTENT_TYPE];
            let kept = public.into_iter().filter_map(|name| Some((self.headers.get(&name)?.clone(), name)));
            self.headers = kept.map(|(value, name)| (name, value)).collect();
        }
        self.url = to;
        Ok(())
    }
}

/// Returns the target of a redirect.
fn location(url: &Url, answer: &Response) -> Option<Url> {
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    url.join(location).ok()
}

/// Returns true if the redirect preserves method and body (307 and 308).
fn keeps_method(answer: &Response) -> bool {
    matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// Counts the bytes of a body in `taken` and stores its error in `failed`, as reqwest does not return it.
fn observed(body: LfsBody, failed: Arc<Slot<Option<io::Error>>>, taken: Arc<AtomicU64>) -> LfsBody {
    let watch = move |piece: io::Result<Bytes>| match piece {
        Ok(piece) => {
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(piece)
        }
        Err(error) => {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Err(io::Error::other("the object cannot be read"))
        }
    };
    body.map(watch).boxed()
}
