//! Staging rows: one row for each upload in progress, so that the next process resumes it.
//!
//! Packs below [`STAGED_BYTES`] have no row: copying them again is cheaper than recording the upload.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::manifest::LivePack;
use gitferry_engine::region::{Region, Result};
use gitferry_store::objects::{ObjectError, PART_BYTES, Upload};
use gitferry_store::table::{Condition, Key, Query, TableError, Write};

/// Packs below this size are copied without a staging row.
const STAGED_BYTES: u64 = 1024 * 1024;

/// The document of a staging row.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StagingRow {
    /// Id of the pack or LFS object.
    pack: String,
    /// Object store key that the upload will have.
    key: String,
    /// Start of the upload by the target's clock.
    started: Timestamp,
    /// Store's token for the multipart upload of the pack; absent for a single put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pack_upload: Option<String>,
    /// Store's token for the multipart upload of the index; absent for a single put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index_upload: Option<String>,
}

/// Uploads in progress of one repository at the start of a transfer, by pack id.
#[derive(Debug, Default)]
pub(super) struct Staging {
    rows: HashMap<String, (Key, StagingRow)>,
}

/// Upload of one pack or LFS object.
#[derive(Debug)]
pub(super) struct Staged {
    /// Object store key in the target.
    pub key: String,
    /// Multipart upload of the object; `None` for a single put.
    pub pack_upload: Option<Upload>,
    /// Multipart upload of the pack's index; `None` for a single put.
    pub index_upload: Option<Upload>,
    /// True if an earlier attempt started the upload.
    pub resumed: bool,
    /// Key of the staging row; `None` for a small pack.
    pub row: Option<Key>,
}

impl Staging {
    /// Reads the staging rows of a repository. Makes no request if all packs are too small to have one.
    pub async fn load(target: &Region, id: RepositoryId, packs: &[LivePack]) -> Result<Self> {
        if packs.iter().all(|pack| pack.bytes < STAGED_BYTES) {
            return Ok(Staging::default());
        }
        let oldest = target.clock().now().checked_sub(target.recovery_window() / 2).unwrap_or(Timestamp::MIN);
        let page = target.table().query(&Query::prefix(keys::repository(id), keys::STAGING_PREFIX)).await?;
        let mut rows = HashMap::new();
        for item in page.readable() {
            if let Ok(row) = StagingRow::deserialize(&item.document)
                && row.started > oldest
            {
                rows.insert(row.pack.clone(), (item.key, row));
            }
        }
        Ok(Staging { rows })
    }

    /// Returns the upload to resume, or starts a new one.
    pub async fn open(&self, target: &Region, id: RepositoryId, pack: &LivePack) -> Result<Staged> {
        if let Some((key, row)) = self.rows.get(&pack.id.to_string()) {
            let staged = Staged::of_row(key, row);
            if staged.is_usable(target).await? {
                return Ok(staged);
            }
        }
        let nonce = target.clock().new_id().simple().to_string();
        let key = keys::pack(id, pack.id, &nonce);
        if pack.bytes < STAGED_BYTES {
            return Ok(Staged::fresh(key));
        }
        let pack_upload = begin(target, &key, pack.bytes).await?;
        let index_upload = begin(target, &keys::index_of(&key), pack.index_bytes).await?;
        let row = StagingRow {
            pack: pack.id.to_string(),
            key,
            started: target.clock().now(),
            pack_upload: pack_upload.map(|upload| upload.token),
            index_upload: index_upload.map(|upload| upload.token),
        };
        let row_key = keys::staging(id, &nonce);
        let document = serde_json::to_value(&row).map_err(std::io::Error::from)?;
        target.table().transact(vec![Write::put(row_key.clone(), Condition::Absent, document)]).await?;
        Ok(Staged { resumed: false, ..Staged::of_row(&row_key, &row) })
    }
}

/// Returns the upload of one LFS object to resume, or starts a new one. Two workers may resume the same upload: the
/// store completes it for one of them, and both write the same bytes under the same key.
pub(super) async fn open_lfs(target: &Region, id: RepositoryId, object: &LfsObject) -> Result<Staged> {
    let row_key = keys::staging(id, &format!("lfs-{}", object.oid));
    let key = keys::lfs_object(id, object.oid);
    let oldest = target.clock().now().checked_sub(target.recovery_window() / 2).unwrap_or(Timestamp::MIN);
    let known = target.table().get(&row_key).await?;
    if let Some(row) = known.and_then(|item| StagingRow::deserialize(&item.document).ok())
        && row.started > oldest
    {
        let staged = Staged::of_row(&row_key, &row);
        if staged.is_usable(target).await? {
            return Ok(staged);
        }
    }
    let upload = begin(target, &key, object.size).await?;
    let started = target.clock().now();
    let pack_upload = upload.map(|upload| upload.token);
    let row = StagingRow { pack: object.oid.to_string(), key, started, pack_upload, index_upload: None };
    let document = serde_json::to_value(&row).map_err(std::io::Error::from)?;
    target.table().transact(vec![Write::put(row_key.clone(), Condition::Any, document)]).await?;
    Ok(Staged::of_row(&row_key, &row))
}

async fn begin(target: &Region, key: &str, size: u64) -> Result<Option<Upload>> {
    Ok(if size > PART_BYTES { Some(target.objects().begin(key).await?) } else { None })
}

impl Staged {
    /// An upload without parts and without a staging row.
    pub fn fresh(key: String) -> Self {
        Staged { key, pack_upload: None, index_upload: None, resumed: false, row: None }
    }

    fn of_row(key: &Key, row: &StagingRow) -> Self {
        let upload = |token: &Option<String>, key: String| token.clone().map(|token| Upload { key, token });
        Staged {
            key: row.key.clone(),
            pack_upload: upload(&row.pack_upload, row.key.clone()),
            index_upload: upload(&row.index_upload, keys::index_of(&row.key)),
            resumed: true,
            row: Some(key.clone()),
        }
    }

    /// Returns true if all multipart uploads are still open, or completed, and no other process holds them.
    async fn is_usable(&self, target: &Region) -> Result<bool> {
        for upload in [&self.pack_upload, &self.index_upload].into_iter().flatten() {
            match target.objects().parts(upload).await {
                Ok(_) => {}
                Err(ObjectError::NotFound { .. }) => {
                    // The upload ended: completed if the object is there, else swept.
                    if target.objects().head(&upload.key).await?.is_none() {
                        return Ok(false);
                    }
                }
                Err(ObjectError::Unavailable { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Removes the upload and the bytes that it has stored, unless another worker has committed it. The commit deletes
    /// the row in the transaction that makes the head name the pack, so only the process that deletes the row may
    /// remove the upload.
    pub async fn forget(&self, target: &Region) -> Result<()> {
        if let Some(row) = &self.row {
            match target.table().transact(vec![Write::delete(row.clone(), Condition::Present)]).await {
                Ok(()) => {}
                Err(TableError::ConditionFailed { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for upload in [&self.pack_upload, &self.index_upload].into_iter().flatten() {
            target.objects().abort(upload).await?;
        }
        for key in [keys::index_of(&self.key), self.key.clone()] {
            target.objects().delete(&key).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_engine::region::manifest::PackClass;

    fn pack() -> LivePack {
        LivePack {
            key: "elsewhere".into(),
            class: PackClass::Live,
            id: gix::ObjectId::null(gix::hash::Kind::Sha1),
            bytes: STAGED_BYTES,
            objects: 1,
            crc64: gitferry_store::objects::Crc64(0),
            index_bytes: 1,
            index_crc64: gitferry_store::objects::Crc64(0),
            closed: true,
        }
    }

    /// Two workers may resume one upload. After one of them has committed it, the other must not remove it.
    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_process_that_deletes_the_row_removes_the_upload() {
        let dir = tempfile::tempdir().unwrap();
        let region = Region::open_embedded("r", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
        let id = RepositoryId(region.clock().new_id());
        let first = Staging::default().open(&region, id, &pack()).await.unwrap();
        let second = Staging::load(&region, id, &[pack()]).await.unwrap().open(&region, id, &pack()).await.unwrap();
        assert_eq!((&first.key, first.resumed, second.resumed), (&second.key, false, true));
        region.objects().put(&first.key, "pack".into()).await.unwrap();
        // The second commits: the row goes.
        let row = Write::delete(second.row.clone().unwrap(), Condition::Present);
        region.table().transact(vec![row]).await.unwrap();
        first.forget(&region).await.unwrap();
        assert!(region.objects().head(&first.key).await.unwrap().is_some(), "a committed pack was removed");
        // Without a commit, the upload goes with its row.
        let third = Staging::default().open(&region, id, &pack()).await.unwrap();
        region.objects().put(&third.key, "bad".into()).await.unwrap();
        third.forget(&region).await.unwrap();
        assert!(region.objects().head(&third.key).await.unwrap().is_none());
        assert!(Staging::load(&region, id, &[pack()]).await.unwrap().rows.is_empty());
    }
}
