//! Protection against cross-site request forgery.
//!
//! A web page of another site can make a browser send requests to this host with the credentials and the network access
//! of the browser's user. Browsers name the origin of a request: `Sec-Fetch-Site` in all current ones (W3C Fetch
//! Metadata), `Origin` in older ones. Git sends neither.

use axum::http::{HeaderMap, HeaderName, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns true if a page of another site made the browser send the request. `authorities` are those (`HOST[:PORT]`) of
/// this host.
pub fn is_cross_site<'a>(headers: &HeaderMap, authorities: impl IntoIterator<Item = &'a str>) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        // `none`: the user typed the URL or opened a bookmark.
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let Some((_, page)) = origin else { return true };
    !authorities.into_iter().any(|own| !own.is_empty() && own.eq_ignore_ascii_case(page))
}

/// The authority (`HOST[:PORT]`) of a URL; empty if the text is no URL.
pub fn authority_of(url: &str) -> &str {
    url.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&'static str, &'static str)]) -> bool {
        let headers = lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        is_cross_site(&headers.collect(), ["localhost:8411", authority_of("https://git.example/base"), ""])
    }

    #[test]
    fn only_pages_of_other_sites() {
        for own in [
            &[][..],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8411")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://LOCALHOST:8411")],
            &[("origin", "https://git.example")],
        ] {
            assert!(!of(own), "{own:?}");
        }
        for other in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "")],
            &[("origin", "null")],
            &[("origin", "https://evil.example")],
            &[("origin", "http://localhost:1")],
            &[("origin", "")],
            &[("origin", "https://")],
        ] {
            assert!(of(other), "{other:?}");
        }
    }
}
