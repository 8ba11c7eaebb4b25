//! Git LFS objects of a repository: large files to which its blobs only point.
//!
//! The object store has an object under its SHA-256. A table row records that the object is complete, checked and
//! durable. The row is written last, so storing an object twice, or from two sides at once, is harmless. Changes name
//! the objects that came with them, which is how objects reach other regions.
//!
//! A pointer may come before its object, if the policy allows that. A row notes the missing object; when the object
//! comes, a change of its own names it. *Invariant:* a process that notes a missing object looks for the object again
//! afterwards, and a process that stores an object looks for such a note afterwards, so that one of the two names the
//! object. The note is removed after the change that names the object. If a process dies in between, the next sweep
//! names objects that are noted and held.
//!
//! LFS objects are never deleted. A future collection must remove the row first, conditional on its revision, and the
//! object a grace period later.

mod export;
mod naming;
mod usage;
mod verify;

pub(crate) use export::path_of;
pub use usage::LfsUsage;

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::{Region, RegionError, Result};
use crate::ledger::change::LfsObject;
use crate::ledger::head::RepositoryId;
use crate::ledger::{LedgerError, keys};
use gitferry_git::lfs::{LfsOid, Pointer};
use gitferry_store::objects::{Crc64, Crc64Hasher};
use gitferry_store::table::{Condition, Item, Key, MAX_GET_KEYS, MAX_TRANSACTION_ITEMS, Query, Write};

/// Largest accepted LFS object in bytes, unless a policy sets another limit.
pub const MAX_LFS_BYTES: u64 = 16 << 30;
/// Bytes that are read from the store at a time.
const CHUNK_BYTES: u64 = 512 * 1024;
/// Chunks of one object that are read ahead.
const CHUNKS_IN_FLIGHT: usize = 2;

/// Document of the row of a held object.
#[derive(Serialize, Deserialize)]
struct LfsRow {
    size: u64,
    #[serde(with = "gitferry_base::text")]
    crc64: Crc64,
}

/// Document of the row of a missing object.
#[derive(Serialize, Deserialize)]
struct MissingRow {
    size: u64,
}

/// Presence of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LfsState {
    /// The object, if the region holds it.
    pub held: Option<LfsObject>,
    /// True if a pointer came before the object and no change names the object yet.
    pub awaited: bool,
}

/// Pointers, sorted by the presence of their objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettledPointers {
    /// Held objects.
    pub held: Vec<LfsObject>,
    /// Pointers to objects that are not held.
    pub missing: Vec<Pointer>,
    /// Pointers with another size than the held object.
    pub wrong: Vec<Pointer>,
    /// Held objects with a row that notes them as missing. The row may be all that still asks for a change to name the
    /// object: remove it after such a change ([`LfsStore::forget_missing`]), never before.
    pub noted: Vec<LfsObject>,
}

/// An object on its way into a region, hashed as it is written.
#[derive(Debug)]
pub struct LfsSpool {
    file: tempfile::NamedTempFile,
    sha256: Sha256,
    crc64: Crc64Hasher,
    size: u64,
}

impl LfsSpool {
    /// Creates an empty file in a folder.
    pub fn new_in(dir: &Path) -> std::io::Result<Self> {
        let file = tempfile::NamedTempFile::new_in(dir)?;
        Ok(LfsSpool { file, sha256: Sha256::new(), crc64: Crc64Hasher::default(), size: 0 })
    }

    /// Appends bytes. Blocking.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.crc64.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Returns the number of bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file and the identity of its content.
    pub fn finish(self) -> (TempPath, LfsObject) {
        let object = LfsObject { oid: LfsOid::of(self.sha256), size: self.size, crc64: self.crc64.finish() };
        (self.file.into_temp_path(), object)
    }
}

/// Git LFS objects of a region.
#[derive(Clone, Copy, Debug)]
pub struct LfsStore<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the Git LFS objects of this region.
    pub fn lfs(&self) -> LfsStore<'_> {
        LfsStore { region: self }
    }
}

impl LfsStore<'_> {
    /// Returns the presence of objects, in the order of `oids`.
    pub async fn states(self, id: RepositoryId, oids: &[LfsOid]) -> Result<Vec<LfsState>> {
        let mut states = Vec::with_capacity(oids.len());
        for oids in oids.chunks(MAX_GET_KEYS / 2) {
            let wanted: Vec<Key> =
                oids.iter().flat_map(|oid| [keys::lfs(id, *oid), keys::lfs_missing(id, *oid)]).collect();
            let rows = self.region.table().get_many(&wanted).await?;
            for (oid, rows) in oids.iter().zip(rows.chunks(2)) {
                let [held, awaited] = rows else { unreachable!("a table returns an entry for each key") };
                let held = held.as_ref().map(|item| object_of(*oid, item)).transpose()?;
                states.push(LfsState { held, awaited: awaited.is_some() });
            }
        }
        Ok(states)
    }

    /// Returns the held objects, in the order of `oids`.
    pub async fn objects(self, id: RepositoryId, oids: &[LfsOid]) -> Result<Vec<Option<LfsObject>>> {
        let mut objects = Vec::with_capacity(oids.len());
        for oids in oids.chunks(MAX_GET_KEYS) {
            let wanted: Vec<Key> = oids.iter().map(|oid| keys::lfs(id, *oid)).collect();
            for (oid, item) in oids.iter().zip(self.region.table().get_many(&wanted).await?) {
                objects.push(item.map(|item| object_of(*oid, &item)).transpose()?);
            }
        }
        Ok(objects)
    }

    /// Streams the bytes of a held object. Errors of the stream wrap a [`RegionError`].
    pub fn bytes(
        self,
        id: RepositoryId,
        oid: LfsOid,
        range: Range<u64>,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + use<> {
        let (store, key): (_, Arc<str>) = (self.region.shared_objects().clone(), keys::lfs_object(id, oid).into());
        let chunks = (range.end - range.start).div_ceil(CHUNK_BYTES);
        let chunk = move |number: u64| {
            let start = range.start + number * CHUNK_BYTES;
            let end = (start + CHUNK_BYTES).min(range.end);
            let store = store.clone();
            let key = key.clone();
            async move {
                let read = store.get(&key, start..end).await;
                let bytes = read.map_err(|error| std::io::Error::other(RegionError::from(error)))?;
                if bytes.len() as u64 == end - start {
                    Ok(bytes)
                } else {
                    Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
                }
            }
        };
        stream::iter(0..chunks).map(chunk).buffered(CHUNKS_IN_FLIGHT)
    }

    /// Stores a checked object: first the bytes, then the row. Idempotent.
    pub async fn put(self, id: RepositoryId, object: LfsObject, file: TempPath) -> Result<()> {
        let key = keys::lfs_object(id, object.oid);
        self.region.uploads().put_named_by_content(&key, file, "LFS object", object.size, object.crc64).await?;
        gitferry_base::fault::crash_point("lfs-before-row");
        self.put_rows(id, &[object]).await
    }

    /// Records objects that the object store has as held.
    pub async fn put_rows(self, id: RepositoryId, objects: &[LfsObject]) -> Result<()> {
        for objects in objects.chunks(MAX_TRANSACTION_ITEMS) {
            let mut writes = Vec::with_capacity(objects.len());
            for LfsObject { oid, size, crc64 } in objects {
                let document = serde_json::to_value(LfsRow { size: *size, crc64: *crc64 });
                let document = document.map_err(std::io::Error::from)?;
                writes.push(Write::put(keys::lfs(id, *oid), Condition::Any, document));
            }
            self.region.table().transact(writes).await?;
        }
        Ok(())
    }

    /// Sorts pointers by the presence of their objects.
    pub async fn settle_pointers(self, id: RepositoryId, pointers: &[Pointer]) -> Result<SettledPointers> {
        let oids: Vec<LfsOid> = pointers.iter().map(|pointer| pointer.oid).collect();
        let mut settled = SettledPointers::default();
        for (pointer, held) in pointers.iter().zip(self.objects(id, &oids).await?) {
            match held {
                None => settled.missing.push(*pointer),
                Some(object) if object.size != pointer.size => settled.wrong.push(*pointer),
                Some(object) => settled.held.push(object),
            }
        }
        Ok(settled)
    }

    /// Notes missing objects, and finds those that have come meanwhile.
    pub async fn await_missing(self, id: RepositoryId, settled: &mut SettledPointers) -> Result<()> {
        for pointers in settled.missing.chunks(MAX_TRANSACTION_ITEMS) {
            let mut writes: Vec<Write> = Vec::with_capacity(pointers.len());
            for Pointer { oid, size } in pointers {
                let key = keys::lfs_missing(id, *oid);
                // Two pointers may give one object two sizes.
                if writes.iter().all(|write| write.key != key) {
                    let document = serde_json::to_value(MissingRow { size: *size }).map_err(std::io::Error::from)?;
                    writes.push(Write::put(key, Condition::Any, document));
                }
            }
            self.region.table().transact(writes).await?;
        }
        let again = self.settle_pointers(id, &std::mem::take(&mut settled.missing)).await?;
        settled.noted.extend(&again.held);
        settled.held.extend(again.held);
        settled.wrong.extend(again.wrong);
        settled.missing = again.missing;
        Ok(())
    }

    /// Returns pointers to objects that were missing when the pointers came.
    pub async fn awaited(self, id: RepositoryId) -> Result<Vec<Pointer>> {
        let mut query = Query::prefix(keys::repository(id), keys::LFS_MISSING_PREFIX);
        let mut pointers = Vec::new();
        loop {
            let mut page = self.region.table().query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                let oid = item.key.sk.strip_prefix(keys::LFS_MISSING_PREFIX).and_then(|oid| oid.parse().ok());
                if let (Some(oid), Ok(MissingRow { size })) = (oid, MissingRow::deserialize(&item.document)) {
                    pointers.push(Pointer { oid, size });
                }
            }
            match next {
                None => return Ok(pointers),
                next => query.after = next,
            }
        }
    }

    /// Removes the notes on missing objects after a change has named the objects. A note that stays behind causes one
    /// more change that names its object.
    pub async fn forget_missing(self, id: RepositoryId, objects: &[LfsObject]) -> Result<()> {
        let mut oids: Vec<LfsOid> = objects.iter().map(|object| object.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        for oids in oids.chunks(MAX_TRANSACTION_ITEMS) {
            let deletes = oids.iter().map(|oid| Write::delete(keys::lfs_missing(id, *oid), Condition::Any)).collect();
            self.region.table().transact(deletes).await?;
        }
        Ok(())
    }
}

fn object_of(oid: LfsOid, item: &Item) -> Result<LfsObject> {
    let row = LfsRow::deserialize(&item.document);
    let row = row.map_err(|_| LedgerError::corrupt(format!("the row {} is not an LFS object", item.key)))?;
    Ok(LfsObject { oid, size: row.size, crc64: row.crc64 })
}
