//! Export of a repository as a bare one that plain Git opens.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::{Region, RegionError, Result, blocking};
use gitferry_git::local::BareRepository;

/// Counts of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Exported refs.
    pub refs: u64,
    /// Exported packs.
    pub packs: u64,
    /// Exported LFS objects.
    pub lfs_objects: u64,
    /// Size of packs, indexes and LFS objects in bytes.
    pub bytes: u64,
}

/// Exports repositories of a region.
#[derive(Clone, Copy, Debug)]
pub struct Exporter<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the exporter of this region.
    pub fn exporter(&self) -> Exporter<'_> {
        Exporter { region: self }
    }
}

impl Exporter<'_> {
    /// Writes a bare repository to `dir`, which must be absent or empty. The repository appears there whole or not at
    /// all; all bytes are compared with their recorded checksums.
    pub async fn export(self, name: &str, dir: &Path) -> Result<Exported> {
        let item = self.region.repositories().get(name).await?;
        let (manifest, _) = self.region.reader().manifest(&item).await?;
        let local = self.region.packs().local(&manifest.packs).await?;
        self.region.packs().prove_bytes(&local.packs).await?;
        let refs = self.region.reader().refs(&item).await?;
        let dir = dir.to_owned();
        let format = item.head.format;
        let head = item.head.head.clone();
        let located = |error: RegionError| error.locate(self.region.name(), &item.head.name);
        let packs = manifest.packs.len() as u64;
        let filled = blocking(move || {
            let mut bare = BareRepository::create(&dir, format)?;
            // The same pack may have been pushed twice; Git names pack files by their checksums.
            let mut written = HashSet::new();
            for pack in local.packs.iter().filter(|pack| written.insert(pack.live.id)) {
                bare.add_pack(&pack.live.id, File::open(&pack.pack)?, File::open(&pack.index)?)?;
            }
            Ok(bare)
        });
        let bare = filled.await.map_err(located)?;
        let (lfs_objects, lfs_bytes) = self.region.lfs().export(&item, &bare.directory()).await?;
        let bytes = manifest.bytes().saturating_add(lfs_bytes);
        blocking(move || {
            let mut count = 0;
            let refs = refs.open()?.map(|entry| {
                count += 1;
                entry.map_err(RegionError::from)
            });
            bare.finish::<RegionError>(&head, refs, None)?;
            Ok(Exported { refs: count, packs, lfs_objects, bytes })
        })
        .await
        .map_err(located)
    }
}
