//! Moving packs from one region's store to another's: checked by size and CRC-64/NVME, resumable.

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
use gitferry_engine::region::Region;
use gitferry_engine::region::manifest::LivePack;
use gitferry_store::objects::{Crc64, ObjectError, PART_BYTES, Part, Upload};
use gitferry_store::table::Key;

/// Parts of one object in flight at a time.
const PARTS_IN_FLIGHT: usize = 4;
/// Packs of one repository in flight at a time.
const PACKS_IN_FLIGHT: usize = 4;
/// Parts of all repositories in memory at a time: 6 × 8 MiB.
pub const PARTS_IN_MEMORY: usize = 6;

/// One repository's way from a source to a target.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Read from here.
    pub source: Region,
    /// Written to here.
    pub target: Region,
    /// Which repository.
    pub id: RepositoryId,
    /// Its name, for errors.
    pub repository: String,
    /// Bounds the parts in memory over all transfers of the process ([`PARTS_IN_MEMORY`]).
    pub memory: Arc<Semaphore>,
    /// Counts the bytes.
    pub progress: Arc<Progress>,
}

/// A pack that lies in the target's store now and waits for its commit.
#[derive(Clone, Debug)]
pub struct CopiedPack {
    /// Under the key that it has in the target.
    pub pack: LivePack,
    /// The staging row to delete in the commit.
    pub staging: Option<Key>,
}

/// One object to copy.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// What it is, for errors.
    pub what: String,
    pub from: String,
    pub to: String,
    pub size: u64,
    pub crc64: Crc64,
}

impl Transfer {
    /// Copies packs with their indexes. What an earlier, interrupted attempt copied is not copied again.
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
            self.forget_if_useless(&staged, &error).await;
            return Err(error);
        }
        Ok(CopiedPack { pack: LivePack { key: staged.key.clone(), ..pack.clone() }, staging: staged.row })
    }

    /// The pack, then its index. Small ones side by side, so that they wait for the disk together. (Git passes
    /// over an index without a pack.)
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

    /// Bytes that turned out bad must not be resumed from, and those that nobody wrote down cannot be.
    async fn forget_if_useless(&self, staged: &Staged, error: &ReplicationError) {
        if (matches!(error, ReplicationError::BadObject { .. }) || staged.row.is_none())
            && let Err(error) = staged.forget(&self.target).await
        {
            tracing::warn!(%error, key = staged.key, "could not remove an upload that nobody goes on with");
        }
    }

    pub(super) async fn copy_object(
        &self,
        copy: &Copy,
        staged: &Staged,
        upload: Option<&Upload>,
    ) -> Result<(), ReplicationError> {
        if staged.resumed && self.is_there(copy).await? {
            return Ok(());
        }
        if self.copy_directly(copy).await? {
            if let Some(upload) = upload {
                self.give_up(upload).await;
            }
            return Ok(());
        }
        self.carry(copy, upload).await
    }

    /// [`Transfer::copy_object`] of content-addressed bytes, for stores that do not copy directly, as is known.
    pub(super) async fn copy_through(
        &self,
        copy: &Copy,
        staged: &Staged,
        upload: Option<&Upload>,
    ) -> Result<(), ReplicationError> {
        if staged.resumed && self.is_there(copy).await? {
            // Another worker has been faster, with an upload of its own.
            if let Some(upload) = upload {
                self.give_up(upload).await;
            }
            return Ok(());
        }
        self.carry(copy, upload).await
    }

    /// Whether the target has the object. Nothing becomes visible under a key before its checksum was right.
    async fn is_there(&self, copy: &Copy) -> Result<bool, ReplicationError> {
        let there = self.target.objects.head(&copy.to).await.in_region(&self.target)?;
        let is_there = there.is_some_and(|meta| meta.size == copy.size);
        if is_there {
            self.progress.bytes_done.add(copy.size);
        }
        Ok(is_there)
    }

    /// Has the target's store copy the object from the source's by itself. `false`: it cannot.
    pub(super) async fn copy_directly(&self, copy: &Copy) -> Result<bool, ReplicationError> {
        let (source, target) = (&self.source, &self.target);
        let direct = target.objects.copy_from(&*source.objects, &copy.from, &copy.to, copy.size, copy.crc64);
        let copied = direct.await.map_err(|error| self.blame(copy, error))?.is_some();
        if copied {
            self.count(copy.size);
        }
        Ok(copied)
    }

    pub(super) async fn carry(&self, copy: &Copy, upload: Option<&Upload>) -> Result<(), ReplicationError> {
        match upload {
            None => self.copy_whole(copy).await,
            Some(upload) => match self.copy_parts(copy, upload).await {
                // Another worker has gone on with the same upload, and was faster.
                Err(error) if is_gone(&error) && self.is_there(copy).await? => Ok(()),
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
        if crc64(&bytes) != copy.crc64 {
            return Err(self.bad(copy, "its bytes do not have the checksum that its change recorded"));
        }
        self.target.objects.put(&copy.to, bytes).await.in_region(&self.target)?;
        self.count(copy.size);
        crash_point("copy-part");
        Ok(())
    }

    async fn copy_parts(&self, copy: &Copy, upload: &Upload) -> Result<(), ReplicationError> {
        let held = self.target.objects.parts(upload).await.in_region(&self.target)?;
        let mut parts: Vec<Part> =
            held.into_iter().filter(|part| part.size == part_len(copy.size, part.number)).collect();
        self.progress.bytes_done.add(parts.iter().map(|part| part.size).sum());
        let missing = (0..part_count(copy.size)).filter(|number| !parts.iter().any(|part| part.number == *number));
        let copies: Vec<_> = missing.map(|number| self.copy_part(copy, upload, number)).collect();
        let sent: Vec<Part> = stream::iter(copies).buffer_unordered(PARTS_IN_FLIGHT).try_collect().await?;
        parts.extend(sent);
        parts.sort_by_key(|part| part.number);
        let done = self.target.objects.complete(upload, &parts, copy.size, copy.crc64).await;
        done.map(drop).map_err(|error| self.blame(copy, error))
    }

    async fn copy_part(&self, copy: &Copy, upload: &Upload, number: u32) -> Result<Part, ReplicationError> {
        let (source, target) = (&*self.source.objects, &self.target.objects);
        let direct = target.put_part_from(upload, number, part_len(copy.size, number), source, &copy.from);
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
        self.target.objects.put_part(upload, number, bytes).await.in_region(&self.target)
    }

    async fn read(&self, copy: &Copy, range: Range<u64>) -> Result<Bytes, ReplicationError> {
        let expected = range.end - range.start;
        let bytes = match self.source.objects.get(&copy.from, range).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound { .. }) => return Err(self.bad(copy, "it is missing from the object store")),
            error => error.in_region(&self.source)?,
        };
        if bytes.len() as u64 != expected {
            return Err(self.bad(copy, &format!("it is shorter than the {} bytes that its change recorded", copy.size)));
        }
        Ok(bytes)
    }

    /// A copy whose checksum is wrong was wrong at its source.
    fn blame(&self, copy: &Copy, error: ObjectError) -> ReplicationError {
        match error {
            ObjectError::Corrupt { reason, .. } => self.bad(copy, &reason),
            error => {
                let region = self.target.name.clone();
                ReplicationError::Region { region, error: error.into() }
            }
        }
    }

    fn bad(&self, copy: &Copy, reason: &str) -> ReplicationError {
        ReplicationError::BadObject {
            repository: self.repository.clone(),
            what: copy.what.clone(),
            region: self.source.name.clone(),
            reason: format!("{reason} (object {})", copy.from),
        }
    }

    /// Copies one immutable object that belongs to the log under the same key; there already is fine.
    pub async fn copy_log_object(&self, key: &str, size: u64, expected: Crc64) -> Result<(), ReplicationError> {
        if self.target.objects.head(key).await.in_region(&self.target)?.is_some() {
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
            Err(ReplicationError::Region { error, .. }) if is_taken(&error) => Ok(()),
            result => result,
        }
    }

    /// Nothing is resumed here: an upload that fails goes at once.
    async fn carry_log_object(&self, copy: &Copy) -> Result<(), ReplicationError> {
        if copy.size <= PART_BYTES {
            return self.carry(copy, None).await;
        }
        let upload = self.target.objects.begin(&copy.to).await.in_region(&self.target)?;
        let carried = self.carry(copy, Some(&upload)).await;
        if carried.is_err() {
            self.give_up(&upload).await;
        }
        carried
    }

    /// Removes an upload that no process goes on with; best effort, since a sweep does so later.
    pub(super) async fn give_up(&self, upload: &Upload) {
        if let Err(error) = self.target.objects.abort(upload).await {
            tracing::warn!(%error, key = upload.key, "could not remove an upload that no process goes on with");
        }
    }
}

/// The upload is no longer there: completed or aborted.
pub(super) fn is_gone(error: &ReplicationError) -> bool {
    use gitferry_engine::region::RegionError::Objects;
    matches!(error, ReplicationError::Region { error: Objects(ObjectError::NotFound { .. }), .. })
}

pub(super) fn is_taken(error: &gitferry_engine::region::RegionError) -> bool {
    matches!(error, gitferry_engine::region::RegionError::Objects(ObjectError::Exists { .. }))
}

/// How many parts an object of this size has.
fn part_count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(PART_BYTES)).unwrap_or(u32::MAX)
}

/// The size of a part of an object of this size.
fn part_len(size: u64, number: u32) -> u64 {
    size.saturating_sub(u64::from(number) * PART_BYTES).min(PART_BYTES)
}

/// CRC-64/NVME of bytes in memory.
pub fn crc64(bytes: &[u8]) -> Crc64 {
    Crc64(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes))
}
