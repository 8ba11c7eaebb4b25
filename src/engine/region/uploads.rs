//! Packs that are put into the object store for a change, and removed again if no change names them.

use tempfile::TempPath;

use super::manifest::LivePack;
use super::new_pack::NewPack;
use super::{Region, RegionError, Result};
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::keys;
use gitferry_store::objects::{Crc64, ObjectError};

/// Packs in the object store that no manifest names yet, or any more.
#[derive(Clone, Copy, Debug)]
pub struct Uploads<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the uploads of this region.
    pub fn uploads(&self) -> Uploads<'_> {
        Uploads { region: self }
    }
}

impl Uploads<'_> {
    /// Puts checked packs into the object store durably, under fresh keys.
    pub(crate) async fn put(self, id: RepositoryId, packs: Vec<NewPack>) -> Result<Vec<LivePack>> {
        let mut live = Vec::new();
        for pack in packs {
            let nonce = self.region.clock().new_id().simple().to_string();
            let key = keys::pack(id, pack.checked.id, &nonce);
            let entry = pack.live(key);
            // Concurrently, so that both wait for the disk together. (Git ignores an index without a pack.)
            let index_key = keys::index_of(&entry.key);
            let (body, index) = futures::join!(
                self.region.objects().put_file(&entry.key, pack.file),
                self.region.objects().put_file(&index_key, pack.index)
            );
            live.push(entry);
            if let Err(error) = body.and(index) {
                self.remove(&live).await;
                return Err(error.into());
            }
        }
        Ok(live)
    }

    /// Stores a file under a key that follows from its content. `what` names the file in errors. Idempotent.
    ///
    /// # Errors
    /// [`ObjectError::Corrupt`] if the key holds an object of another size or checksum. [`ObjectError::Unavailable`] if
    /// the object that held the key is gone: try again.
    pub(crate) async fn put_named_by_content(
        self,
        key: &str,
        file: TempPath,
        what: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<()> {
        let (store, key) = match self.region.objects().put_file(key, file).await {
            // An earlier attempt, or another writer, stored the same bytes.
            Err(ObjectError::Exists { store, key }) => (store, key),
            stored => return Ok(stored.map(drop)?),
        };
        let Some(meta) = self.region.objects().head(&key).await? else {
            let reason = "it existed a moment ago and is gone".to_owned();
            return Err(ObjectError::Unavailable { store, key, reason, ambiguous: false }.into());
        };
        if meta.size != size || meta.crc64.is_some_and(|found| found != crc64) {
            let reason = format!("it is not the {what} of {size} bytes that its key says");
            return Err(ObjectError::Corrupt { store, key, reason }.into());
        }
        Ok(())
    }

    /// Removes the packs of a failed change, if the error proves that no manifest names them or will. Best effort.
    pub(crate) async fn drop_packs(self, packs: &[LivePack], error: &RegionError) {
        if error.proves_nothing_happened() {
            self.remove(packs).await;
        }
    }

    /// Removes packs that no change was asked to name. Best effort.
    pub(crate) async fn drop_unnamed(self, packs: &[LivePack]) {
        self.remove(packs).await;
    }

    /// Removes packs that the manifest names under another key: two writers that brought the same objects at the same
    /// time made the very same change, and the packs of the faster one count. Best effort.
    pub async fn drop_duplicates(self, item: &HeadItem, packs: &[LivePack]) {
        if packs.is_empty() {
            return;
        }
        let Ok((manifest, _)) = self.region.reader().manifest(item).await else { return };
        let is_twin = |pack: &&LivePack| {
            let named = |live: &LivePack| live.key == pack.key;
            manifest.find(&pack.id).is_some() && !manifest.packs.iter().any(named)
        };
        self.remove(packs.iter().filter(is_twin)).await;
    }

    /// Removes packs that are proven to be unreferenced. Best effort.
    async fn remove<'a>(self, packs: impl IntoIterator<Item = &'a LivePack>) {
        let keys: Vec<String> = packs.into_iter().map(|pack| pack.key.clone()).collect();
        for key in keys {
            self.delete(&key).await;
        }
    }

    /// Removes a pack and its index. Best effort. Returns true if both are gone.
    pub(super) async fn delete(self, key: &str) -> bool {
        let mut gone = true;
        for key in [keys::index_of(key), key.to_owned()] {
            if let Err(error) = self.region.objects().delete(&key).await {
                tracing::debug!(%error, key, "could not remove a pack that is not needed");
                gone = false;
            }
        }
        gone
    }
}
