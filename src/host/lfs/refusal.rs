//! Refusals of LFS requests, in the JSON of the LFS API.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::json::json;
use crate::admission::permits::Busy;
use crate::auth::Denied;
use crate::client::Client;
use crate::request::refusal::Refusal;
use gitferry_base::Kind;
use gitferry_engine::region::RegionError;

/// Refusal of an LFS request.
#[derive(Debug)]
pub struct LfsRefusal {
    status: StatusCode,
    message: String,
    /// Seconds after which the request may succeed.
    retry_after: Option<u64>,
    /// Cause for the log, if it is not the client's fault.
    error: Option<Box<RegionError>>,
}

impl LfsRefusal {
    /// A refusal with a status and a text for the client.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        LfsRefusal { status, message: message.into(), retry_after: None, error: None }
    }

    /// Status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An object for which a quota leaves no room (507).
    pub fn no_room(reason: String) -> Self {
        LfsRefusal::new(StatusCode::INSUFFICIENT_STORAGE, reason)
    }

    /// A request that is understood and wrong (422).
    pub fn unprocessable(message: impl Into<String>) -> Self {
        LfsRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }
}

impl From<Refusal> for LfsRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => LfsRefusal::new(StatusCode::NOT_FOUND, "there is no such repository"),
            Refusal::Name(error) => LfsRefusal::new(StatusCode::NOT_FOUND, error.to_string()),
            Refusal::Region(error) => error.into(),
            other => {
                let (status, message) = other.explain();
                LfsRefusal { retry_after: other.retry_after(), ..LfsRefusal::new(status, message) }
            }
        }
    }
}

impl From<RegionError> for LfsRefusal {
    fn from(error: RegionError) -> Self {
        if matches!(error, RegionError::Replaced { .. }) {
            return LfsRefusal::new(StatusCode::CONFLICT, error.to_string());
        }
        if let Some(fault) = error.key_fault() {
            let refusal = LfsRefusal::new(StatusCode::SERVICE_UNAVAILABLE, fault.for_clients());
            return LfsRefusal { error: Some(Box::new(error)), ..refusal };
        }
        let status = match error.kind() {
            Kind::NotFound => return LfsRefusal::new(StatusCode::NOT_FOUND, "there is no such repository"),
            Kind::Refused | Kind::Usage => return LfsRefusal::new(StatusCode::FORBIDDEN, error.to_string()),
            Kind::Transient | Kind::InDoubt | Kind::Conflict => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Environment => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Corrupt | Kind::Missing | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = "the server failed; its operator's log says why, under this request_id";
        LfsRefusal { error: Some(Box::new(error)), ..LfsRefusal::new(status, message) }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl From<Busy> for LfsRefusal {
    fn from(busy: Busy) -> Self {
        Refusal::from(busy).into()
    }
}

impl From<Denied> for LfsRefusal {
    fn from(denied: Denied) -> Self {
        Refusal::from(denied).into()
    }
}

impl LfsRefusal {
    /// Status and text for a client that reads no JSON. Logs failures of the region.
    pub fn into_parts(self) -> (StatusCode, String) {
        let LfsRefusal { status, message, error, .. } = self;
        if let Some(error) = error {
            tracing::error!(%error, "an LFS request failed");
        }
        (status, message)
    }

    /// The response. Logs failures of the region.
    pub fn into_response(self) -> Response {
        let LfsRefusal { status, message, retry_after, error } = self;
        let request_id = error.map(|error| {
            tracing::error!(%error, "an LFS request failed");
            Client::current().request_id().to_owned()
        });
        let mut response = json(status, &ErrorBody { message: &message, request_id });
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert("lfs-authenticate", HeaderValue::from_static("Basic realm=\"gitferry\""));
        }
        response
    }
}
