//! Uploads of LFS objects: hashed while they are spooled, made durable, then answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use futures::StreamExt as _;

use super::refusal::LfsRefusal;
use super::repositories::Repositories;
use crate::admission::{Admission, AdmissionMetrics, Slot};
use crate::auth::Principal;
use crate::client::Client;
use crate::exchange::request_body;
use crate::push::policies::PushPolicies;
use crate::request::refusal::Refusal;
use gitferry_config::HostLimits;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::lfs::LfsSpool;
use gitferry_engine::region::{Region, RegionError, blocking};
use gitferry_git::lfs::{LfsOid, Pointer};

/// Concurrent uploads; more of them wait.
const MAX_UPLOADS: usize = 128;
/// Longest wait of a transfer before it is answered 503, which git-lfs does not retry.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Bytes per write to the spool.
const WRITE_BYTES: usize = 1 << 20;

/// Size that an upload has to have.
#[derive(Clone, Copy, Debug)]
struct Expected {
    /// Size that the Batch API put into the href, in bytes; `None` if the client removed it.
    size: Option<u64>,
    /// Limit of the push policy, in bytes.
    limit: u64,
}

impl Expected {
    fn of(parts: &Parts, limit: u64) -> Result<Self, LfsRefusal> {
        let bad = |what: &str| LfsRefusal::new(StatusCode::BAD_REQUEST, format!("the {what} is not a number"));
        let query = parts.uri.query().unwrap_or_default();
        let size = query.split('&').find_map(|pair| pair.strip_prefix("size="));
        let size = size.map(|size| size.parse::<u64>().map_err(|_| bad("size"))).transpose()?;
        let expected = Expected { size, limit };
        if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            let length = length.ok_or_else(|| bad("Content-Length"))?;
            expected.check_so_far(length)?;
            expected.check_whole(length)?;
        }
        Ok(expected)
    }

    /// Refuses an upload of which `bytes` have arrived or been announced, if that exceeds a limit.
    fn check_so_far(&self, bytes: u64) -> Result<(), LfsRefusal> {
        if bytes > self.limit {
            let reason = format!("an object has at most {} bytes here", self.limit);
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        match self.size {
            Some(size) if bytes > size => {
                Err(LfsRefusal::unprocessable(format!("more than the {size} announced bytes arrived")))
            }
            _ => Ok(()),
        }
    }

    fn check_whole(&self, bytes: u64) -> Result<(), LfsRefusal> {
        match self.size {
            Some(size) if bytes != size => {
                Err(LfsRefusal::unprocessable(format!("{bytes} bytes arrived, {size} were announced")))
            }
            _ => Ok(()),
        }
    }
}

/// Uploads of LFS objects.
#[derive(Debug)]
pub struct Uploads {
    region: Region,
    repositories: Arc<Repositories>,
    policies: Arc<PushPolicies>,
    admission: Admission,
    idle_timeout: Duration,
}

impl Uploads {
    /// Uploads to the object store of `region`.
    pub fn new(
        region: Region,
        repositories: Arc<Repositories>,
        policies: Arc<PushPolicies>,
        limits: &HostLimits,
        metrics: AdmissionMetrics,
    ) -> Self {
        let admission = Admission::with_capacity(MAX_UPLOADS, LONGEST_WAIT, limits, metrics);
        Uploads { region, repositories, policies, admission, idle_timeout: limits.request_silence }
    }

    /// Receives an object, and answers once it is durable.
    pub async fn receive(
        &self,
        principal: &Principal,
        name: &str,
        oid: LfsOid,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, LfsRefusal> {
        let encoding = parts.headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes());
        if encoding.is_some_and(|encoding| encoding != b"identity") {
            return Err(LfsRefusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "LFS objects are uploaded without content encoding",
            ));
        }
        let item = self.repositories.writable(name, &parts.headers).await?;
        let expected = Expected::of(parts, self.policies.of(name).lfs_object_bytes)?;
        self.store(principal, name, item, oid, expected, body).await?;
        Ok(StatusCode::OK.into_response())
    }

    /// Receives an object of a known size, and returns once it is durable.
    pub async fn receive_pointed(
        &self,
        principal: &Principal,
        name: &str,
        pointer: Pointer,
        body: Body,
    ) -> Result<(), LfsRefusal> {
        let item = self.repositories.writable(name, &HeaderMap::new()).await?;
        let expected = Expected { size: Some(pointer.size), limit: self.policies.of(name).lfs_object_bytes };
        expected.check_so_far(pointer.size)?;
        self.store(principal, name, item, pointer.oid, expected, body).await
    }

    /// Stores an object in a repository, or in the one that it creates.
    async fn store(
        &self,
        principal: &Principal,
        name: &str,
        item: Option<HeadItem>,
        oid: LfsOid,
        expected: Expected,
        body: Body,
    ) -> Result<(), LfsRefusal> {
        let client = Client::current();
        client.entry().parameter("oid", oid.to_string());
        let quotas = self.repositories.quotas();
        let existing = item.as_ref().map(|item| item.id);
        quotas.check_lfs(existing, expected.size.unwrap_or(0)).map_err(LfsRefusal::no_room)?;
        let slot = self.admission.admit().await?;
        let (file, found) = self.spool(expected, body, slot.clone()).await?.finish();
        expected.check_whole(found.size)?;
        if found.oid != oid {
            return Err(LfsRefusal::unprocessable(format!("the uploaded object is {}, not {oid}", found.oid)));
        }
        quotas.check_lfs(existing, found.size).map_err(LfsRefusal::no_room)?;
        let item = match item {
            Some(item) => item,
            None => self.repositories.create(name, principal).await?,
        };
        client.entry().repository_id(item.id);
        let reserved = quotas.reserve_lfs(item.id, found.size).map_err(LfsRefusal::no_room)?;
        self.region.lfs().put(item.id, found, file).await?;
        reserved.keep();
        client.entry().data_transferred();
        drop(slot);
        self.repositories.check_same(&item).await?;
        let state = self.region.lfs().states(item.id, &[oid]).await?;
        if state.iter().any(|state| state.awaited) {
            self.repositories.record(&item, &[found], principal).await?;
        }
        tracing::debug!(repository = name, %oid, size = found.size, "stored an LFS object");
        Ok(())
    }

    /// Writes a body to the spool. No thread blocks while the client is slow.
    async fn spool(&self, expected: Expected, body: Body, slot: Slot) -> Result<LfsSpool, LfsRefusal> {
        let dir = self.region.spool_dir();
        let mut spool = blocking(move || LfsSpool::new_in(&dir)).await.map_err(RegionError::Io)?;
        let mut chunks = request_body::chunks(body, self.idle_timeout, Some(slot));
        let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
        loop {
            let next = chunks.next().await;
            let ended = next.is_none();
            if let Some(chunk) = next {
                buffer.extend_from_slice(&chunk.map_err(Refusal::from)?);
                expected.check_so_far(spool.size() + buffer.len() as u64)?;
            }
            if ended || buffer.len() >= WRITE_BYTES {
                spool = write(spool, buffer.split().freeze()).await.map_err(RegionError::Io)?;
            }
            if ended {
                return Ok(spool);
            }
        }
    }
}

async fn write(mut spool: LfsSpool, bytes: Bytes) -> std::io::Result<LfsSpool> {
    blocking(move || {
        spool.write(&bytes)?;
        Ok(spool)
    })
    .await
}
