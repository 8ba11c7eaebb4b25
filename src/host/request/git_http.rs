//! Headers of Git's requests and responses over HTTP (gitprotocol-http).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use super::refusal::Refusal;
use gitferry_git::protocol::Version;

/// Refuses a body of another media type: web pages may send some media types across sites without a preflight request.
pub fn check_content_type(headers: &HeaderMap, expected: &'static str) -> Result<(), Refusal> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|sent| sent.as_bytes().split(|byte| *byte == b';').next());
    if sent.is_some_and(|sent| sent.trim_ascii().eq_ignore_ascii_case(expected.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::MediaType(expected))
    }
}

/// Protocol version of a request, from the header `Git-Protocol`.
pub fn version(headers: &HeaderMap) -> Version {
    headers.get("git-protocol").map(|value| Version::negotiate(value.as_bytes())).unwrap_or_default()
}

/// Response of a Git service, with headers that forbid caching.
pub fn git_response(content_type: &'static str, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0, must-revalidate")),
        (header::EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    (headers, body).into_response()
}
