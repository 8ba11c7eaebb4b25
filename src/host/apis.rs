//! The door of the APIs of AWS: `POST /` and `GET /` of a host with an account. The body is read up to a limit, as a
//! signature covers it, and everything else is the work of [`gitferry_api`], and of the JSON APIs that it asks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use gitferry_api::{ApiRequest, Apis, JsonApi, MAX_BODY_BYTES, Service};
use gitferry_config::HostLimits;
use gitferry_iam::Payload;
use tracing::Span;

use super::admission::{Admission, AdmissionMetrics, Slot};
use super::auth::Presented;
use super::auth::iam::{headers_of, parts_of};
use super::client::Client;
use super::exchange::request_body;
use super::request::refusal::Refusal;

/// Requests of the APIs in progress at a time. Each holds a body of at most [`MAX_BODY_BYTES`].
const MAX_REQUESTS: usize = 64;
/// Requests with larger bodies in progress at a time. Each holds its body, its contents and their pack: about 50 MB.
const MAX_LARGE_REQUESTS: usize = 8;
/// Longest time in which a body has to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time in which a larger body has to arrive.
const LARGE_BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// Header with the id of the request, as AWS names it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Header with the operation of a request of a JSON API.
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// Answers the requests of the APIs.
#[derive(Debug)]
pub struct ApiDoor {
    apis: Option<Arc<Apis>>,
    json: Vec<Arc<dyn JsonApi>>,
    admission: Admission,
    large: Admission,
}

impl ApiDoor {
    /// The door of `apis`, and of the JSON APIs behind them; without `apis`, no request is answered. The second metrics are
    /// those of requests with large bodies.
    pub fn new(
        apis: Option<Arc<Apis>>,
        json: Vec<Arc<dyn JsonApi>>,
        limits: &HostLimits,
        [metrics, large]: [AdmissionMetrics; 2],
    ) -> Self {
        let admission = |requests, metrics| Admission::with_capacity(requests, limits.longest_wait, limits, metrics);
        ApiDoor { apis, json, admission: admission(MAX_REQUESTS, metrics), large: admission(MAX_LARGE_REQUESTS, large) }
    }

    /// Most bytes of the body of a request: its API says so, if it has one. The signature covers the body, so that it
    /// is read before the principal is proven; no other part of it is looked at before.
    fn most_body_bytes(&self, presented: &Presented<'_>) -> usize {
        let target = presented.headers.get(TARGET).and_then(|target| target.to_str().ok());
        let Some((service, operation)) = target.and_then(Service::of_target) else { return MAX_BODY_BYTES };
        let api = self.json.iter().find(|api| api.service() == service);
        api.map_or(MAX_BODY_BYTES, |api| api.most_body_bytes(operation))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The host has no APIs, the method is not `GET` or `POST`, or the body does not arrive.
    pub async fn answer(&self, presented: &Presented<'_>, body: Body) -> Result<Response, Refusal> {
        let apis = self.apis.as_ref().ok_or(Refusal::NotFound)?;
        if !matches!(presented.method, &Method::GET | &Method::POST) {
            return Err(Refusal::Method);
        }
        let client = Client::current();
        client.entry().protocol(gitferry_audit::Protocol::Api);
        let length = length(presented);
        // A body that fits the smaller limit takes no slot of the larger ones.
        let is_small = length.is_some_and(|length| length <= MAX_BODY_BYTES as u64);
        let most = if is_small { MAX_BODY_BYTES } else { self.most_body_bytes(presented) };
        if length.is_some_and(|length| length > most as u64) {
            return Err(too_large(most));
        }
        let is_large = most > MAX_BODY_BYTES;
        let (admission, longest) =
            if is_large { (&self.large, LARGE_BODY_TIMEOUT) } else { (&self.admission, BODY_TIMEOUT) };
        let slot = admission.admit().await?;
        let reading = tokio::time::timeout(longest, read(body, most, slot.clone()));
        let body = reading.await.map_err(|_| Refusal::IdleTimeout)??;
        let headers = headers_of(presented);
        let parts = parts_of(presented, &headers, Payload::of(&body));
        let request = ApiRequest { parts, body: &body, id: client.request_id(), entry: client.entry() };
        let answer = apis.answer(&request, &self.json).await;
        Span::current().record("actor", answer.actor.as_str());
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, answer.body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(client.request_id()) {
            headers.insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

/// Length of a body that its request names.
fn length(presented: &Presented<'_>) -> Option<u64> {
    presented.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(most: usize) -> Refusal {
    Refusal::BadRequest(format!("the body has more than {most} bytes"))
}

/// Reads a body of at most so many bytes.
async fn read(body: Body, most: usize, slot: Slot) -> Result<Vec<u8>, Refusal> {
    let mut chunks = request_body::chunks(body, BODY_TIMEOUT, Some(slot));
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > most {
            return Err(too_large(most));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}
