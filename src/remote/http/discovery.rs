//! A discovered service of a repository, and the redirects that the discovery follows.

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};

use super::failure::{self, FailureContext};
use crate::credentials::Login;
use gitferry_git::client::ClientError;
use gitferry_git::protocol::{Service, Version};

/// Name of the ref discovery in errors.
pub const DISCOVERING: &str = "ref discovery";
/// Header with the newest protocol version that the client supports.
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// A discovered service of a repository.
pub struct Discovery {
    /// URL of the repository after redirects.
    pub base: Url,
    pub client: reqwest::Client,
    pub service: Service,
    pub version: Version,
    /// `None` once a redirect has left the host that the credentials belong to.
    pub login: Option<Login>,
    pub answer: Option<Response>,
}

impl Discovery {
    /// Headers common to all requests.
    pub async fn headers(&mut self) -> Result<HeaderMap, ClientError> {
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

    /// Records that the server answered 401. Returns true if a retry would send other credentials.
    pub async fn reject(&mut self) -> bool {
        match &mut self.login {
            Some(login) => login.reject().await,
            None => false,
        }
    }

    pub fn context(&self, doing: &'static str) -> FailureContext<'_> {
        FailureContext { server: &self.base, doing }
    }

    /// Classifies an unsuccessful answer, with the server's text redacted.
    pub async fn refusal(&self, answer: Response, doing: &'static str, idle_timeout: Duration) -> ClientError {
        let status = answer.status();
        let text = failure::reason(answer, idle_timeout).await;
        let mut reason = match &self.login {
            Some(login) => login.scrub(text),
            None => text,
        };
        if self.login.is_none() && status == StatusCode::UNAUTHORIZED {
            reason += " (redirected to another host, which gitferry sends no credentials; configure that host's URL)";
        }
        self.context(doing).status(status, reason)
    }
}

/// Returns the repository URL that a redirect leads to.
pub fn redirected(base: &Url, answer: &Response, service: Service) -> Result<Url, String> {
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| answer.url().join(location).ok()).ok_or("the redirect names no valid URL")?;
    repository_of(base, &to, service)
}

/// Strips `/info/refs` and the query from the target of a redirect. As in Git, a redirect must keep both.
fn repository_of(base: &Url, to: &Url, service: Service) -> Result<Url, String> {
    let shown = format!("{}://{}", to.scheme(), to.host_str().unwrap_or_default());
    match (base.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => {}
        _ => return Err(format!("refused a redirect to {shown}: it would downgrade from {}", base.scheme())),
    }
    let path = to.path().strip_suffix("/info/refs");
    let same = to.query() == Some(&format!("service={}", service.name()));
    let path = path
        .filter(|_| same)
        .ok_or_else(|| format!("refused a redirect to {shown}: it does not lead to a repository's info/refs"))?;
    let mut url = to.clone();
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    // Credentials in the redirect are the server's, not the configured ones.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Ok(url)
}

/// Returns true if credentials for `from` may be sent to `to`: the same host, without a downgrade from TLS.
pub fn may_share_credentials(from: &Url, to: &Url) -> bool {
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
            assert_eq!(may_share_credentials(&url(from), &url(to)), may, "{from} {to}");
        }
    }
}
