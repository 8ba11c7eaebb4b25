//! Requests of the Batch API.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use super::json::MEDIA_TYPE;
use super::refusal::LfsRefusal;
use crate::exchange::request_body;
use crate::request::git_http::check_content_type;
use crate::request::refusal::Refusal;

/// Largest request of the Batch API, in bytes.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Reads the body of a request of the Batch API.
pub async fn read_request(parts: &Parts, body: Body, idle_timeout: Duration) -> Result<Bytes, LfsRefusal> {
    check_accept(parts)?;
    check_content_type(&parts.headers, MEDIA_TYPE)?;
    let mut chunks = request_body::chunks(body, idle_timeout, None);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(Refusal::from)?);
        if bytes.len() > MAX_BATCH_BYTES {
            let reason = format!("a request has at most {MAX_BATCH_BYTES} bytes");
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
    }
    Ok(bytes.freeze())
}

/// Parses the body of a request.
pub fn parse<T: DeserializeOwned>(request: &[u8]) -> Result<T, LfsRefusal> {
    serde_json::from_slice(request)
        .map_err(|error| LfsRefusal::unprocessable(format!("the request is not valid JSON of the Batch API: {error}")))
}

/// Refuses a client whose `Accept` header excludes the media type of the responses.
fn check_accept(parts: &Parts) -> Result<(), LfsRefusal> {
    let Some(accept) = parts.headers.get(header::ACCEPT) else { return Ok(()) };
    let accept = accept.to_str().unwrap_or_default();
    let accepts = |range: &str| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", "application/json", MEDIA_TYPE]
            .iter()
            .any(|accepted| media_type.eq_ignore_ascii_case(accepted))
    };
    if accept.split(',').any(accepts) {
        return Ok(());
    }
    Err(LfsRefusal::new(StatusCode::NOT_ACCEPTABLE, format!("responses are of type {MEDIA_TYPE}")))
}
