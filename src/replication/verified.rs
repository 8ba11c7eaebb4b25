//! Times of the last verification of each repository of a target. They have rows of their own, as a delivery overwrites
//! the link's statistics without reading them.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pairs::Pair;
use gitferry_engine::ledger::head::{RepositoryId, State};
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_store::table::{Condition, MAX_TRANSACTION_ITEMS, Query, TableError, Write};

/// Verification times of the repositories of one link's target.
#[derive(Clone, Debug)]
pub struct Verified {
    target: Region,
    link: String,
}

impl Verified {
    /// Verification times of `link`, kept in the table of `target`.
    pub fn new(target: &Region, link: &str) -> Self {
        Verified { target: target.clone(), link: link.into() }
    }

    /// Records that repositories were verified just now and found sound.
    pub async fn note(&self, ids: &[RepositoryId]) -> Result<(), TableError> {
        let at = self.target.clock().now().as_millisecond();
        for ids in ids.chunks(MAX_TRANSACTION_ITEMS) {
            let put =
                |id: &RepositoryId| Write::put(keys::verified(&self.link, *id), Condition::Any, json!({ "at": at }));
            self.target.table().transact(ids.iter().map(put).collect()).await?;
        }
        Ok(())
    }

    /// Reads the last verification time of every repository that was ever verified: one row per repository of the
    /// target.
    pub async fn read(&self) -> Result<HashMap<RepositoryId, Timestamp>, TableError> {
        let mut query = Query::prefix(keys::verified_partition(&self.link), "");
        let mut found = HashMap::new();
        loop {
            let mut page = self.target.table().query(&query).await?;
            let next = page.next.take();
            found.extend(page.readable().filter_map(|item| {
                let at = item.document.get("at").and_then(Value::as_i64)?;
                Some((item.key.sk.parse().ok()?, Timestamp::from_millisecond(at).ok()?))
            }));
            match next {
                Some(next) => query.after = Some(next),
                None => return Ok(found),
            }
        }
    }
}

/// Returns the earliest last verification among the repositories that the target holds; one that was never verified
/// counts with the time of its creation. `None` if the target holds none of them.
pub fn oldest<'a>(
    pairs: impl Iterator<Item = &'a Pair>,
    verified: &HashMap<RepositoryId, Timestamp>,
) -> Option<Timestamp> {
    let held = pairs.filter(|pair| pair.target.is_some() && pair.source.head.state != State::Deleted);
    held.filter_map(|pair| verified.get(&pair.source.id).copied().or_else(|| pair.source.id.made())).min()
}
