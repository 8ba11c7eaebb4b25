//! Uploads of LFS objects: hashed while they are spooled, made durable, then answered.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use futures::StreamExt as _;

use super::LfsRefusal;
use crate::admission::Slot;
use crate::auth::Access;
use crate::{Host, Refusal, body};
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::lfs::LfsSpool;
use gitferry_engine::region::{RegionError, blocking, is_visible};
use gitferry_git::lfs::LfsOid;

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

impl Host {
    pub(super) async fn lfs_upload(
        self: Arc<Self>,
        name: &str,
        oid: LfsOid,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, LfsRefusal> {
        let identity = self.authorize(&parts.headers, name, Access::Write)?;
        let encoding = parts.headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes());
        if encoding.is_some_and(|encoding| encoding != b"identity") {
            return Err(LfsRefusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "LFS objects are uploaded without content encoding",
            ));
        }
        let item = self.lfs_writable(name, &parts.headers).await?;
        let expected = Expected::of(parts, self.policies.of(name).lfs_object_bytes)?;
        let slot = self.transfers.uploads.admit().await.map_err(Refusal::from)?;
        let (file, found) = self.lfs_receive(expected, body, slot.clone()).await?.finish();
        expected.check_whole(found.size)?;
        if found.oid != oid {
            return Err(LfsRefusal::unprocessable(format!("the uploaded object is {}, not {oid}", found.oid)));
        }
        let item = match item {
            Some(item) => item,
            None => self.lfs_create(name, &identity).await?,
        };
        self.region.put_lfs_object(item.id, found, file).await?;
        drop(slot);
        self.check_same(&item).await?;
        let state = self.region.lfs_states(item.id, &[oid]).await?;
        if state.iter().any(|state| state.awaited) {
            self.lfs_record(&item, &[found], &identity).await?;
        }
        tracing::debug!(repository = name, %oid, size = found.size, "stored an LFS object");
        Ok(StatusCode::OK.into_response())
    }

    /// Refuses an upload whose repository was deleted or renamed meanwhile: a push under its old name would not find
    /// the object.
    async fn check_same(&self, item: &HeadItem) -> Result<(), LfsRefusal> {
        let now = read_head(&*self.region.table, item.id).await.map_err(RegionError::from)?;
        if now.is_some_and(|now| is_visible(&now.head) && now.head.name == item.head.name) {
            return Ok(());
        }
        let reason = "the repository was deleted or renamed during the upload; upload the object again";
        Err(LfsRefusal::new(StatusCode::NOT_FOUND, reason))
    }

    /// Writes a body to the spool. No thread blocks while the client is slow.
    async fn lfs_receive(&self, expected: Expected, body: Body, slot: Slot) -> Result<LfsSpool, LfsRefusal> {
        let dir = self.region.spool_dir();
        let mut spool = blocking(move || LfsSpool::new_in(&dir)).await.map_err(RegionError::Io)?;
        let mut chunks = body::chunks(body, self.limits.request_silence, Some(slot));
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
