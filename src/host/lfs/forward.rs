//! Batch requests for uploads to a replica, forwarded to the host of the primary.
//!
//! The hrefs in the response of the primary point to the primary, so that objects are uploaded there directly and not through two
//! hosts.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use super::json::json;
use super::refusal::LfsRefusal;
use crate::forward::headers::forwarded_headers;
use crate::forward::other_host::OtherHost;
use gitferry_engine::ledger::head::RepositoryId;

/// Largest response of another host's Batch API, in bytes: eight times that of a request.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Forwards a batch request to the host `primary`.
pub async fn forward_batch(
    primary: &OtherHost,
    repository: &str,
    id: Option<RepositoryId>,
    headers: &HeaderMap,
    region: &str,
    request: Bytes,
) -> Result<Response, LfsRefusal> {
    let failed = |error: reqwest::Error| {
        tracing::warn!(url = primary.url(), error = %error.without_url(), "an LFS batch request could not be forwarded");
        let reason = format!("the primary {} cannot be reached", primary.url());
        LfsRefusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    };
    let sent = primary.post(&format!("{repository}/info/lfs/objects/batch"));
    let sent = sent.headers(forwarded_headers(headers, region, id)).body(request).send().await;
    let mut answer = sent.map_err(failed)?;
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(failed)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(LfsRefusal::new(StatusCode::BAD_GATEWAY, "the response of the primary is too long"));
        }
    }
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        return Err(LfsRefusal::new(StatusCode::BAD_GATEWAY, "the response of the primary is not valid JSON"));
    };
    if status != StatusCode::OK {
        let message = answer["message"].as_str().unwrap_or("the primary refused");
        return Err(LfsRefusal::new(status, message));
    }
    if let Some(credentials) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        set_credentials(&mut answer, credentials);
    }
    Ok(json(status, &answer))
}

/// Sets the client's credentials as header of every action: clients store credentials by host, and the hrefs name
/// another one.
fn set_credentials(answer: &mut Value, credentials: &str) {
    let objects = answer["objects"].as_array_mut().into_iter().flatten();
    let actions = objects.filter_map(|object| object.get_mut("actions")?.as_object_mut());
    for action in actions.flat_map(|actions| actions.values_mut()) {
        if let Some(action) = action.as_object_mut() {
            action.insert("header".into(), serde_json::json!({ "Authorization": credentials }));
        }
    }
}
