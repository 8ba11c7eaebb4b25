//! Moving LFS objects from one region to another, before the refs whose blobs point to them.
//!
//! They lie under the same key everywhere, so copying one twice leaves the same bytes. What an interrupted
//! attempt copied has its row, and is not copied again; large objects resume in the middle.

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::deliver::Link;
use super::error::{InRegion as _, ReplicationError};
use super::staging::{Staged, open_lfs};
use super::transfer::{Copy, Transfer, is_taken};
use crate::git::lfs::LfsOid;
use crate::ledger::change::LfsObject;
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use crate::objects::PART_BYTES;
use crate::region::RegionError;
use crate::region::fold::Folded;
use crate::table::{Condition, MAX_TRANSACTION_ITEMS, Write};

/// Objects of one repository in flight at a time.
const OBJECTS_IN_FLIGHT: usize = 8;

impl Link {
    /// The LFS objects that changes name and the target does not have.
    pub(super) async fn lfs_to_copy(
        &self,
        id: RepositoryId,
        folded: &Folded,
    ) -> Result<Vec<LfsObject>, ReplicationError> {
        let oids: Vec<LfsOid> = folded.lfs.keys().copied().collect();
        let held = self.target.lfs_objects(id, &oids).await.in_region(&self.target)?;
        let mut wanted = Vec::new();
        for (object, held) in folded.lfs.values().zip(held) {
            match held {
                None => wanted.push(*object),
                Some(held) if held != *object => {
                    let reason = format!("LFS object {} is in its table with another size or checksum", object.oid);
                    let error = RegionError::corrupt(&self.target.name, &folded.head.name, reason);
                    return Err(error).in_region(&self.target);
                }
                Some(_) => {}
            }
        }
        Ok(wanted)
    }
}

impl Transfer {
    /// Copies LFS objects, each checked by size and CRC-64/NVME, and says in the target that they are there.
    pub(super) async fn copy_lfs(&self, objects: &[LfsObject]) -> Result<(), ReplicationError> {
        for objects in objects.chunks(MAX_TRANSACTION_ITEMS) {
            let copies: Vec<_> = objects.iter().map(|object| self.copy_lfs_object(object)).collect();
            let staged: Vec<Staged> = stream::iter(copies).buffer_unordered(OBJECTS_IN_FLIGHT).try_collect().await?;
            self.target.put_lfs_rows(self.id, objects).await.in_region(&self.target)?;
            let rows = staged.into_iter().filter_map(|staged| staged.row);
            let deletes: Vec<Write> = rows.map(|row| Write::delete(row, Condition::Any)).collect();
            if !deletes.is_empty() {
                self.target.table.transact(deletes).await.in_region(&self.target)?;
            }
        }
        Ok(())
    }

    async fn copy_lfs_object(&self, object: &LfsObject) -> Result<Staged, ReplicationError> {
        let key = keys::lfs_object(self.id, object.oid);
        let staged = match object.size > PART_BYTES {
            // Nothing becomes visible under the key before its checksum was right: what is there is done.
            true => Staged { resumed: true, ..open_lfs(&self.target, self.id, object).await.in_region(&self.target)? },
            false => Staged::fresh(key.clone()),
        };
        let LfsObject { oid, size, crc64 } = *object;
        let copy = Copy { what: format!("LFS object {oid}"), from: key.clone(), to: key, size, crc64 };
        match self.copy_object(&copy, &staged, staged.pack_upload.as_ref()).await {
            // There is one from an attempt whose row was never written, or from another worker.
            Err(ReplicationError::Region { error, .. }) if is_taken(&error) => {
                let there = self.target.objects.head(&copy.to).await.in_region(&self.target)?;
                match there.is_some_and(|meta| meta.size == size) {
                    true => Ok(staged),
                    false => {
                        let reason = format!("LFS object {oid} is in its store with another size ({})", copy.to);
                        Err(RegionError::corrupt(&self.target.name, &self.repository, reason)).in_region(&self.target)
                    }
                }
            }
            Err(error) => {
                self.forget_bad(&staged, &error).await;
                Err(error)
            }
            Ok(()) => Ok(staged),
        }
    }

    /// Bytes that turned out bad must not be resumed from. The object itself, if there is one, is somebody's
    /// who had good ones.
    async fn forget_bad(&self, staged: &Staged, error: &ReplicationError) {
        let (Some(upload), ReplicationError::BadObject { .. }) = (&staged.pack_upload, error) else { return };
        if let Err(error) = self.target.objects.abort(upload).await {
            tracing::warn!(%error, key = staged.key, "could not remove an upload that nobody goes on with");
        }
    }
}
