//! The LFS endpoint of a repository, as the client reaches it.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};

use super::refusal::LfsRefusal;
use crate::client::Client;
use crate::request::urls::HostUrls;
use crate::ssh::lfs_tokens::is_lfs_token;

/// Path of the LFS endpoint below its repository.
const LFS_PATH: &str = "/info/lfs";

/// LFS endpoint of a repository as the client reaches it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// URL without a slash at its end.
    pub url: String,
    /// Credentials for the hrefs. `None` if the hrefs name the host that the client asked, to which it sends its own; a
    /// token of `git-lfs-authenticate` it sends to no other URL than the one that came with the token.
    pub authorization: Option<String>,
}

/// Finds the endpoints of requests.
#[derive(Debug)]
pub struct Endpoints {
    urls: Arc<HostUrls>,
    url: Option<String>,
}

impl Endpoints {
    /// Endpoints below `url`; by default below the URL that the client has used.
    pub fn new(urls: Arc<HostUrls>, url: Option<String>) -> Self {
        Endpoints { urls, url }
    }

    /// The LFS endpoint of a request, as its client reaches it. The path is that of the request; the base is the
    /// configured URL, otherwise the URL that trusted proxies report, otherwise the one that the client has used.
    pub fn of(&self, request: &Parts) -> Result<Endpoint, LfsRefusal> {
        let path = request.uri.path();
        let path = path.find(LFS_PATH).map_or(path, |at| &path[..at + LFS_PATH.len()]);
        let asked = self.asked(request)?;
        let base = self.url.as_deref().map_or(asked.as_str(), |url| url.trim_end_matches('/'));
        let authorization = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // Clients store credentials by scheme and host.
        let elsewhere = !base.eq_ignore_ascii_case(&asked) && !base.starts_with(&format!("{asked}/"));
        Ok(Endpoint {
            url: format!("{base}{path}"),
            authorization: authorization.filter(|value| elsewhere || is_lfs_token(value)).map(Into::into),
        })
    }

    /// Scheme and host of the URL that the client has used, as `SCHEME://HOST[:PORT]`.
    fn asked(&self, request: &Parts) -> Result<String, LfsRefusal> {
        let client = Client::current();
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let named = client.asked_host().cloned().or_else(|| request.uri.authority().cloned());
        let named = named.or_else(|| host?.parse::<Authority>().ok());
        let authority = named.filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        let authority =
            authority.ok_or_else(|| LfsRefusal::new(StatusCode::BAD_REQUEST, "the Host header is not a valid host"))?;
        let tls = self.urls.own().is_some_and(|url| url.starts_with("https:"));
        let own = request.uri.scheme_str().unwrap_or(if tls { "https" } else { "http" });
        let scheme = client.asked_scheme().unwrap_or(own);
        Ok(format!("{scheme}://{authority}"))
    }
}
