//! Packs on their way into a region: checked in the spool, then put into the object store.

use std::fs::File;
use std::path::Path;

use tempfile::TempPath;

use super::manifest::{LivePack, PackClass};
use super::{Region, RegionError, Result};
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::keys;
use gitferry_base::checksum::file_crc64;
use gitferry_git::pack::{CheckOptions, CheckProgress, CheckedPack, check_pack};
use gitferry_store::objects::Crc64;

/// A checked pack in the spool.
#[derive(Debug)]
pub struct NewPack {
    /// Path of the pack.
    pub file: TempPath,
    /// Path of the index.
    pub index: TempPath,
    /// Result of the check.
    pub checked: CheckedPack,
    /// True if every link of the pack leads into closed packs; see [`crate::ledger::change::ChangePack::closed`].
    pub closed: bool,
    /// CRC-64/NVME of the pack.
    pub crc64: Crc64,
    /// CRC-64/NVME of the index.
    pub index_crc64: Crc64,
}

impl NewPack {
    /// Checks a pack in full and writes its index, while the bytes are synced to disk. `closed` is false until the
    /// caller proves it. Blocking.
    pub fn check(
        file: TempPath,
        crc64: Crc64,
        hint: Option<&Path>,
        format: gix::hash::Kind,
        progress: &CheckProgress,
    ) -> Result<NewPack> {
        let dir = file.parent().unwrap_or(Path::new("."));
        let index = tempfile::NamedTempFile::new_in(dir)?.into_temp_path();
        let options = CheckOptions::new(format);
        let checked = std::thread::scope(|scope| {
            scope.spawn(|| File::open(&file).and_then(|file| file.sync_data()));
            check_pack(&file, hint, &options, &index, progress)
        })?;
        let index_crc64 = file_crc64(&index)?;
        Ok(NewPack { file, index, checked, closed: false, crc64, index_crc64 })
    }

    /// Returns the manifest entry of the pack under `key`.
    pub fn live(&self, key: String) -> LivePack {
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
    /// Puts checked packs into the object store durably, under fresh keys.
    pub(crate) async fn put_packs(&self, id: RepositoryId, packs: Vec<NewPack>) -> Result<Vec<LivePack>> {
        let mut live = Vec::new();
        for pack in packs {
            let nonce = self.clock.new_id().simple().to_string();
            let key = keys::pack(id, pack.checked.id, &nonce);
            let entry = pack.live(key);
            // Concurrently, so that both wait for the disk together. (Git ignores an index without a pack.)
            let index_key = keys::index_of(&entry.key);
            let (body, index) = futures::join!(
                self.objects.put_file(&entry.key, pack.file),
                self.objects.put_file(&index_key, pack.index)
            );
            live.push(entry);
            if let Err(error) = body.and(index) {
                self.remove_packs(&live).await;
                return Err(error.into());
            }
        }
        Ok(live)
    }

    /// Removes the packs of a failed change, if the error proves that no manifest names them or will. Best effort.
    pub(crate) async fn drop_packs(&self, packs: &[LivePack], error: &RegionError) {
        if error.proves_nothing_happened() {
            self.remove_packs(packs).await;
        }
    }

    /// Removes packs that no change was asked to name. Best effort.
    pub(crate) async fn drop_unnamed(&self, packs: &[LivePack]) {
        self.remove_packs(packs).await;
    }

    /// Removes packs that the manifest names under another key: two writers that brought the same objects at the same
    /// time made the very same change, and the packs of the faster one count. Best effort.
    pub async fn drop_duplicates(&self, item: &HeadItem, packs: &[LivePack]) {
        if packs.is_empty() {
            return;
        }
        let Ok((manifest, _)) = self.manifest(item).await else { return };
        let is_twin = |pack: &&LivePack| {
            let named = |live: &LivePack| live.key == pack.key;
            manifest.find(&pack.id).is_some() && !manifest.packs.iter().any(named)
        };
        self.remove_packs(packs.iter().filter(is_twin)).await;
    }

    /// Removes packs that are proven to be unreferenced. Best effort.
    async fn remove_packs<'a>(&self, packs: impl IntoIterator<Item = &'a LivePack>) {
        let keys: Vec<String> = packs.into_iter().map(|pack| pack.key.clone()).collect();
        for key in keys {
            self.delete_pack(&key).await;
        }
    }

    /// Removes a pack and its index. Best effort. Returns true if both are gone.
    pub(super) async fn delete_pack(&self, key: &str) -> bool {
        let mut gone = true;
        for key in [keys::index_of(key), key.to_owned()] {
            if let Err(error) = self.objects.delete(&key).await {
                tracing::debug!(%error, key, "could not remove a pack that is not needed");
                gone = false;
            }
        }
        gone
    }
}
