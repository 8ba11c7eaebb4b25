//! Packs that consolidation has replaced: the region keeps them for its recovery window.

use futures::{StreamExt as _, stream};

use super::super::{Region, Result};
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use gitferry_store::table::Query;

/// Packs that are looked up at a time.
const LOOKS_IN_FLIGHT: usize = 8;

impl Region {
    /// The object keys of packs that consolidation has replaced, in the order of `packs`, by one query for each. `None`
    /// as soon as one of them is not kept. A sweep may delete a replaced pack while it is read: be ready to do without.
    pub async fn replaced_packs(&self, id: RepositoryId, packs: &[gix::ObjectId]) -> Result<Option<Vec<String>>> {
        let looks: Vec<_> = packs.iter().map(|pack| self.replaced_pack(id, *pack)).collect();
        let mut looks = stream::iter(looks).buffered(LOOKS_IN_FLIGHT);
        let mut found = Vec::with_capacity(packs.len());
        while let Some(look) = looks.next().await {
            match look? {
                Some(key) => found.push(key),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    async fn replaced_pack(&self, id: RepositoryId, pack: gix::ObjectId) -> Result<Option<String>> {
        let mut query = Query::prefix(keys::repository(id), &keys::retired_prefix(id, pack));
        // Nonces begin with their time. The newest comes first: a repair replaces a damaged copy by a sound one.
        (query.descending, query.limit) = (true, 1);
        let page = self.table.query(&query).await?;
        Ok(page.keys().next().and_then(|key| key.sk.strip_prefix(keys::RETIRED_PREFIX).map(str::to_owned)))
    }
}
