//! Resumable copies of packs from one region's object store to another's, checked by size and CRC-64/NVME.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;

use super::error::{InRegion as _, ReplicationError};
use super::progress::Progress;
use super::staging::{Staged, Staging};
use gitferry_base::fault::crash_point;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::manifest::LivePack;
use gitferry_engine::region::{Region, RegionError};
use gitferry_store::objects::parts::MAX_PARTS;
use gitferry_store::objects::{Crc64, ObjectError, PART_BYTES, Part, Upload};
use gitferry_store::table::Key;

/// Parts of one object in flight at a time.
const PARTS_IN_FLIGHT: usize = 4;
/// Packs of one repository in flight at a time.
const PACKS_IN_FLIGHT: usize = 4;
/// Parts of all repositories in memory at a time: 6 × 8 MiB.
pub const PARTS_IN_MEMORY: usize = 6;

/// Largest object of a multipart upload, 78 GiB.
const MAX_UPLOAD_BYTES: u64 = MAX_PARTS as u64 * PART_BYTES;

/// Copies objects of one repository from a source to a target.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Region that is read.
    pub source: Region,
    /// Region that is written.
    pub target: Region,
    /// Id of the repository.
    pub id: RepositoryId,
    /// Name of the repository, for errors.
    pub repository: String,
    /// Bounds the parts in memory over all transfers of the process ([`PARTS_IN_MEMORY`]).
    pub memory: Arc<Semaphore>,
    /// Counters for the copied bytes.
    pub progress: Arc<Progress>,
}

/// A pack that is in the target's object store and that no manifest names yet.
#[derive(Clone, Debug)]
pub struct CopiedPack {
    /// Manifest entry with the key in the target.
    pub pack: LivePack,
    /// Staging row that the commit deletes.
    pub staging: Option<Key>,
}

/// One object to copy.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// Pack, index, LFS object or change, for errors.
    pub what: String,
    pub from: String,
    pub to: String,
    pub size: u64,
    pub crc64: Crc64,
}

impl Transfer {
    /// Copies packs with their indexes. Objects and parts that an interrupted attempt copied are not copied again.
    pub async fn copy_packs(&self, packs: &[LivePack]) -> Result<Vec<CopiedPack>, ReplicationError> {
        let staging = Staging::load(&self.target, self.id, packs).await.in_region(&self.target)?;
        let copies: Vec<_> = packs.iter().map(|pack| self.copy_pack(pack, &staging)).collect();
        stream::iter(copies).buffer_unordered(PACKS_IN_FLIGHT).try_collect().await
    }

    async fn copy_pack(&self, pack: &LivePack, staging: &Staging) -> Result<CopiedPack, ReplicationError> {
        let staged = staging.open(&self.target, self.id, pack).await.in_region(&self.target)?;
        let body = Copy {
            what: format!("pack {}", pack.id),
            from: pack.key.clone(),
            to: staged.key.clone(),
            size: pack.bytes,
            crc64: pack.crc64,
        };
        let index = Copy {
            what: format!("the index of pack {}", pack.id),
            from: keys::index_of(&pack.key),
            to: keys::index_of(&staged.key),
            size: pack.index_bytes,
            crc64: pack.index_crc64,
        };
        let copied = self.copy_both(&body, &index, &staged).await;
        if let Err(error) = copied {
            self.discard_useless(&staged, &error).await;
            return Err(error);
        }
        Ok(CopiedPack { pack: LivePack { key: staged.key.clone(), ..pack.clone() }, staging: staged.row })
    }

    /// Copies a pack, then its index. A small pack and its index are copied concurrently, so that both wait for the
    /// disk at the same time.
    async fn copy_both(&self, body: &Copy, index: &Copy, staged: &Staged) -> Result<(), ReplicationError> {
        let body = self.copy_object(body, staged, staged.pack_upload.as_ref());
        let index = self.copy_object(index, staged, staged.index_upload.as_ref());
        if staged.row.is_some() {
            body.await?;
            return index.await;
        }
        let (body, index) = futures::join!(body, index);
        body.and(index)
    }

    /// Removes an upload that must not be resumed, as its bytes turned out damaged, or that cannot be, as it has no
    /// staging row.
    async fn discard_useless(&self, staged: &Staged, error: &ReplicationError) {
        if (matches!(error, ReplicationError::BadObject { .. }) || staged.row.is_none())
            && let Err(error) = staged.forget(&self.target).await
        {
            tracing::warn!(%error, key = staged.key, "an upload that no process will resume could not be removed; a sweep removes it");
        }
    }

    /// Copies one object: server-side if the stores can, else through this process.
    pub(super) async fn copy_object(
        &self,
        copy: &Copy,
        staged: &Staged,
        upload: Option<&Upload>,
    ) -> Result<(), ReplicationError> {
        if staged.resumed && self.is_complete(copy).await? {
            return Ok(());
        }
        if self.copy_directly(copy).await? {
            if let Some(upload) = upload {
                self.abort(upload).await;
            }
            return Ok(());
        }
        self.carry(copy, upload).await
    }

    /// [`Transfer::copy_object`] for a content-addressed object after [`Transfer::copy_directly`] has returned `false`.
    pub(super) async fn copy_through(
        &self,
        copy: &Copy,
        staged: &Staged,
        upload: Option<&Upload>,
    ) -> Result<(), ReplicationError> {
        if staged.resumed && self.is_complete(copy).await? {
            // Another worker has completed the object with an upload of its own.
            if let Some(upload) = upload {
                self.abort(upload).await;
            }
            return Ok(());
        }
        self.carry(copy, upload).await
    }

    /// Returns true if the target has the object. An object becomes visible under its key only with the right checksum,
    /// so its size suffices here.
    async fn is_complete(&self, copy: &Copy) -> Result<bool, ReplicationError> {
        let there = self.target.objects().head(&copy.to).await.in_region(&self.target)?;
        let is_complete = there.is_some_and(|meta| meta.size == copy.size);
        if is_complete {
            self.progress.bytes_done.add(copy.size);
        }
        Ok(is_complete)
    }

    /// Lets the target's store copy the object server-side from the source's. Returns false if it cannot.
    pub(super) async fn copy_directly(&self, copy: &Copy) -> Result<bool, ReplicationError> {
        let source = self.source.objects();
        let direct = self.target.objects().copy_from(source, &copy.from, &copy.to, copy.size, copy.crc64);
        let copied = direct.await.map_err(|error| self.blame(copy, error))?.is_some();
        if copied {
            self.count(copy.size);
        }
        Ok(copied)
    }

    /// Copies an object through the memory of this process, in parts if it has a multipart upload.
    pub(super) async fn carry(&self, copy: &Copy, upload: Option<&Upload>) -> Result<(), ReplicationError> {
        match upload {
            None => self.copy_whole(copy).await,
            Some(upload) => match self.copy_parts(copy, upload).await {
                // Another worker has resumed the same upload and completed it first.
                Err(error) if is_gone(&error) && self.is_complete(copy).await? => Ok(()),
                result => result,
            },
        }
    }

    fn count(&self, bytes: u64) {
        self.progress.bytes_done.add(bytes);
        self.progress.bytes_copied.add(bytes);
    }

    async fn copy_whole(&self, copy: &Copy) -> Result<(), ReplicationError> {
        let _permit = self.memory.acquire().await;
        let bytes = self.read(copy, 0..copy.size).await?;
        if Crc64::of(&bytes) != copy.crc64 {
            return Err(self.bad(copy, "its bytes do not have the checksum that the change recorded"));
        }
        self.target.objects().put(&copy.to, bytes).await.in_region(&self.target)?;
        self.count(copy.size);
        crash_point("copy-part");
        Ok(())
    }

    async fn copy_parts(&self, copy: &Copy, upload: &Upload) -> Result<(), ReplicationError> {
        let Some(count) = part_count(copy.size) else {
            let repository = self.repository.clone();
            let reason = format!("{} has {} bytes; an upload takes at most {MAX_UPLOAD_BYTES}", copy.what, copy.size);
            return Err(RegionError::Refused { repository, reason }).in_region(&self.target);
        };
        let held = self.target.objects().parts(upload).await.in_region(&self.target)?;
        let mut parts: Vec<Part> =
            held.into_iter().filter(|part| part.size == part_len(copy.size, part.number)).collect();
        self.progress.bytes_done.add(parts.iter().map(|part| part.size).sum());
        let missing = (0..count).filter(|number| !parts.iter().any(|part| part.number == *number));
        let copies: Vec<_> = missing.map(|number| self.copy_part(copy, upload, number)).collect();
        let sent: Vec<Part> = stream::iter(copies).buffer_unordered(PARTS_IN_FLIGHT).try_collect().await?;
        parts.extend(sent);
        parts.sort_by_key(|part| part.number);
        let done = self.target.objects().complete(upload, &parts, copy.size, copy.crc64).await;
        done.map(drop).map_err(|error| self.blame(copy, error))
    }

    async fn copy_part(&self, copy: &Copy, upload: &Upload, number: u32) -> Result<Part, ReplicationError> {
        let source = self.source.objects();
        let direct =
            self.target.objects().put_part_from(upload, number, part_len(copy.size, number), source, &copy.from);
        let part = match direct.await.in_region(&self.target)? {
            Some(part) => part,
            None => self.carry_part(copy, upload, number).await?,
        };
        self.count(part.size);
        crash_point("copy-part");
        Ok(part)
    }

    /// Copies a part through the memory of this process.
    async fn carry_part(&self, copy: &Copy, upload: &Upload, number: u32) -> Result<Part, ReplicationError> {
        let _permit = self.memory.acquire().await;
        let start = u64::from(number) * PART_BYTES;
        let bytes = self.read(copy, start..start + part_len(copy.size, number)).await?;
        self.target.objects().put_part(upload, number, bytes).await.in_region(&self.target)
    }

    async fn read(&self, copy: &Copy, range: Range<u64>) -> Result<Bytes, ReplicationError> {
        let expected = range.end - range.start;
        let bytes = match self.source.objects().get(&copy.from, range).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound { .. }) => return Err(self.bad(copy, "it is missing from the object store")),
            error => error.in_region(&self.source)?,
        };
        if bytes.len() as u64 != expected {
            return Err(self.bad(copy, &format!("it is shorter than the {} bytes that the change recorded", copy.size)));
        }
        Ok(bytes)
    }

    /// Attributes an error to its region: a wrong checksum to the source, which the bytes came from, all else to the
    /// target.
    fn blame(&self, copy: &Copy, error: ObjectError) -> ReplicationError {
        match error {
            ObjectError::Corrupt { reason, .. } => self.bad(copy, &reason),
            error => {
                let region = self.target.name().to_owned();
                ReplicationError::Region { region, error: error.into() }
            }
        }
    }

    fn bad(&self, copy: &Copy, reason: &str) -> ReplicationError {
        ReplicationError::BadObject {
            repository: self.repository.clone(),
            what: copy.what.clone(),
            region: self.source.name().to_owned(),
            reason: format!("{reason} (object {})", copy.from),
        }
    }

    /// Copies one immutable object of the ledger under the same key. Succeeds if the target already has it.
    pub async fn copy_log_object(&self, key: &str, size: u64, expected: Crc64) -> Result<(), ReplicationError> {
        if self.target.objects().head(key).await.in_region(&self.target)?.is_some() {
            return Ok(());
        }
        let copy = Copy { what: "a large change".into(), from: key.into(), to: key.into(), size, crc64: expected };
        self.progress.bytes.add(size);
        let result = match self.copy_directly(&copy).await {
            Ok(true) => return Ok(()),
            Ok(false) => self.carry_log_object(&copy).await,
            Err(error) => Err(error),
        };
        match result {
            Err(ReplicationError::Region { error, .. }) if is_existing(&error) => Ok(()),
            result => result,
        }
    }

    /// Carries an object of the ledger. Such uploads have no staging row: one that fails is aborted at once.
    async fn carry_log_object(&self, copy: &Copy) -> Result<(), ReplicationError> {
        if copy.size <= PART_BYTES {
            return self.carry(copy, None).await;
        }
        let upload = self.target.objects().begin(&copy.to).await.in_region(&self.target)?;
        let carried = self.carry(copy, Some(&upload)).await;
        if carried.is_err() {
            self.abort(&upload).await;
        }
        carried
    }

    /// Aborts an upload that no process will resume; best effort, as a sweep does so later.
    pub(super) async fn abort(&self, upload: &Upload) {
        if let Err(error) = self.target.objects().abort(upload).await {
            tracing::warn!(%error, key = upload.key, "an upload that no process will resume could not be aborted; a sweep aborts it");
        }
    }
}

/// Returns true if the upload no longer exists: completed or aborted.
pub(super) fn is_gone(error: &ReplicationError) -> bool {
    use RegionError::Objects;
    matches!(error, ReplicationError::Region { error: Objects(ObjectError::NotFound { .. }), .. })
}

/// Returns true if an object with the key already exists.
pub(super) fn is_existing(error: &RegionError) -> bool {
    matches!(error, RegionError::Objects(ObjectError::Exists { .. }))
}

/// Number of parts of an object of `size` bytes; `None` for an object of more than [`MAX_UPLOAD_BYTES`].
fn part_count(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(PART_BYTES)).ok().filter(|count| *count <= MAX_PARTS)
}

/// Bytes of part `number` of an object of `size` bytes.
fn part_len(size: u64, number: u32) -> u64 {
    size.saturating_sub(u64::from(number) * PART_BYTES).min(PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object_of_any_size_that_an_upload_takes() {
        for (size, count) in [
            (1, Some(1)),
            (PART_BYTES, Some(1)),
            (PART_BYTES + 1, Some(2)),
            (MAX_UPLOAD_BYTES, Some(MAX_PARTS)),
            (MAX_UPLOAD_BYTES + 1, None),
            (u64::MAX, None),
        ] {
            assert_eq!(part_count(size), count, "{size}");
            let Some(count) = count else { continue };
            assert_eq!((0..count).map(|number| part_len(size, number)).sum::<u64>(), size);
            assert_eq!(part_len(size, count), 0);
        }
    }
}
