//! Which packs of the source go to the target, and their copy.

use super::deliver::Link;
use super::error::{InRegion as _, ReplicationError};
use super::plan::{PacksToCopy, packs_to_copy};
use super::transfer::{CopiedPack, Transfer};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::claims::HeldPacks;
use gitferry_engine::region::fold::Folded;
use gitferry_engine::region::manifest::{LivePack, Manifest};

/// The manifests of both sides. Read along, to save a round trip: changes without packs do not need them, so
/// that what is wrong with them is wrong only for those that do.
pub(super) struct Manifests {
    pub source: Result<Manifest, ReplicationError>,
    pub target: Result<HeldPacks, ReplicationError>,
}

impl Manifests {
    /// The packs to copy, and those that the target holds. `None` where the changes bring no packs.
    pub fn plan(self, folded: &Folded) -> Result<Option<(PacksToCopy, HeldPacks)>, ReplicationError> {
        if folded.packs.is_empty() {
            return Ok(None);
        }
        let held = self.target?;
        Ok(Some((packs_to_copy(&folded.packs, &self.source?, &held.manifest), held)))
    }
}

/// Packs of the source that were found.
#[derive(Debug, Default)]
pub(super) struct ChosenPacks {
    /// The packs to copy.
    pub packs: Vec<LivePack>,
    /// Live packs to copy in their place, where the source has replaced some of them and may sweep those meanwhile.
    instead: Option<Vec<LivePack>>,
}

impl Link {
    /// Chooses the packs that came with the changes where the plan proposes them and the source keeps all of them.
    pub(super) async fn choose_packs(
        &self,
        id: RepositoryId,
        wanted: PacksToCopy,
    ) -> Result<ChosenPacks, ReplicationError> {
        let PacksToCopy { live, originals } = wanted;
        let Some(originals) = originals else { return Ok(ChosenPacks { packs: live, instead: None }) };
        let replaced: Vec<gix::ObjectId> = originals.replaced.iter().map(|pack| pack.id).collect();
        let Some(keys) = self.source.replaced_packs(id, &replaced).await.in_region(&self.source)? else {
            return Ok(ChosenPacks { packs: live, instead: None });
        };
        let replaced = originals.replaced.iter().zip(keys).map(|(pack, key)| LivePack::from_change(pack, key));
        Ok(ChosenPacks { packs: originals.live.into_iter().chain(replaced).collect(), instead: Some(live) })
    }
}

impl ChosenPacks {
    /// Copies the packs, or those that hold the same objects where a replaced one turns out to be gone or damaged.
    pub async fn copy(&self, transfer: &Transfer) -> Result<Vec<CopiedPack>, ReplicationError> {
        match (transfer.copy_packs(&self.packs).await, &self.instead) {
            (Err(error @ ReplicationError::BadObject { .. }), Some(live)) => {
                tracing::info!(%error, "a replaced pack cannot be copied; live packs that hold its objects are");
                transfer.copy_packs(live).await
            }
            (copied, _) => copied,
        }
    }
}
