//! Choice and copy of the packs that the target lacks.

use super::error::{InRegion as _, ReplicationError};
use super::link::Link;
use super::plan::{PacksToCopy, packs_to_copy};
use super::transfer::{CopiedPack, Transfer};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::claims::HeldPacks;
use gitferry_engine::region::fold::Folded;
use gitferry_engine::region::manifest::{LivePack, Manifest};

/// Manifests of both sides, read together with the changes to save a round trip. Changes without packs need no
/// manifest: errors stay here until [`Manifests::plan`] finds packs.
pub(super) struct Manifests {
    pub source: Result<Manifest, ReplicationError>,
    pub target: Result<HeldPacks, ReplicationError>,
}

impl Manifests {
    /// Returns the packs to copy and those that the target holds; `None` if the changes bring no packs.
    pub fn plan(self, folded: &Folded) -> Result<Option<(PacksToCopy, HeldPacks)>, ReplicationError> {
        if folded.packs.is_empty() {
            return Ok(None);
        }
        let held = self.target?;
        Ok(Some((packs_to_copy(&folded.packs, &self.source?, &held.manifest), held)))
    }
}

/// Packs that the source still keeps, chosen for the copy.
#[derive(Debug, Default)]
pub(super) struct ChosenPacks {
    /// The packs to copy.
    pub packs: Vec<LivePack>,
    /// Fallback: live packs with the same objects, if the source has replaced some of `packs` and may sweep them
    /// meanwhile.
    instead: Option<Vec<LivePack>>,
}

impl Link {
    /// Chooses the packs that came with the changes, if the plan proposes them and the source still keeps all of them;
    /// live packs otherwise.
    pub(super) async fn choose_packs(
        &self,
        id: RepositoryId,
        wanted: PacksToCopy,
    ) -> Result<ChosenPacks, ReplicationError> {
        let PacksToCopy { live, originals } = wanted;
        let Some(originals) = originals else { return Ok(ChosenPacks { packs: live, instead: None }) };
        let replaced: Vec<gix::ObjectId> = originals.replaced.iter().map(|pack| pack.id).collect();
        let Some(keys) = self.source.replaced_packs().find(id, &replaced).await.in_region(&self.source)? else {
            return Ok(ChosenPacks { packs: live, instead: None });
        };
        let replaced = originals.replaced.iter().zip(keys).map(|(pack, key)| LivePack::from_change(pack, key));
        Ok(ChosenPacks { packs: originals.live.into_iter().chain(replaced).collect(), instead: Some(live) })
    }
}

impl ChosenPacks {
    /// Copies the packs, or the fallback if a replaced pack turns out to be gone or damaged.
    pub async fn copy(&self, transfer: &Transfer) -> Result<Vec<CopiedPack>, ReplicationError> {
        match (transfer.copy_packs(&self.packs).await, &self.instead) {
            (Err(error @ ReplicationError::BadObject { .. }), Some(live)) => {
                tracing::info!(%error, "a replaced pack cannot be copied; copying live packs with its objects");
                transfer.copy_packs(live).await
            }
            (copied, _) => copied,
        }
    }
}
