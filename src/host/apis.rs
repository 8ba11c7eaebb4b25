//! The door of the APIs of AWS: `POST /` and `GET /` of a host with an account. The body is read up to a limit, as a
//! signature covers it, and everything else is the work of [`gitferry_api`], and of the JSON APIs that it asks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use gitferry_api::{ApiRequest, Apis, JsonApi, MAX_BODY_BYTES};
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
/// Longest time in which a body has to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Header with the id of the request, as AWS names it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Answers the requests of the APIs.
#[derive(Debug)]
pub struct ApiDoor {
    apis: Option<Arc<Apis>>,
    json: Vec<Arc<dyn JsonApi>>,
    admission: Admission,
}

impl ApiDoor {
    /// The door of `apis`, and of the JSON APIs behind them; without `apis`, no request is answered.
    pub fn new(
        apis: Option<Arc<Apis>>,
        json: Vec<Arc<dyn JsonApi>>,
        limits: &HostLimits,
        metrics: AdmissionMetrics,
    ) -> Self {
        ApiDoor { apis, json, admission: Admission::with_capacity(MAX_REQUESTS, limits.longest_wait, limits, metrics) }
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
        let slot = self.admission.admit().await?;
        let reading = tokio::time::timeout(BODY_TIMEOUT, read(presented, body, slot.clone()));
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

/// Reads a body of at most [`MAX_BODY_BYTES`].
async fn read(presented: &Presented<'_>, body: Body, slot: Slot) -> Result<Vec<u8>, Refusal> {
    let too_large = || Refusal::BadRequest(format!("the body has more than {MAX_BODY_BYTES} bytes"));
    let length = presented.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let mut chunks = request_body::chunks(body, BODY_TIMEOUT, Some(slot));
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}
