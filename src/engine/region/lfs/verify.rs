//! Verification of the LFS objects that a ledger names.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::LfsStore;
use crate::ledger::change::LfsObject;
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::keys;
use crate::region::{Result, blocking};
use gitferry_git::lfs::LfsOid;
use gitferry_store::objects::ObjectError;

/// Objects that are looked up concurrently.
const OBJECTS_IN_FLIGHT: usize = 16;
/// Objects that are hashed concurrently; each holds [`CHUNK_BYTES`] in memory.
const HASHED_IN_FLIGHT: usize = 4;
/// Bytes read at a time.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

impl LfsStore<'_> {
    /// Returns deviations of LFS objects that changes name: rows, sizes, and with `deep` contents.
    pub(in crate::region) async fn verify(
        self,
        item: &HeadItem,
        objects: &[LfsObject],
        deep: bool,
    ) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        let oids: Vec<LfsOid> = objects.iter().map(|object| object.oid).collect();
        let mut rows = Vec::with_capacity(objects.len());
        for (object, row) in objects.iter().zip(self.objects(item.id, &oids).await?) {
            match row {
                None => findings.push(format!("LFS object {} is not in the table", object.oid)),
                Some(row) if row != *object => {
                    let LfsObject { oid, size, crc64 } = object;
                    let found = format!("{} bytes with CRC {}", row.size, row.crc64);
                    findings.push(format!("LFS object {oid} is {found} in the table, not {size} with {crc64}"));
                }
                Some(_) => rows.push(*object),
            }
        }
        let flights = if deep { HASHED_IN_FLIGHT } else { OBJECTS_IN_FLIGHT };
        let checks: Vec<_> = rows.into_iter().map(|object| self.verify_one(item.id, object, deep)).collect();
        let found: Vec<Option<String>> = stream::iter(checks).buffered(flights).try_collect().await?;
        findings.extend(found.into_iter().flatten());
        Ok(findings)
    }

    async fn verify_one(self, id: RepositoryId, object: LfsObject, deep: bool) -> Result<Option<String>> {
        let key = keys::lfs_object(id, object.oid);
        let problem = match self.region.objects().head(&key).await? {
            None => Some("is missing".into()),
            Some(meta) if meta.size != object.size => Some(format!("has {} bytes, not {}", meta.size, object.size)),
            Some(_) if deep => self.hash_one(&key, object).await?,
            Some(_) => None,
        };
        Ok(problem.map(|problem| format!("LFS object {} {problem} (object {key})", object.oid)))
    }

    async fn hash_one(self, key: &str, object: LfsObject) -> Result<Option<String>> {
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < object.size {
            let bytes = match self.region.objects().get(key, offset..(offset + CHUNK_BYTES).min(object.size)).await {
                Ok(bytes) if !bytes.is_empty() => bytes,
                Ok(_) => return Ok(Some("is cut off".into())),
                Err(ObjectError::NotFound { .. }) => return Ok(Some("is missing".into())),
                Err(error) => return Err(error.into()),
            };
            offset += bytes.len() as u64;
            hasher = blocking(move || {
                hasher.update(&bytes);
                Ok::<_, std::io::Error>(hasher)
            })
            .await?;
        }
        let found = LfsOid::of(hasher);
        Ok((found != object.oid).then(|| format!("is damaged: its content is {found}")))
    }
}
