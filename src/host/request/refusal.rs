//! Reasons for refusing a request before the Git protocol begins, and their responses.

use std::io;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::route::{ActionError, RouteError};
use crate::admission::permits::Busy;
use crate::auth::{Cause, Denied};
use gitferry_base::Kind;
use gitferry_engine::region::RegionError;
use gitferry_git::refname::NameError;

/// Challenge of a 401 response (`WWW-Authenticate`).
const CHALLENGE: &str = "Basic realm=\"gitferry\", charset=\"UTF-8\"";
/// Seconds after which a client that was answered 503 may retry (`Retry-After`).
const RETRY_AFTER_SECONDS: u64 = 5;
/// Reason for refusing a request before the Git protocol begins.
#[derive(Debug)]
pub enum Refusal {
    Denied(Denied),
    /// Forbidden by a rule. The text names the rule and the alternative.
    Forbidden(String),
    NotFound,
    /// The path holds a name that no repository can have.
    Name(NameError),
    Method,
    /// The request is addressed to another host.
    Misdirected,
    /// A web page of another site made the browser send the request.
    CrossSite,
    BadRequest(String),
    /// The body has another media type than this one.
    MediaType(&'static str),
    /// The body did not arrive within the idle timeout.
    IdleTimeout,
    /// Admission control refused the request.
    Busy,
    /// The quota of requests is used up. The reason names the quota; the client may come again after some seconds.
    TooManyRequests {
        reason: String,
        seconds: u64,
    },
    /// The primary's host refused a forwarded push, or could not be reached.
    Primary(StatusCode, String),
    Region(RegionError),
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Refusal::Busy
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Refusal::Denied(denied)
    }
}

/// Converts errors of reading a request's body.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Refusal::IdleTimeout,
            io::ErrorKind::ResourceBusy => Refusal::Busy,
            _ => Refusal::BadRequest(format!("the request's body ends early: {error}")),
        }
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::NotFound => Refusal::NotFound,
            RouteError::InvalidName(error) => Refusal::Name(error),
        }
    }
}

impl From<ActionError> for Refusal {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Method => Refusal::Method,
            ActionError::NotSmart => Refusal::BadRequest(
                "this host serves Git's smart protocol only: the URL has to name a `service`".into(),
            ),
        }
    }
}

impl From<RegionError> for Refusal {
    fn from(error: RegionError) -> Self {
        match error.kind() {
            Kind::NotFound => Refusal::NotFound,
            _ => Refusal::Region(error),
        }
    }
}

impl Refusal {
    /// Status and text for the client.
    pub fn explain(&self) -> (StatusCode, String) {
        let plain = |status, text: &str| (status, text.to_owned());
        match self {
            Refusal::Denied(Denied::Unknown) => plain(StatusCode::UNAUTHORIZED, "credentials are needed"),
            Refusal::Denied(Denied::Forbidden(cause)) => (StatusCode::FORBIDDEN, explain(*cause)),
            Refusal::Denied(Denied::TooManyFailures) => {
                plain(StatusCode::TOO_MANY_REQUESTS, "too many failed attempts to authenticate; try again in a minute")
            }
            Refusal::Denied(Denied::Unavailable) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "the identities cannot be read now; the operator's log says why")
            }
            Refusal::Forbidden(reason) => plain(StatusCode::FORBIDDEN, reason),
            Refusal::NotFound => plain(StatusCode::NOT_FOUND, "not found"),
            Refusal::Name(error) => (StatusCode::NOT_FOUND, format!("not found: {error}")),
            Refusal::Misdirected => {
                let reason = "without authentication this host answers to localhost and its own url only";
                plain(StatusCode::MISDIRECTED_REQUEST, reason)
            }
            Refusal::CrossSite => {
                plain(StatusCode::FORBIDDEN, "requests that pages of other sites make are not answered")
            }
            Refusal::Method => plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            Refusal::MediaType(expected) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the Content-Type has to be {expected}"))
            }
            Refusal::IdleTimeout => {
                plain(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive within the idle timeout")
            }
            Refusal::Busy => plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests at the moment; try again"),
            Refusal::TooManyRequests { reason, .. } => plain(StatusCode::TOO_MANY_REQUESTS, reason),
            Refusal::Primary(status, reason) => plain(*status, reason),
            Refusal::BadRequest(reason) => plain(StatusCode::BAD_REQUEST, reason),
            Refusal::Region(error @ RegionError::Replaced { .. }) => (StatusCode::CONFLICT, error.to_string()),
            Refusal::Region(error) => {
                let reason = error.key_fault().map(|fault| fault.for_clients());
                let reason = reason.unwrap_or("the repository cannot be served now; the operator's log says why");
                plain(status_of(error.kind()), reason)
            }
        }
    }

    /// Seconds after which the client may try again (`Retry-After`).
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Refusal::Busy | Refusal::Denied(Denied::TooManyFailures | Denied::Unavailable) => Some(RETRY_AFTER_SECONDS),
            Refusal::TooManyRequests { seconds, .. } => Some(*seconds),
            _ => None,
        }
    }

    /// The response to a request for `path`, which is given as in the URL, percent-encoded: it has no control
    /// characters. Logs failures of the region.
    pub fn into_response(self, path: &str) -> Response {
        let (status, text) = self.explain();
        let text = match &self {
            Refusal::NotFound => format!("not found: {path}"),
            Refusal::Region(error) if status != StatusCode::CONFLICT => {
                tracing::error!(%error, "a request failed");
                text
            }
            _ => text,
        };
        let mut response = (status, format!("{text}\n")).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Cause of a denial, in words for the client.
fn explain(cause: Cause) -> String {
    match cause {
        Cause::Grant => "not allowed: these credentials do not grant this access to the repository".into(),
        Cause::NoAllow(action) => format!("not allowed: no policy allows {action} on the repository"),
        Cause::ExplicitDeny(action) => {
            format!("not allowed: a policy explicitly denies {action} on the repository")
        }
    }
}

/// Status of a failure of the region.
fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Transient | Kind::InDoubt | Kind::Conflict | Kind::Environment => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
