//! Number and bytes of the LFS objects that a repository holds.

use serde::Deserialize as _;

use super::{LfsRow, LfsStore};
use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use crate::region::Result;
use gitferry_store::table::Query;

/// LFS objects that a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LfsUsage {
    /// Number of objects.
    pub objects: u64,
    /// Bytes of all objects.
    pub bytes: u64,
}

impl LfsStore<'_> {
    /// Counts the objects of a repository. Costs one query for each page of their rows. Rows that cannot be read are
    /// logged and not counted.
    pub async fn usage(self, id: RepositoryId) -> Result<LfsUsage> {
        let mut usage = LfsUsage::default();
        let mut query = Query::prefix(keys::repository(id), keys::LFS_PREFIX);
        loop {
            let mut page = self.region.table().query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                match LfsRow::deserialize(&item.document) {
                    Ok(row) => {
                        usage.objects += 1;
                        usage.bytes = usage.bytes.saturating_add(row.size);
                    }
                    Err(error) => tracing::error!(%error, key = %item.key, "the row of an LFS object is not valid"),
                }
            }
            match next {
                None => return Ok(usage),
                next => query.after = next,
            }
        }
    }
}
