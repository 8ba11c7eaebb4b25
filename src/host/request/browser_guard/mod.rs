//! Protection against requests that web pages make browsers send; see [`cross_site`] and [`rebinding`].

mod cross_site;
mod rebinding;

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, header};

use super::refusal::Refusal;
use super::urls::HostUrls;

/// Refuses requests that are addressed to other hosts, or that come from pages of other sites.
#[derive(Debug)]
pub struct BrowserGuard {
    /// True for a host without authentication. A host with authentication accepts every name.
    anonymous: bool,
    urls: Arc<HostUrls>,
}

impl BrowserGuard {
    /// The guard of a host.
    pub fn new(anonymous: bool, urls: Arc<HostUrls>) -> Self {
        BrowserGuard { anonymous, urls }
    }

    /// Checks a request. `forwarded` is the host that it was addressed to, as trusted proxies report it.
    ///
    /// # Errors
    /// [`Refusal::Misdirected`] and [`Refusal::CrossSite`].
    pub fn check(&self, request: &Parts, forwarded: Option<&Authority>) -> Result<(), Refusal> {
        if self.anonymous && !self.is_addressed_here(request) {
            return Err(Refusal::Misdirected);
        }
        if self.is_cross_site(request, forwarded) {
            return Err(Refusal::CrossSite);
        }
        Ok(())
    }

    fn is_addressed_here(&self, request: &Parts) -> bool {
        let asked = match (request.uri.authority(), request.headers.get(header::HOST)) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
            // HTTP/1.0 without the header: not a browser.
            (None, None) => return true,
        };
        rebinding::is_own_authority(asked, self.urls.own())
    }

    fn is_cross_site(&self, request: &Parts, forwarded: Option<&Authority>) -> bool {
        let host = request.headers.get(header::HOST).and_then(|host: &HeaderValue| host.to_str().ok());
        let asked = request.uri.authority().map(Authority::as_str).or(host);
        let own = self.urls.own().map(cross_site::authority_of);
        let forwarded = forwarded.map(Authority::as_str);
        cross_site::is_cross_site(&request.headers, asked.into_iter().chain(own).chain(forwarded))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(anonymous: bool, lines: &[(&str, &str)], forwarded: Option<&str>) -> Result<(), Refusal> {
        let urls = BTreeMap::from([("us".to_owned(), "https://git.example".to_owned())]);
        let guard = BrowserGuard::new(anonymous, Arc::new(HostUrls::new("us", urls)));
        let request =
            lines.iter().fold(axum::http::Request::builder(), |request, (name, value)| request.header(*name, *value));
        let forwarded: Option<Authority> = forwarded.map(|authority| authority.parse().unwrap());
        guard.check(&request.body(()).unwrap().into_parts().0, forwarded.as_ref())
    }

    #[test]
    fn only_a_host_without_authentication_has_to_be_addressed_by_its_own_name() {
        let foreign = [("host", "evil.example")];
        assert!(matches!(check(true, &foreign, None), Err(Refusal::Misdirected)));
        assert!(check(false, &foreign, None).is_ok());
        for own in [&[("host", "localhost:80")][..], &[("host", "git.example")], &[]] {
            assert!(check(true, own, None).is_ok(), "{own:?}");
        }
    }

    #[test]
    fn pages_of_every_authority_of_the_host_are_its_own() {
        let from = |origin| [("host", "git.example"), ("origin", origin)];
        assert!(check(false, &from("https://git.example"), None).is_ok());
        assert!(matches!(check(false, &from("https://proxy.example"), None), Err(Refusal::CrossSite)));
        assert!(check(false, &from("https://proxy.example"), Some("proxy.example")).is_ok());
    }
}
