//! Git over HTTP and HTTPS (gitprotocol-http), for clients.
//!
//! As `git` does it: redirects are followed for the first request only and never take credentials to another host;
//! requests that fit into [`BUFFERED_BYTES`] are sent with their length and again after a 401; larger ones are
//! streamed, once a request of nothing has shown that the server would take them.

mod clients;
mod connection;
mod failure;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use tokio::runtime::Handle;

pub use self::clients::Clients;
use self::failure::Failing;
use super::credentials::{Credentials, Login};
use super::limits::{Patience, PushLimits};
use gitferry_git::client::{ClientError, Connection};
use gitferry_git::protocol::{Service, Version};

/// Requests of at most this many bytes are held in memory before they are sent.
pub const BUFFERED_BYTES: usize = 1 << 20;
/// Requests for fetching of more than this many bytes are compressed.
const COMPRESSED_BYTES: usize = 1024;
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 20;
/// What is being done, for messages.
const DISCOVERING: &str = "asking for its refs";
/// Says which version of the protocol is understood.
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// The way to a server over HTTP.
#[derive(Debug)]
pub struct Http {
    clients: Clients,
    credentials: Arc<Credentials>,
    limits: PushLimits,
    patience: Patience,
    runtime: Handle,
    /// Whether the server has refused a request of unknown length.
    refuses_chunked: AtomicBool,
}

impl Http {
    /// For the servers of one remote.
    pub fn new(
        credentials: Arc<Credentials>,
        limits: PushLimits,
        patience: Patience,
        clients: Clients,
        runtime: Handle,
    ) -> Self {
        Http { clients, credentials, limits, patience, runtime, refuses_chunked: AtomicBool::new(false) }
    }

    /// Asks a repository for a service.
    pub fn connect(
        self: &Arc<Self>,
        url: &Url,
        service: Service,
        version: Version,
    ) -> Result<Box<dyn Connection>, ClientError> {
        let opened = self.runtime.block_on(self.discover(url, service, version))?;
        connection::HttpConnection::begin(self.clone(), opened).map(|it| Box::new(it) as Box<dyn Connection>)
    }

    /// Whether requests of unknown length may be tried.
    fn streams(&self) -> bool {
        self.limits.chunked && !self.refuses_chunked.load(Ordering::Relaxed)
    }

    async fn discover(&self, url: &Url, service: Service, version: Version) -> Result<Opened, ClientError> {
        let (login, client) = (Some(self.credentials.login(url)), self.client(url)?);
        let mut asked = Opened { base: url.clone(), client, service, version, login, answer: None };
        let mut asked_anew = false;
        for _ in 0..=MAX_REDIRECTS {
            let info = format!("{}/info/refs?service={}", asked.base, service.name());
            let request = asked.client.get(info).header(header::PRAGMA, "no-cache");
            let answer = self.send(&mut asked, request, DISCOVERING).await?;
            let status = answer.status();
            if status.is_redirection() && answer.headers().contains_key(header::LOCATION) {
                let to = redirected(&asked.base, &answer, service);
                let to = to.map_err(|reason| asked.failing(DISCOVERING).status(status, reason))?;
                if !may_be_told(&asked.base, &to) {
                    asked.login = None;
                }
                tracing::debug!(from = %asked.base, %to, "the server says to ask elsewhere");
                asked.client = self.client(&to)?;
                asked.base = to;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && !asked_anew && asked.refused().await {
                asked_anew = true;
                continue;
            }
            if status != StatusCode::OK {
                return Err(asked.refusal(answer, DISCOVERING, self.patience.silence).await);
            }
            if let Some(login) = &mut asked.login {
                login.accepted().await;
            }
            asked.answer = Some(answer);
            return Ok(asked);
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects, one after the other");
        Err(asked.failing(DISCOVERING).connection(std::io::Error::other(reason)))
    }

    fn client(&self, url: &Url) -> Result<reqwest::Client, ClientError> {
        let untrusted = |reason| ClientError::Untrusted { server: url.to_string(), reason };
        self.clients.of(url).cloned().map_err(untrusted)
    }

    /// Sends a request and waits for the beginning of the answer.
    async fn send(
        &self,
        asked: &mut Opened,
        request: RequestBuilder,
        doing: &'static str,
    ) -> Result<Response, ClientError> {
        let request = request.headers(asked.headers().await?);
        match tokio::time::timeout(self.patience.silence, request.send()).await {
            Ok(answer) => answer.map_err(|error| asked.failing(doing).request(error)),
            Err(_) => Err(asked.failing(doing).silent(self.patience.silence)),
        }
    }
}

/// What was asked for, and as whom.
struct Opened {
    /// The repository, where the server has said that it is.
    base: Url,
    client: reqwest::Client,
    service: Service,
    version: Version,
    /// `None` once a redirect has left the host that credentials are for.
    login: Option<Login>,
    answer: Option<Response>,
}

impl Opened {
    /// What every request says.
    async fn headers(&mut self) -> Result<HeaderMap, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        match self.version {
            Version::V0 => {}
            Version::V1 => _ = headers.insert(GIT_PROTOCOL, HeaderValue::from_static("version=1")),
            Version::V2 => _ = headers.insert(GIT_PROTOCOL, HeaderValue::from_static("version=2")),
        }
        let unauthorized = |reason| ClientError::Unauthorized { server: self.base.to_string(), reason };
        let identity = match &mut self.login {
            Some(login) => login.header().await.map_err(unauthorized)?,
            None => None,
        };
        if let Some(identity) = identity {
            headers.insert(header::AUTHORIZATION, identity);
        }
        Ok(headers)
    }

    /// The server has answered 401. Says whether asking again may help.
    async fn refused(&mut self) -> bool {
        match &mut self.login {
            Some(login) => login.refused().await,
            None => false,
        }
    }

    fn failing(&self, doing: &'static str) -> Failing<'_> {
        Failing { server: &self.base, doing }
    }

    /// What an answer that is none means, in the server's words without what it may have repeated.
    async fn refusal(&self, answer: Response, doing: &'static str, silence: Duration) -> ClientError {
        let status = answer.status();
        let said = failure::reason(answer, silence).await;
        let mut reason = match &self.login {
            Some(login) => login.scrub(said),
            None => said,
        };
        if self.login.is_none() && status == StatusCode::UNAUTHORIZED {
            reason += " (a redirect led to another host, which is not told the credentials; configure its URL instead)";
        }
        self.failing(doing).status(status, reason)
    }
}

/// Where a redirect leads, as the URL of the repository.
fn redirected(base: &Url, answer: &Response, service: Service) -> Result<Url, String> {
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| answer.url().join(location).ok()).ok_or("it redirects to no URL")?;
    repository_of(base, &to, service)
}

/// The repository that is asked for its refs at a URL. As in Git, a redirect has to lead to the same question.
fn repository_of(base: &Url, to: &Url, service: Service) -> Result<Url, String> {
    let shown = format!("{}://{}", to.scheme(), to.host_str().unwrap_or_default());
    match (base.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => {}
        _ => return Err(format!("it redirects to {shown}, which is less safe")),
    }
    let path = to.path().strip_suffix("/info/refs");
    let same = to.query() == Some(&format!("service={}", service.name()));
    let path = path.filter(|_| same).ok_or_else(|| format!("it redirects to something else at {shown}"))?;
    let mut url = to.clone();
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    // What a server puts there is not what is configured.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Ok(url)
}

/// Whether credentials for one URL may be told to another: the same host, on no worse a way.
pub fn may_be_told(from: &Url, to: &Url) -> bool {
    let default = |url: &Url| url.port().is_none();
    let upgraded = (from.scheme(), to.scheme()) == ("http", "https") && default(from) && default(to);
    from.host() == to.host() && (from.origin() == to.origin() || upgraded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn redirects() {
        let to = |from: &str, to: &str| {
            repository_of(&url(from), &url(to), Service::UploadPack).map(|url| url.to_string()).ok()
        };
        let ask = "info/refs?service=git-upload-pack";
        let same = to("https://a/x", &format!("https://b:1/y/{ask}"));
        assert_eq!(same.as_deref(), Some("https://b:1/y"));
        let safer = to("http://a/x", &format!("https://a/x/{ask}"));
        assert_eq!(safer.as_deref(), Some("https://a/x"));
        let with_user = to("https://a/x", &format!("https://evil:pw@a/x/{ask}"));
        assert_eq!(with_user.as_deref(), Some("https://a/x"));
        for bad in [
            "http://a/x/info/refs?service=git-upload-pack",
            "ftp://a/x/info/refs?service=git-upload-pack",
            "https://a/x/info/refs?service=git-receive-pack",
            "https://a/x/info/refs",
            "https://a/login",
            "https://a/x/info/refs?service=git-upload-pack&x=1",
        ] {
            assert_eq!(to("https://a/x", bad), None, "{bad}");
        }
    }

    #[test]
    fn who_may_be_told() {
        for (from, to, may) in [
            ("https://a/x", "https://a/y", true),
            ("https://a/x", "https://a:443/y", true),
            ("http://a/x", "https://a/x", true),
            ("https://a/x", "https://b/x", false),
            ("https://a/x", "https://a:444/x", false),
            ("https://a/x", "http://a/x", false),
            ("http://a:8080/x", "https://a/x", false),
            ("https://a/x", "https://a.evil/x", false),
        ] {
            assert_eq!(may_be_told(&url(from), &url(to)), may, "{from} {to}");
        }
    }
}
