//! Uploading an object: hashed on its way into the spool, then durable, then answered.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use futures::StreamExt as _;

use super::LfsRefusal;
use crate::auth::Access;
use crate::gate::Slot;
use crate::{Host, Refusal, body};
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::lfs::LfsSpool;
use gitferry_engine::region::{RegionError, blocking, is_visible};
use gitferry_git::lfs::LfsOid;

/// Bytes that are hashed and written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// How large an upload is to be.
#[derive(Clone, Copy, Debug)]
struct Expected {
    /// As the Batch API was told.
    size: Option<u64>,
    /// The policy's limit.
    most: u64,
}

impl Expected {
    fn of(parts: &Parts, most: u64) -> Result<Self, LfsRefusal> {
        let bad = |what: &str| LfsRefusal::new(StatusCode::BAD_REQUEST, format!("the {what} is not a number"));
        let query = parts.uri.query().unwrap_or_default();
        let size = query.split('&').find_map(|pair| pair.strip_prefix("size="));
        let size = size.map(|size| size.parse::<u64>().map_err(|_| bad("size"))).transpose()?;
        let expected = Expected { size, most };
        if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            let length = length.ok_or_else(|| bad("Content-Length"))?;
            expected.check_so_far(length)?;
            expected.check_whole(length)?;
        }
        Ok(expected)
    }

    /// Whether more than this many bytes may come.
    fn check_so_far(&self, bytes: u64) -> Result<(), LfsRefusal> {
        if bytes > self.most {
            let reason = format!("an object has at most {} bytes here", self.most);
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        match self.size {
            Some(size) if bytes > size => {
                Err(LfsRefusal::unprocessable(format!("more bytes came than the {size} that were announced")))
            }
            _ => Ok(()),
        }
    }

    fn check_whole(&self, bytes: u64) -> Result<(), LfsRefusal> {
        match self.size {
            Some(size) if bytes != size => {
                Err(LfsRefusal::unprocessable(format!("{bytes} bytes came, {size} were announced")))
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
            return Err(LfsRefusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "objects come as they are"));
        }
        let item = self.lfs_writable(name, &parts.headers).await?;
        let expected = Expected::of(parts, self.policies.of(name).lfs_object_bytes)?;
        let slot = self.transfers.uploads.enter().await.map_err(Refusal::from)?;
        let (file, found) = self.lfs_receive(expected, body, slot.clone()).await?.finish();
        expected.check_whole(found.size)?;
        if found.oid != oid {
            return Err(LfsRefusal::unprocessable(format!("what came is {}, not {oid}", found.oid)));
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
            self.lfs_name(&item, &[found], &identity).await?;
        }
        tracing::debug!(repository = name, %oid, size = found.size, "took an LFS object in");
        Ok(StatusCode::OK.into_response())
    }

    /// Refuses an upload whose repository was deleted or renamed while the object came: a push under its name would not
    /// find the object.
    async fn check_same(&self, item: &HeadItem) -> Result<(), LfsRefusal> {
        let now = read_head(&*self.region.table, item.id).await.map_err(RegionError::from)?;
        match now.is_some_and(|now| is_visible(&now.head) && now.head.name == item.head.name) {
            true => Ok(()),
            false => {
                let reason = "the repository was deleted or renamed during the upload; upload the object again";
                Err(LfsRefusal::new(StatusCode::NOT_FOUND, reason))
            }
        }
    }

    /// Writes a body to the spool. No thread waits for the client.
    async fn lfs_receive(&self, expected: Expected, body: Body, slot: Slot) -> Result<LfsSpool, LfsRefusal> {
        let dir = self.region.spool_dir();
        let mut spool = blocking(move || LfsSpool::new_in(&dir)).await.map_err(RegionError::Io)?;
        let mut pieces = body::pieces(body, self.limits.request_silence, Some(slot));
        let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
        loop {
            let next = pieces.next().await;
            let ended = next.is_none();
            if let Some(piece) = next {
                buffer.extend_from_slice(&piece.map_err(Refusal::from)?);
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
