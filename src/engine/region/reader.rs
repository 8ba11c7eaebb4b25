//! The state of a repository at one head: manifest, changes and refs.

use super::manifest::Manifest;
use super::{Region, RegionError, Result};
use crate::ledger::head::HeadItem;
use crate::ledger::keys;
use crate::ledger::log::{ChangeRow, REREAD_PAUSES, read_chain_above};
use crate::ledger::refs::RefsAt;
use gitferry_store::table::Item;

/// Reads the states of repositories.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the reader of repository states.
    pub fn reader(&self) -> Reader<'_> {
        Reader { region: self }
    }
}

impl Reader<'_> {
    /// Reads the current manifest and the revision of its row (0 if there is none). The manifest holds all objects of
    /// the head's state, and perhaps more: consolidation and later changes raise the manifest's generation above the
    /// head's.
    pub async fn manifest(self, item: &HeadItem) -> Result<(Manifest, u64)> {
        if item.head.manifest == 0 {
            return Ok((Manifest::default(), 0));
        }
        let row = self.region.table().get(&keys::manifest(item.id)).await?;
        self.manifest_from(item, row).await
    }

    /// Completes [`Self::manifest`] from a row that was just read.
    pub(crate) async fn manifest_from(self, item: &HeadItem, row: Option<Item>) -> Result<(Manifest, u64)> {
        if item.head.manifest == 0 {
            return Ok((Manifest::default(), 0));
        }
        let damaged = |what: &str| RegionError::corrupt(self.region.name(), &item.head.name, what);
        let mut found = self.parse_manifest(item, row)?;
        for pause in REREAD_PAUSES {
            // A query may have seen the head, but not yet the manifest, of the transaction that wrote both.
            if found.as_ref().is_some_and(|(manifest, _)| manifest.generation >= item.head.manifest) {
                break;
            }
            tokio::time::sleep(pause).await;
            found = self.parse_manifest(item, self.region.table().get(&keys::manifest(item.id)).await?)?;
        }
        let (manifest, revision) = found.ok_or_else(|| damaged("its manifest is missing"))?;
        if manifest.generation < item.head.manifest {
            return Err(damaged("its manifest is older than its head"));
        }
        Ok((manifest, revision))
    }

    fn parse_manifest(self, item: &HeadItem, row: Option<Item>) -> Result<Option<(Manifest, u64)>> {
        let Some(row) = row else { return Ok(None) };
        let manifest = Manifest::parse(&row.document);
        let manifest = manifest.map_err(|reason| {
            let reason = format!("its manifest is not valid: {reason}");
            RegionError::corrupt(self.region.name(), &item.head.name, reason)
        })?;
        Ok(Some((manifest, row.revision)))
    }

    /// Reads the changes above `seq` up to the head, oldest first.
    pub async fn changes_above(self, item: &HeadItem, seq: u64) -> Result<Vec<ChangeRow>> {
        let rows = read_chain_above(self.region.table(), item.id, seq, item.head.frontier).await;
        rows.map_err(|error| RegionError::from(error).locate(self.region.name(), &item.head.name))
    }

    /// Loads the snapshot and changes from which the refs of a head are streamed.
    pub async fn refs(self, item: &HeadItem) -> Result<RefsAt> {
        let refs = RefsAt::load(self.region.log(), item.id, &item.head).await;
        refs.map_err(|error| RegionError::from(error).locate(self.region.name(), &item.head.name))
    }
}
