//! Downloads of LFS objects, whole or by range (git-lfs resumes with a range).

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, response};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;

use super::refusal::LfsRefusal;
use super::repositories::Repositories;
use super::upload::LONGEST_WAIT;
use crate::admission::permits::ClientWait;
use crate::admission::{Admission, AdmissionMetrics, Slot};
use crate::client::Client;
use gitferry_config::HostLimits;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::lfs::LfsOid;

/// Concurrent downloads; more of them wait.
const MAX_DOWNLOADS: usize = 256;

/// Downloads of LFS objects.
#[derive(Debug)]
pub struct Downloads {
    region: Region,
    repositories: Arc<Repositories>,
    admission: Admission,
}

impl Downloads {
    /// Downloads from the object store of `region`.
    pub fn new(
        region: Region,
        repositories: Arc<Repositories>,
        limits: &HostLimits,
        metrics: AdmissionMetrics,
    ) -> Self {
        let admission = Admission::with_capacity(MAX_DOWNLOADS, LONGEST_WAIT, limits, metrics);
        Downloads { region, repositories, admission }
    }

    /// Sends an object, or the part of it that the request wants.
    pub async fn send(&self, name: &str, oid: LfsOid, parts: &Parts) -> Result<Response, LfsRefusal> {
        let (id, size) = self.find(name, oid).await?;
        let etag = format!("\"{oid}\"");
        let base = Response::builder()
            .header(ETAG, &etag)
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_TYPE, "application/octet-stream");
        let (base, range) = match wanted(&parts.headers, &etag, size) {
            Wanted::All => (base.status(StatusCode::OK), 0..size),
            Wanted::Part(range) => {
                let content_range = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), size);
                (base.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, content_range), range)
            }
            Wanted::Unsatisfiable => {
                let none = base.status(StatusCode::RANGE_NOT_SATISFIABLE);
                return finish(none.header(CONTENT_RANGE, format!("bytes */{size}")), Body::empty());
            }
        };
        let base = base.header(CONTENT_LENGTH, range.end - range.start);
        if parts.method == Method::HEAD {
            return finish(base, Body::empty());
        }
        let slot = self.admission.admit().await?;
        Client::current().entry().data_transferred();
        finish(base, stream_object(self.region.lfs().bytes(id, oid, range), slot))
    }

    /// A whole object: its size in bytes, and the bytes.
    pub async fn whole(&self, name: &str, oid: LfsOid) -> Result<(u64, Body), LfsRefusal> {
        let (id, size) = self.find(name, oid).await?;
        let slot = self.admission.admit().await?;
        Client::current().entry().data_transferred();
        Ok((size, stream_object(self.region.lfs().bytes(id, oid, 0..size), slot)))
    }

    /// The repository of a name, and the size of its object.
    async fn find(&self, name: &str, oid: LfsOid) -> Result<(RepositoryId, u64), LfsRefusal> {
        let client = Client::current();
        client.entry().parameter("oid", oid.to_string());
        let item = self.repositories.existing(name).await?;
        client.entry().repository_id(item.id);
        let held = self.region.lfs().objects(item.id, &[oid]).await?.pop().flatten();
        let held = held.ok_or_else(|| LfsRefusal::new(StatusCode::NOT_FOUND, format!("there is no object {oid}")))?;
        let key = keys::lfs_object(item.id, oid);
        if self.region.objects().head(&key).await.map_err(RegionError::from)?.is_none_or(|meta| meta.size != held.size)
        {
            let what =
                format!("LFS object {oid} is not in the object store with the size that its row records ({key})");
            return Err(RegionError::corrupt(self.region.name(), name, what).into());
        }
        Ok((item.id, held.size))
    }
}

fn finish(base: response::Builder, body: Body) -> Result<Response, LfsRefusal> {
    base.body(body).map_err(|error| LfsRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Streams the bytes of an object. A client detects a download that is cut off by its length.
fn stream_object(bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, slot: Slot) -> Body {
    let waits = slot.client_waits();
    let revocation = slot.revocation();
    let (ends, ended) = oneshot::channel::<()>();
    // A client that stops reading stops the stream, too, so a task of its own releases the slot when it is revoked.
    tokio::spawn(async move {
        tokio::select! {
            _ = ended => {}
            () = slot.revocation().revoked() => {}
        }
    });
    let state = (bytes.boxed(), None::<ClientWait>, ends);
    Body::from_stream(stream::unfold(state, move |(mut bytes, wait, ends)| {
        let waits = waits.clone();
        let revocation = revocation.clone();
        async move {
            // The client has read the previous chunk.
            drop(wait);
            if revocation.is_revoked() {
                let error = std::io::Error::other("the client was idle and its slot was given to another client");
                return Some((Err(error), (stream::empty().boxed(), None, ends)));
            }
            let chunk = bytes.next().await?;
            if let Err(error) = &chunk {
                tracing::error!(%error, "the download of an LFS object was cut off: reading the object failed");
            }
            Some((chunk, (bytes, Some(waits.begin()), ends)))
        }
    }))
}

/// Part of an object that a request wants.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// The range begins behind the end of the object.
    Unsatisfiable,
}

/// Parses one byte range (RFC 9110, section 14). Any other `Range` header is ignored, as the RFC allows.
fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let fresh = headers.get(IF_RANGE).is_none_or(|known| known.as_bytes() == etag.as_bytes());
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()).filter(|_| fresh);
    let Some((first, last)) = range.and_then(|range| range.trim().strip_prefix("bytes=")?.trim().split_once('-'))
    else {
        return Wanted::All;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first, last) {
        ("", last) => match number(last) {
            None => Wanted::All,
            Some(0) => Wanted::Unsatisfiable,
            Some(_) if size == 0 => Wanted::Unsatisfiable,
            Some(count) => Wanted::Part(size.saturating_sub(count)..size),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if last < first => Wanted::All,
            (Some(first), Some(last)) if first < size => Wanted::Part(first..last.saturating_add(1).min(size)),
            (Some(first), None) if last.is_empty() && first < size => Wanted::Part(first..size),
            (Some(_), Some(_)) => Wanted::Unsatisfiable,
            (Some(_), None) if last.is_empty() => Wanted::Unsatisfiable,
            _ => Wanted::All,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str) -> Wanted {
        wanted(&HeaderMap::from_iter([(RANGE, range.parse().unwrap())]), "\"e\"", 100)
    }

    #[test]
    fn ranges_of_bytes() {
        for (text, range) in
            [("bytes=0-", 0..100), ("bytes=40-", 40..100), ("bytes=0-0", 0..1), ("bytes=90-1000", 90..100)]
        {
            assert_eq!(of(text), Wanted::Part(range), "{text}");
        }
        assert_eq!(of("bytes=-10"), Wanted::Part(90..100));
        assert_eq!(of("bytes=-1000"), Wanted::Part(0..100));
        assert_eq!(of("bytes=0-18446744073709551615"), Wanted::Part(0..100));
        for unsatisfiable in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=18446744073709551615-"] {
            assert_eq!(of(unsatisfiable), Wanted::Unsatisfiable, "{unsatisfiable}");
        }
        for all in ["", "items=0-1", "bytes=5-1", "bytes=0-1,5-6", "bytes=-", "bytes=a-b", "bytes=+1-2", "bytes=1--2"] {
            assert_eq!(of(all), Wanted::All, "{all}");
        }
    }

    #[test]
    fn if_range_of_another_object_yields_the_whole_object() {
        let headers = |etag: &str| {
            HeaderMap::from_iter([(RANGE, "bytes=1-".parse().unwrap()), (IF_RANGE, etag.parse().unwrap())])
        };
        assert_eq!(wanted(&headers("\"e\""), "\"e\"", 100), Wanted::Part(1..100));
        assert_eq!(wanted(&headers("\"other\""), "\"e\"", 100), Wanted::All);
    }
}
