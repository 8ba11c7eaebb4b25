//! Copies LFS objects from region to region, before the refs whose blobs point to them.
//!
//! An LFS object has the same key in every region, so copying it twice leaves the same bytes. An object that an
//! interrupted attempt copied has its row and is not copied again; a large object resumes at the first missing part.

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::error::{InRegion as _, ReplicationError};
use super::link::Link;
use super::staging::{Staged, open_lfs};
use super::transfer::{Copy, Transfer, is_existing, is_gone};
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::RegionError;
use gitferry_engine::region::fold::Folded;
use gitferry_git::lfs::LfsOid;
use gitferry_store::objects::{ObjectMeta, PART_BYTES};
use gitferry_store::table::{Condition, Key, MAX_TRANSACTION_ITEMS, Write};

/// Objects of one repository in flight at a time.
const OBJECTS_IN_FLIGHT: usize = 8;
/// Uploads of one object that a copy starts or resumes before it fails.
const MAX_UPLOADS: u32 = 3;

impl Link {
    /// Returns the LFS objects that the changes name and the target lacks.
    pub(super) async fn lfs_to_copy(
        &self,
        id: RepositoryId,
        folded: &Folded,
    ) -> Result<Vec<LfsObject>, ReplicationError> {
        let oids: Vec<LfsOid> = folded.lfs.keys().copied().collect();
        let held = self.target.lfs().objects(id, &oids).await.in_region(&self.target)?;
        let mut wanted = Vec::new();
        for (object, held) in folded.lfs.values().zip(held) {
            match held {
                None => wanted.push(*object),
                Some(held) if held != *object => {
                    let reason = format!("LFS object {} is in the table with another size or checksum", object.oid);
                    let error = RegionError::corrupt(self.target.name(), &folded.head.name, reason);
                    return Err(error).in_region(&self.target);
                }
                Some(_) => {}
            }
        }
        Ok(wanted)
    }
}

impl Transfer {
    /// Copies LFS objects, each checked by size and CRC-64/NVME, then writes their rows in the target's table.
    pub(super) async fn copy_lfs(&self, objects: &[LfsObject]) -> Result<(), ReplicationError> {
        for objects in objects.chunks(MAX_TRANSACTION_ITEMS) {
            let copies: Vec<_> = objects.iter().map(|object| self.copy_lfs_object(object)).collect();
            let rows: Vec<Option<Key>> = stream::iter(copies).buffer_unordered(OBJECTS_IN_FLIGHT).try_collect().await?;
            self.target.lfs().put_rows(self.id, objects).await.in_region(&self.target)?;
            let deletes: Vec<Write> =
                rows.into_iter().flatten().map(|row| Write::delete(row, Condition::Any)).collect();
            if !deletes.is_empty() {
                self.target.table().transact(deletes).await.in_region(&self.target)?;
            }
        }
        Ok(())
    }

    /// Copies one object. Returns its staging row, which the caller deletes after the object's own row is written.
    async fn copy_lfs_object(&self, object: &LfsObject) -> Result<Option<Key>, ReplicationError> {
        let key = keys::lfs_object(self.id, object.oid);
        let LfsObject { oid, size, crc64 } = *object;
        let copy = Copy { what: format!("LFS object {oid}"), from: key.clone(), to: key.clone(), size, crc64 };
        // First without an upload: a store that copies server-side needs none.
        match self.copy_directly(&copy).await {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err(error) => return self.accept_existing(&copy, error).await.map(|()| None),
        }
        if size <= PART_BYTES {
            let carried = self.carry(&copy, None).await;
            return match carried {
                Ok(()) => Ok(None),
                Err(error) => self.accept_existing(&copy, error).await.map(|()| None),
            };
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            // An object becomes visible under its key only with the right checksum: one that is there is complete.
            let staged =
                Staged { resumed: true, ..open_lfs(&self.target, self.id, object).await.in_region(&self.target)? };
            match self.copy_through(&copy, &staged, staged.pack_upload.as_ref()).await {
                Ok(()) => return Ok(staged.row),
                // Another worker has ended the upload that both resumed.
                Err(error) if is_gone(&error) && attempts < MAX_UPLOADS => {}
                Err(error) => {
                    self.abort_useless(&staged, &error).await;
                    return self.accept_existing(&copy, error).await.map(|()| staged.row);
                }
            }
        }
    }

    /// Succeeds if the copy failed because the target already has the very object: from an attempt whose row was never
    /// written, or from another worker.
    async fn accept_existing(&self, copy: &Copy, error: ReplicationError) -> Result<(), ReplicationError> {
        if !already_exists(&error) {
            return Err(error);
        }
        let there = self.target.objects().head(&copy.to).await.in_region(&self.target)?;
        let is_same = |meta: ObjectMeta| meta.size == copy.size && meta.crc64.is_none_or(|crc64| crc64 == copy.crc64);
        if there.is_some_and(is_same) {
            return Ok(());
        }
        let reason = format!("{} is in the object store with another size or checksum ({})", copy.what, copy.to);
        Err(RegionError::corrupt(self.target.name(), &self.repository, reason)).in_region(&self.target)
    }

    /// Aborts an upload whose bytes turned out damaged, so that no attempt resumes it, and one whose object another
    /// worker has completed. The object itself, if there is one, has good bytes.
    async fn abort_useless(&self, staged: &Staged, error: &ReplicationError) {
        let useless = matches!(error, ReplicationError::BadObject { .. }) || already_exists(error);
        if let (Some(upload), true) = (&staged.pack_upload, useless) {
            self.abort(upload).await;
        }
    }
}

fn already_exists(error: &ReplicationError) -> bool {
    matches!(error, ReplicationError::Region { error, .. } if is_existing(error))
}
