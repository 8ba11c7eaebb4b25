//! Callers by presigned requests: STS says who has signed.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gitferry_base::capacity::capacity;
use gitferry_base::clock::Clock;
use gitferry_base::error::chain;
use gitferry_iam::aws::{Caller, HOST_HEADER, PresignedCaller, PresignedError, StsEndpoint};
use gitferry_iam::{Throttle, TooMany};
use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use reqwest::StatusCode;
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;

use super::{bounded, http_client, xml};

/// Longest wait for STS, the wait for a permit included.
pub const STS_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest number of requests to STS at a time.
pub const MAX_STS_CALLS: usize = 64;
/// Time for which an answer of STS counts. A key that is deleted on AWS works here for as long.
pub const CALLER_LIFETIME: SignedDuration = SignedDuration::from_secs(60);
/// Largest number of answers that are kept. One takes about 300 bytes.
pub const MAX_CALLERS: usize = 10_000;
/// Largest answer of STS, in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// A caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// The password is no presigned request for this host and time.
    #[error(transparent)]
    Presigned(#[from] PresignedError),
    /// STS refuses the request: the signature is wrong or for another host, or the key is gone.
    #[error("STS answers {0}: the key is unknown or inactive, or the password was made for another host")]
    Refused(String),
    /// Too many attempts failed.
    #[error("too many failed attempts: try again in {} s", .0.retry_after.as_secs())]
    TooMany(TooMany),
    /// STS does not answer.
    #[error("STS cannot be asked: {0}")]
    Unavailable(String),
}

/// Asks STS for the callers of one host.
#[derive(Debug)]
pub struct Callers {
    client: reqwest::Client,
    /// Name of the host, as clients sign it.
    host: String,
    endpoints: Vec<StsEndpoint>,
    /// URL of a stand-in for all endpoints, for tests.
    stand_in: Option<String>,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    known: Mutex<LruCache<[u8; 32], (Caller, Timestamp)>>,
    throttle: Throttle,
}

impl Callers {
    /// Asks `endpoints` for callers that have signed for `host`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(
        host: String,
        endpoints: Vec<StsEndpoint>,
        stand_in: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Callers {
            client: http_client(STS_TIMEOUT)?,
            host,
            endpoints,
            stand_in,
            clock,
            permits: Semaphore::new(MAX_STS_CALLS),
            known: Mutex::new(LruCache::new(capacity::<MAX_CALLERS>())),
            throttle: Throttle::default(),
        })
    }

    /// The caller who has presigned a request, which a client at `source` sends as its password.
    ///
    /// # Errors
    /// The password proves nothing, or STS does not answer.
    pub async fn identify(&self, password: &str, source: IpAddr) -> Result<(Caller, PresignedCaller), CallerError> {
        let now = self.clock.now();
        let presigned = PresignedCaller::parse(password)?;
        presigned.check(&self.endpoints, now)?;
        let query = presigned.query();
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, query.as_bytes()).as_ref());
        let kept = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((caller, until)) = kept
            && now < until
        {
            return Ok((caller, presigned));
        }
        let id = presigned.access_key_id();
        self.throttle.check(id, source, now).map_err(CallerError::TooMany)?;
        let asked = tokio::time::timeout(STS_TIMEOUT, self.ask(presigned.endpoint(), &query)).await;
        let asked = asked
            .unwrap_or_else(|_| Err(CallerError::Unavailable(format!("no answer within {} s", STS_TIMEOUT.as_secs()))));
        if let Err(CallerError::Refused(_)) = &asked {
            self.throttle.failed(id, source, now);
        }
        let caller = asked?;
        let until = now.checked_add(CALLER_LIFETIME).unwrap_or(now).min(presigned.expires());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(key, (caller.clone(), until));
        Ok((caller, presigned))
    }

    /// Sends a request that is made of checked parts to one of the endpoints.
    async fn ask(&self, endpoint: &StsEndpoint, query: &str) -> Result<Caller, CallerError> {
        let unavailable = |error: reqwest::Error| CallerError::Unavailable(chain(&error.without_url()));
        let Ok(_permit) = self.permits.acquire().await else { unreachable!("the semaphore is never closed") };
        let name = endpoint.host();
        let base = self.stand_in.clone().unwrap_or_else(|| format!("https://{name}"));
        let request = self.client.get(format!("{base}/?{query}")).header("host", &name).header(HOST_HEADER, &self.host);
        let answer = request.send().await.map_err(unavailable)?;
        let status = answer.status();
        let body = bounded(answer, MAX_ANSWER_BYTES).await.map_err(unavailable)?;
        let body = body.ok_or_else(|| CallerError::Unavailable("its answer is too long".into()))?;
        if status == StatusCode::OK {
            return xml::caller(&body).map_err(CallerError::Unavailable);
        }
        let code = xml::error_code(&body).unwrap_or_else(|| status.as_u16().to_string());
        if !status.is_client_error() || status == StatusCode::TOO_MANY_REQUESTS || xml::is_throttling(&code) {
            return Err(CallerError::Unavailable(format!("it answers {code}")));
        }
        Err(CallerError::Refused(code))
    }
}
