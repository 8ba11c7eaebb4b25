//! Damaged packs are set aside: consolidation skips them, and a row records the damage until they are mended.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::manifest::{LivePack, Manifest};
use super::super::{Region, Result};
use super::merge::{Bytes, Merger};
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use gitferry_store::table::{Condition, Query, Write};

/// Age of the last check after which a pack that is set aside is read again.
const RECHECK_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// A damaged pack that consolidation skips.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackAside {
    /// Id of the repository.
    pub repository: RepositoryId,
    /// Checksum in the pack's trailer.
    #[serde(with = "gitferry_base::text")]
    pub pack: gix::ObjectId,
    /// Object key of the pack.
    pub key: String,
    /// The damage.
    pub reason: String,
    /// Time when the damage was found.
    pub found: Timestamp,
    /// Time when the pack was last read.
    pub checked: Timestamp,
}

/// Packs of a region that are set aside.
#[derive(Clone, Copy, Debug)]
pub struct PacksAside<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the damaged packs that consolidation skips.
    pub fn packs_aside(&self) -> PacksAside<'_> {
        PacksAside { region: self }
    }
}

impl PacksAside<'_> {
    /// Lists all packs that are set aside in the region, by repository. One query if there are none.
    pub async fn all(self) -> Result<Vec<PackAside>> {
        self.read("").await
    }

    /// Lists the packs of a repository that are set aside.
    pub async fn of(self, id: RepositoryId) -> Result<Vec<PackAside>> {
        self.read(&keys::aside_prefix(id)).await
    }

    async fn read(self, prefix: &str) -> Result<Vec<PackAside>> {
        let mut query = Query::prefix(keys::ASIDE_PARTITION, prefix);
        let mut aside = Vec::new();
        loop {
            let mut page = self.region.table().query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                match PackAside::deserialize(&item.document) {
                    Ok(row) => aside.push(row),
                    Err(error) => tracing::error!(%error, key = %item.key, "the row of a damaged pack is not valid"),
                }
            }
            match next {
                None => return Ok(aside),
                next => query.after = next,
            }
        }
    }

    /// Sets damaged packs aside, each with the reason: consolidation skips them until they are mended.
    pub(super) async fn set(self, id: RepositoryId, damaged: &[(LivePack, String)]) -> Result<()> {
        for (pack, reason) in damaged {
            let now = self.region.clock().now();
            let key = pack.key.clone();
            tracing::error!(
                repository = %id, region = self.region.name(), pack = %pack.id, key, reason,
                "a pack is damaged; consolidation skips it until it is mended"
            );
            let row =
                PackAside { repository: id, pack: pack.id, key, reason: reason.clone(), found: now, checked: now };
            self.put(&row).await?;
        }
        Ok(())
    }

    /// Writes the row of a pack that is set aside.
    async fn put(self, row: &PackAside) -> Result<()> {
        let document = serde_json::to_value(row).map_err(std::io::Error::from)?;
        let key = keys::aside(row.repository, &row.key);
        Ok(self.region.table().transact(vec![Write::put(key, Condition::Any, document)]).await?)
    }

    /// Deletes the row of a pack: consolidation no longer skips the pack.
    async fn remove(self, row: &PackAside) -> Result<()> {
        let key = keys::aside(row.repository, &row.key);
        Ok(self.region.table().transact(vec![Write::delete(key, Condition::Any)]).await?)
    }

    /// Reads the packs of a repository that are set aside again, those that are due or `all`, and forgets those that
    /// are mended or no longer listed. Returns the rest.
    pub async fn recheck(self, id: RepositoryId, manifest: &Manifest, all: bool) -> Result<Vec<PackAside>> {
        let mut remaining = Vec::new();
        let now = self.region.clock().now();
        for mut row in self.of(id).await? {
            let is_due = all || now.duration_since(row.checked).abs() >= RECHECK_AFTER;
            match self.state_of(&row, manifest, is_due).await? {
                State::Unlisted => {
                    tracing::info!(repository = %id, key = row.key, "a damaged pack is no longer listed");
                    self.remove(&row).await?;
                    continue;
                }
                State::Mended => {
                    tracing::warn!(repository = %id, key = row.key, "a damaged pack is mended");
                    self.remove(&row).await?;
                    continue;
                }
                State::Damaged(reason) => row.reason = reason,
            }
            if is_due {
                row.checked = now;
                self.put(&row).await?;
            }
            remaining.push(row);
        }
        Ok(remaining)
    }

    /// Returns the state of a pack that was set aside. A listed pack is read if the check is due.
    async fn state_of(self, row: &PackAside, manifest: &Manifest, is_due: bool) -> Result<State> {
        let Some(live) = manifest.packs.iter().find(|pack| pack.key == row.key) else { return Ok(State::Unlisted) };
        if !is_due {
            return Ok(State::Damaged(row.reason.clone()));
        }
        Ok(match Merger::new(self.region).examine_one(live).await? {
            Bytes::Sound => State::Mended,
            Bytes::Damaged(reason) => State::Damaged(reason),
            Bytes::Unreadable(error) => State::Damaged(format!("it cannot be read: {error}")),
        })
    }
}

/// State of a pack that was set aside.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The manifest does not list the pack any more, whatever its bytes are.
    Unlisted,
    /// The bytes match the manifest again.
    Mended,
    /// The bytes are still damaged, with the reason.
    Damaged(String),
}
