//! Storage that the repositories of a region take, as heads, manifests and rows of LFS objects tell.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::lfs::LfsUsage;
use super::manifest::{Manifest, PackClass};
use super::reserved::is_account;
use super::{Region, Result, is_visible};
use crate::ledger::head::{HeadItem, RepositoryId};

/// Repositories whose rows are read at the same time.
const CONCURRENT: usize = 16;

/// Storage that one repository takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepositoryUsage {
    /// Generation of the manifest that lists its packs; 0 in a sum.
    pub generation: u64,
    /// Bytes of its live packs. Packs that were replaced and wait for their deletion are not counted.
    pub bytes: u64,
    /// LFS objects that it holds.
    pub lfs_objects: u64,
    /// Bytes of its LFS objects.
    pub lfs_bytes: u64,
}

/// Storage that a region takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionUsage {
    /// Each repository that is not deleted, replicas included; without the account's.
    pub repositories: BTreeMap<RepositoryId, RepositoryUsage>,
    /// Repositories whose rows cannot be read. Their storage is not counted.
    pub unreadable: u64,
}

impl RegionUsage {
    /// Sum over all repositories.
    pub fn total(&self) -> RepositoryUsage {
        self.repositories.values().fold(RepositoryUsage::default(), |sum, one| RepositoryUsage {
            generation: 0,
            bytes: sum.bytes.saturating_add(one.bytes),
            lfs_objects: sum.lfs_objects.saturating_add(one.lfs_objects),
            lfs_bytes: sum.lfs_bytes.saturating_add(one.lfs_bytes),
        })
    }
}

/// Bytes of the live packs of a manifest.
pub fn live_bytes(manifest: &Manifest) -> u64 {
    let live = manifest.packs.iter().filter(|pack| pack.class == PackClass::Live);
    live.map(|pack| pack.bytes).fold(0, u64::saturating_add)
}

impl Region {
    /// Measures the storage of all repositories: one read of a manifest and one query of LFS rows for each, beside the
    /// listing of the region. A repository that cannot be read does not affect the others.
    ///
    /// # Errors
    /// The listing cannot be read.
    pub async fn usage(&self) -> Result<RegionUsage> {
        let heads = self.repositories().heads().await?;
        let mut usage = RegionUsage { unreadable: heads.unreadable.len() as u64, ..RegionUsage::default() };
        let visible = heads.items.into_iter().filter(|item| is_visible(&item.head) && !is_account(&item.head.name));
        let measure = |item: HeadItem| async move {
            let measured = self.usage_of(&item).await;
            if let Err(error) = &measured {
                tracing::warn!(%error, repository = item.head.name, "the storage of a repository cannot be measured");
            }
            Ok::<_, super::RegionError>((item.id, measured.ok()))
        };
        let all: Vec<_> = stream::iter(visible).map(measure).buffer_unordered(CONCURRENT).try_collect().await?;
        for (id, measured) in all {
            match measured {
                Some(one) => _ = usage.repositories.insert(id, one),
                None => usage.unreadable += 1,
            }
        }
        Ok(usage)
    }

    async fn usage_of(&self, item: &HeadItem) -> Result<RepositoryUsage> {
        let (manifest, _) = self.reader().manifest(item).await?;
        let LfsUsage { objects, bytes } = self.lfs().usage(item.id).await?;
        let generation = manifest.generation;
        Ok(RepositoryUsage { generation, bytes: live_bytes(&manifest), lfs_objects: objects, lfs_bytes: bytes })
    }
}
