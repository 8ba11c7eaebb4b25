//! Packs that consolidation has replaced: the region keeps them for the recovery window.

use futures::{StreamExt as _, stream};

use super::super::{Region, Result};
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use gitferry_store::table::Query;

/// Packs that are looked up concurrently.
const LOOKUPS_IN_FLIGHT: usize = 8;

/// Replaced packs of a region that the object store still has.
#[derive(Clone, Copy, Debug)]
pub struct ReplacedPacks<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the packs that consolidation has replaced.
    pub fn replaced_packs(&self) -> ReplacedPacks<'_> {
        ReplacedPacks { region: self }
    }
}

impl ReplacedPacks<'_> {
    /// Returns the object keys of replaced packs in the order of `packs`, with one query for each. `None` as soon as
    /// one of them is not kept. A sweep may delete a replaced pack while it is read: be ready to do without.
    pub async fn find(self, id: RepositoryId, packs: &[gix::ObjectId]) -> Result<Option<Vec<String>>> {
        let lookups: Vec<_> = packs.iter().map(|pack| self.find_one(id, *pack)).collect();
        let mut lookups = stream::iter(lookups).buffered(LOOKUPS_IN_FLIGHT);
        let mut found = Vec::with_capacity(packs.len());
        while let Some(lookup) = lookups.next().await {
            match lookup? {
                Some(key) => found.push(key),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    async fn find_one(self, id: RepositoryId, pack: gix::ObjectId) -> Result<Option<String>> {
        let mut query = Query::prefix(keys::repository(id), &keys::retired_prefix(id, pack));
        // A nonce begins with its time, so the newest copy comes first: a repair replaces a damaged copy by a sound
        // one.
        (query.descending, query.limit) = (true, 1);
        let page = self.region.table().query(&query).await?;
        Ok(page.keys().next().and_then(|key| key.sk.strip_prefix(keys::RETIRED_PREFIX).map(str::to_owned)))
    }
}
