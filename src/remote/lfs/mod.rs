//! The LFS server of a repository at a Git server: what it has, and objects on their way from and to it.
//!
//! As git-lfs does it: what an action says is all that its host is told. Our own credentials go where they belong, to
//! the host that the repository is at.

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
use super::http::{Clients, may_be_told};
use super::{RemoteRepository, said};
use gitferry_base::error::chain;
use gitferry_git::lfs::Pointer;

/// What requests and answers of the API are.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.git-lfs+json");
/// What an object is.
const OBJECT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Most bytes of an answer: a hundred objects, each with some kilobytes of signed headers.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Most bytes of a refusal that are read.
const MAX_REASON_BYTES: usize = 4096;
/// Most redirects that are followed.
pub const MAX_REDIRECTS: usize = 5;

/// The LFS server of one repository.
pub struct LfsServer {
    clients: Clients,
    login: Mutex<Option<Login>>,
    endpoint: Url,
    silence: Duration,
}

/// A request that can be made again.
struct Call<'a> {
    doing: &'static str,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: &'a str,
    /// Whether our own credentials go with it.
    as_us: bool,
}

impl RemoteRepository {
    /// Its LFS server, by LFS's own rule. Nothing is asked yet.
    pub fn lfs(&self) -> Result<LfsServer, LfsError> {
        let server = self.lfs_url();
        let endpoint = Url::parse(&server).map_err(|error| LfsError::Unusable { server, reason: error.to_string() })?;
        let (clients, login) = self.http();
        let (clients, login) = (clients.clone(), Mutex::new(login));
        Ok(LfsServer { clients, login, endpoint, silence: self.remote().0.patience.silence })
    }
}

impl LfsServer {
    /// Where it is.
    pub fn url(&self) -> &str {
        self.endpoint.as_str()
    }

    /// Asks about at most [`MAX_BATCH_OBJECTS`] objects: what to do about each, in their order.
    pub async fn batch(&self, operation: Operation, objects: &[Pointer]) -> Result<Vec<Offer>, LfsError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let doing = match operation {
            Operation::Upload => "asking which LFS objects it lacks",
            Operation::Download => "asking for LFS objects",
        };
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/objects/batch", url.path()));
        let headers = HeaderMap::from_iter([(header::ACCEPT, MEDIA_TYPE), (header::CONTENT_TYPE, MEDIA_TYPE)]);
        let body = batch::request(operation, objects);
        let call = Call { doing, method: Method::POST, url, headers, body: &body, as_us: true };
        let answer = self.call(call).await?;
        let text = self.read(answer, MAX_ANSWER_BYTES + 1, doing).await?;
        if text.len() > MAX_ANSWER_BYTES {
            return Err(self.protocol(format!("the answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        batch::offers(&text, operation, objects, &self.endpoint).map_err(|reason| self.protocol(reason))
    }

    /// Begins a download. Memory does not depend on the size.
    pub async fn download(&self, action: &Action) -> Result<LfsBody, LfsError> {
        const DOING: &str = "downloading an LFS object";
        let call = self.of_action(DOING, Method::GET, action, "");
        let answer = self.call(call).await?;
        let (silence, server) = (self.silence, self.url().to_owned());
        let pieces = futures::stream::unfold(Some(answer), move |answer| {
            let server = server.clone();
            async move {
                let mut answer = answer?;
                let reason = match tokio::time::timeout(silence, answer.chunk()).await {
                    Ok(Ok(piece)) => return piece.map(|piece| (Ok(piece), Some(answer))),
                    Ok(Err(error)) => chain(&error.without_url()),
                    Err(_) => format!("the server did not send anything for {silence:?}"),
                };
                Some((Err(LfsError::Connection { server, doing: DOING, reason }.into_io()), None))
            }
        });
        Ok(pieces.boxed())
    }

    /// Uploads an object. Where the body fails, the request is cut off, and what it failed with is
    /// [`LfsError::Source`]. The upload that is to be made instead, where the server says so.
    pub async fn upload(&self, action: &Action, pointer: Pointer, body: LfsBody) -> Result<Option<Action>, LfsError> {
        const DOING: &str = "uploading an LFS object";
        let mut call = self.of_action(DOING, Method::PUT, action, "");
        if call.as_us {
            self.authorize(&mut call.headers).await?;
        }
        call.headers.entry(header::CONTENT_TYPE).or_insert(OBJECT_TYPE);
        if !action.chunked {
            call.headers.insert(header::CONTENT_LENGTH, pointer.size.into());
        }
        let (failed, taken) = (Arc::new(Slot::new(None)), Arc::new(AtomicU64::new(0)));
        let body = watched(body, failed.clone(), taken.clone());
        let request = self.client(&call.url, DOING)?.put(call.url.clone()).headers(std::mem::take(&mut call.headers));
        let mut sending = std::pin::pin!(request.body(reqwest::Body::wrap_stream(body)).send());
        let mut before = 0;
        let answer = loop {
            // As long as bytes flow there is no reason to give up.
            match tokio::time::timeout(self.silence, &mut sending).await {
                Ok(answer) => break answer,
                Err(_) if taken.load(Ordering::Relaxed) > before => before = taken.load(Ordering::Relaxed),
                Err(_) => return Err(self.silent(DOING)),
            }
        };
        if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(LfsError::Source { server: self.url().into(), error });
        }
        let answer = answer.map_err(|error| self.broken(DOING, error))?;
        if answer.status().is_success() {
            return Ok(None);
        }
        // Elsewhere an upload would be told what was meant for this place.
        let to = location(&call.url, &answer).filter(|to| keeps_method(&answer) && may_be_told(&call.url, to));
        match to {
            Some(url) => Ok(Some(Action { url, ..action.clone() })),
            None => Err(self.refusal(answer, DOING).await),
        }
    }

    /// Tells the server that an object has been uploaded, where it wants to know.
    pub async fn verify(&self, action: &Action, pointer: Pointer) -> Result<(), LfsError> {
        let Pointer { oid, size } = pointer;
        let body = serde_json::json!({ "oid": oid.to_string(), "size": size }).to_string();
        let mut call = self.of_action("verifying an LFS object", Method::POST, action, &body);
        call.headers.entry(header::ACCEPT).or_insert(MEDIA_TYPE);
        call.headers.entry(header::CONTENT_TYPE).or_insert(MEDIA_TYPE);
        self.call(call).await.map(drop)
    }

    /// A request that an action describes. Credentials of ours go with it only to the host that they are for, and only
    /// where it has none of its own.
    fn of_action<'a>(&self, doing: &'static str, method: Method, action: &Action, body: &'a str) -> Call<'a> {
        let has_own = action.authenticated || action.headers.contains_key(header::AUTHORIZATION);
        let as_us = !has_own && may_be_told(&self.endpoint, &action.url);
        Call { doing, method, url: action.url.clone(), headers: action.headers.clone(), body, as_us }
    }

    /// Makes a request, with other credentials if the first are refused, and where the server says to make it.
    async fn call(&self, mut call: Call<'_>) -> Result<Response, LfsError> {
        let mut asked_anew = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = call.headers.clone();
            if call.as_us {
                self.authorize(&mut headers).await?;
            }
            let request =
                self.client(&call.url, call.doing)?.request(call.method.clone(), call.url.clone()).headers(headers);
            let request = if call.method == Method::GET { request } else { request.body(call.body.to_owned()) };
            let answer = match tokio::time::timeout(self.silence, request.send()).await {
                Ok(answer) => answer.map_err(|error| self.broken(call.doing, error))?,
                Err(_) => return Err(self.silent(call.doing)),
            };
            let status = answer.status();
            if status.is_redirection() && answer.headers().contains_key(header::LOCATION) {
                call.follow(&answer).map_err(|reason| self.protocol(reason))?;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && call.as_us && !asked_anew && self.refused().await {
                asked_anew = true;
                continue;
            }
            if !status.is_success() {
                return Err(self.refusal(answer, call.doing).await);
            }
            if let (true, Some(login)) = (call.as_us, &mut *self.login.lock().await) {
                login.accepted().await;
            }
            return Ok(answer);
        }
        Err(self.protocol(format!("more than {MAX_REDIRECTS} redirects, one after the other")))
    }

    fn client(&self, url: &Url, doing: &'static str) -> Result<&reqwest::Client, LfsError> {
        let broken = |reason| LfsError::Connection { server: self.url().into(), doing, reason };
        self.clients.of(url).map_err(broken)
    }

    async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), LfsError> {
        let mut login = self.login.lock().await;
        let Some(login) = &mut *login else { return Ok(()) };
        let who = login.header().await;
        let who = who.map_err(|reason| LfsError::Credentials { server: self.url().into(), reason })?;
        if let Some(who) = who {
            headers.insert(header::AUTHORIZATION, who);
        }
        Ok(())
    }

    /// The credentials were refused. Says whether asking again may help.
    async fn refused(&self) -> bool {
        match &mut *self.login.lock().await {
            Some(login) => login.refused().await,
            None => false,
        }
    }

    /// At most so many bytes of an answer.
    async fn read(&self, mut answer: Response, most: usize, doing: &'static str) -> Result<Vec<u8>, LfsError> {
        let mut text = Vec::new();
        while text.len() < most {
            match tokio::time::timeout(self.silence, answer.chunk()).await {
                Ok(Ok(Some(piece))) => text.extend_from_slice(&piece[..piece.len().min(most - text.len())]),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(self.broken(doing, error)),
                Err(_) => return Err(self.silent(doing)),
            }
        }
        Ok(text)
    }

    async fn refusal(&self, answer: Response, doing: &'static str) -> LfsError {
        let status = answer.status();
        let text = self.read(answer, MAX_REASON_BYTES, doing).await.unwrap_or_default();
        let json: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        let words = json.as_ref().and_then(|json| json.get("message")?.as_str());
        let reason = said::shown(words.map_or(&text[..], str::as_bytes));
        let reason = reason.unwrap_or_else(|| status.canonical_reason().unwrap_or("for a reason of its own").into());
        let reason = match &*self.login.lock().await {
            Some(login) => login.scrub(reason),
            None => reason,
        };
        LfsError::Answer { server: self.url().into(), doing, status: status.as_u16(), reason }
    }

    fn broken(&self, doing: &'static str, error: reqwest::Error) -> LfsError {
        LfsError::Connection { server: self.url().into(), doing, reason: chain(&error.without_url()) }
    }

    fn silent(&self, doing: &'static str) -> LfsError {
        let reason = format!("the server did not answer for {:?}", self.silence);
        LfsError::Connection { server: self.url().into(), doing, reason }
    }

    fn protocol(&self, reason: String) -> LfsError {
        LfsError::Protocol { server: self.url().into(), reason }
    }
}

impl Call<'_> {
    /// Goes where an answer says, if that is not less safe. Another host is told nothing that was for the first one.
    fn follow(&mut self, answer: &Response) -> Result<(), String> {
        let to = location(&self.url, answer).ok_or("it redirects to no URL")?;
        // As git-lfs does it for a repository that was renamed: what is posted is posted again.
        let is_moved = matches!(answer.status(), StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND);
        let posts_again = self.method == Method::POST && is_moved && may_be_told(&self.url, &to);
        if self.method != Method::GET && !keeps_method(answer) && !posts_again {
            return Err(format!("{}: the LFS server redirects what cannot be asked elsewhere", self.doing));
        }
        match (self.url.scheme(), to.scheme()) {
            ("https", "https") | ("http", "http" | "https") => {}
            _ => return Err("it redirects to what is less safe".into()),
        }
        if !may_be_told(&self.url, &to) {
            self.as_us = false;
            let public = [header::ACCEPT, header::CONTENT_TYPE];
            let kept = public.into_iter().filter_map(|name| Some((self.headers.get(&name)?.clone(), name)));
            self.headers = kept.map(|(value, name)| (name, value)).collect();
        }
        self.url = to;
        Ok(())
    }
}

/// Where an answer says to ask.
fn location(url: &Url, answer: &Response) -> Option<Url> {
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    url.join(location).ok()
}

/// Whether it says to ask there in the same way.
fn keeps_method(answer: &Response) -> bool {
    matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// A body that counts its bytes, and puts aside what it fails with: the HTTP library would not give it back.
fn watched(body: LfsBody, failed: Arc<Slot<Option<io::Error>>>, taken: Arc<AtomicU64>) -> LfsBody {
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
