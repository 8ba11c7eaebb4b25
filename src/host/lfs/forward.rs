//! Batch requests for uploads to a replica, forwarded to the host of the primary.
//!
//! The hrefs in the response of the primary point to the primary, so that objects are uploaded there directly and not through two
//! hosts.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::json::json;
use super::refusal::LfsRefusal;
use crate::forward::headers::ForwardedRequest;
use crate::forward::other_host::OtherHost;
use gitferry_engine::region::Region;
use gitferry_iam::{Bearer, CLIENT_LIFETIME};

/// Largest response of another host's Batch API, in bytes: eight times that of a request.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Service of a repository below which all requests of Git LFS are.
const LFS: &str = "/info/lfs";

/// Forwards a batch request with this body to the host `primary`. `from` is the region of the client's host.
pub async fn forward_batch(
    primary: &OtherHost,
    request: &ForwardedRequest,
    from: &Region,
    body: Bytes,
) -> Result<Response, LfsRefusal> {
    let failed = |error: reqwest::Error| {
        tracing::warn!(url = primary.url(), error = %error.without_url(), "an LFS batch request could not be forwarded");
        let reason = format!("the primary {} cannot be reached", primary.url());
        LfsRefusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    };
    let headers = request.headers(from, primary.region(), LFS)?;
    let sent = primary.post(&format!("{}/objects/batch", request.path(LFS))).headers(headers).body(body).send().await;
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
    let delegation = request.delegation(from, primary.region(), LFS, Bearer::Client)?;
    let lifetime = delegation.as_ref().map(|_| CLIENT_LIFETIME.as_secs());
    let credentials = delegation.as_ref().or(request.own_credentials());
    if let Some(credentials) = credentials.and_then(|value| value.to_str().ok()) {
        set_credentials(&mut answer, credentials, lifetime);
    }
    Ok(json(status, &answer))
}

/// Sets credentials as header of every action: clients store credentials by host, and the hrefs name another one. A
/// client asks for new hrefs after `lifetime` seconds.
fn set_credentials(answer: &mut Value, credentials: &str, lifetime: Option<i64>) {
    let objects = answer["objects"].as_array_mut().into_iter().flatten();
    let actions = objects.filter_map(|object| object.get_mut("actions")?.as_object_mut());
    for action in actions.flat_map(|actions| actions.values_mut()) {
        if let Some(action) = action.as_object_mut() {
            action.insert("header".into(), serde_json::json!({ "Authorization": credentials }));
            lifetime.map(|seconds| action.insert("expires_in".into(), seconds.into()));
        }
    }
}
