//! Rows without which a repository can be neither found nor written. The loss of such a row must not pass for a
//! repository that never existed, or for a race that another writer won.

use super::{Region, RegionError, Result};
use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::heads::read_head;
use crate::ledger::keys;
use crate::ledger::log::REREAD_PAUSES;
use gitferry_store::table::Key;

/// Finds rows that the table of a region has lost.
#[derive(Clone, Copy, Debug)]
pub struct LostRows<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the check for rows that the table has lost.
    pub fn lost_rows(&self) -> LostRows<'_> {
        LostRows { region: self }
    }
}

impl LostRows<'_> {
    /// Looks for lost rows that would make every write to a repository fail. `name` is the name of the repository
    /// elsewhere. Takes at least two requests.
    ///
    /// # Errors
    /// [`RegionError::Corrupt`] names the lost row.
    pub async fn check(self, id: RepositoryId, name: &str) -> Result<()> {
        let head = read_head(self.region.table(), id).await?.map(|item| item.head);
        let held = head.as_ref().filter(|head| head.named).map_or(name, |head| head.name.as_str());
        let wanted = [keys::head(id), keys::listing(id), keys::manifest(id), keys::name(held)];
        let rows: Vec<bool> = self.region.table().get_many(&wanted).await?.iter().map(Option::is_some).collect();
        let [has_head, is_listed, has_manifest, has_name] = rows[..] else {
            unreachable!("a table returns an entry for each key")
        };
        match head {
            None if !has_head && is_listed => {
                Err(self.lost_row(id, name, &keys::head(id), "it is listed, but its head is missing"))
            }
            // The name row changes only in one transaction with the head of its holder.
            Some(head) if head.named && !has_name && !self.has_moved(id, &head.name).await? => Err(self.lost_row(
                id,
                name,
                &keys::name(&head.name),
                "its head holds a name, but the row of that name is missing",
            )),
            Some(head) if head.manifest > 0 && !has_manifest => {
                Err(self.lost_row(id, name, &keys::manifest(id), "its manifest is missing"))
            }
            _ => Ok(()),
        }
    }

    /// Returns true if a repository no longer holds a name.
    async fn has_moved(self, id: RepositoryId, name: &str) -> Result<bool> {
        let item = read_head(self.region.table(), id).await?;
        Ok(item.is_none_or(|item| !item.head.named || item.head.name != name))
    }

    /// Reads the head to which a name row points. Heads are never deleted: a head that stays absent after several reads
    /// is damage.
    pub(super) async fn head_behind_name(self, id: RepositoryId, name: &str) -> Result<HeadItem> {
        let mut found = read_head(self.region.table(), id).await?;
        for pause in REREAD_PAUSES {
            if let Some(item) = found {
                return Ok(item);
            }
            tokio::time::sleep(pause).await;
            found = read_head(self.region.table(), id).await?;
        }
        found.ok_or_else(|| self.lost_row(id, name, &keys::head(id), "its name is taken, but its head is missing"))
    }

    fn lost_row(self, id: RepositoryId, name: &str, row: &Key, what: &str) -> RegionError {
        let region = self.region.name();
        let reason = format!(
            "{what}; put the row `{row}` back from a backup of the table, then `gitferry verify {id} --region {region} \
             --deep` proves it"
        );
        RegionError::corrupt(region, name, reason)
    }
}
