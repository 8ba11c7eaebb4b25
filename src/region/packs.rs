//! Packs on their way into a region: checked files in the spool become durable objects.

use tempfile::TempPath;

use super::manifest::{LivePack, PackClass};
use super::{Region, RegionError, Result};
use crate::git::pack::CheckedPack;
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use crate::objects::Crc64;

/// A checked pack in the spool.
#[derive(Debug)]
pub(crate) struct SpooledPack {
    pub file: TempPath,
    pub index: TempPath,
    pub checked: CheckedPack,
    pub crc64: Crc64,
    pub index_crc64: Crc64,
    /// See [`crate::ledger::change::ChangePack::closed`].
    pub closed: bool,
}

impl SpooledPack {
    /// As it will stand in the manifest.
    fn live(&self, key: String) -> LivePack {
        LivePack {
            key,
            class: PackClass::Live,
            id: self.checked.id,
            bytes: self.checked.bytes,
            objects: self.checked.objects,
            crc64: self.crc64,
            index_bytes: self.checked.index_bytes,
            index_crc64: self.index_crc64,
            closed: self.closed,
        }
    }
}

impl Region {
    /// Makes checked packs durable in the object store. What was put before an error is removed again.
    pub(crate) async fn put_packs(&self, id: RepositoryId, packs: Vec<SpooledPack>) -> Result<Vec<LivePack>> {
        let mut live = Vec::new();
        for pack in packs {
            let nonce = self.clock.new_id().simple().to_string();
            let key = keys::pack(id, pack.checked.id, &nonce);
            let entry = pack.live(key);
            // The index last: Git takes a pack for real once it sees the index.
            let put = async {
                self.objects.put_file(&entry.key, pack.file).await?;
                self.objects.put_file(&keys::index_of(&entry.key), pack.index).await
            };
            let result = put.await;
            live.push(entry);
            if let Err(error) = result {
                let error = error.into();
                self.drop_packs(&live, &error).await;
                return Err(error);
            }
        }
        Ok(live)
    }

    /// Removes packs that no change came to name; best effort. Not after an answer that leaves open
    /// whether the change happened.
    pub(crate) async fn drop_packs(&self, packs: &[LivePack], error: &RegionError) {
        if error.kind() != crate::Kind::Transient {
            self.remove_packs(packs).await;
        }
    }

    /// Removes packs that no change names; best effort.
    pub(crate) async fn remove_packs(&self, packs: &[LivePack]) {
        for pack in packs {
            for key in [keys::index_of(&pack.key), pack.key.clone()] {
                if let Err(error) = self.objects.delete(&key).await {
                    tracing::debug!(%error, key, "could not remove a pack that is not needed");
                }
            }
        }
    }
}
