//! [`IdSet`]: the multiset of ids that the refs of a table name.

use std::sync::Arc;

use gix::hash::{Kind as Format, oid};

/// Number of copy-on-write shards, one for each first byte of an id. An edit copies a single shard.
const SHARDS: usize = 256;

/// Multiset of ids. Clones share all shards that neither side edits.
#[derive(Clone, Debug)]
pub(super) struct IdSet {
    /// Length of a raw id in bytes.
    width: usize,
    /// Sorted, concatenated raw ids.
    shards: Vec<Arc<Vec<u8>>>,
}

impl IdSet {
    /// Builds the multiset; null ids are skipped.
    pub(super) fn of<'a>(format: Format, ids: impl Iterator<Item = &'a oid>) -> Self {
        let mut sorted: Vec<Vec<&'a oid>> = vec![Vec::new(); SHARDS];
        for id in ids.filter(|id| !id.is_null()) {
            sorted[usize::from(id.first_byte())].push(id);
        }
        let shards = sorted.into_iter().map(|mut ids| {
            ids.sort_unstable();
            Arc::new(ids.iter().flat_map(|id| id.as_bytes()).copied().collect())
        });
        IdSet { width: format.len_in_bytes(), shards: shards.collect() }
    }

    pub(super) fn contains(&self, id: &oid) -> bool {
        !id.is_null() && self.find(id).is_ok()
    }

    pub(super) fn insert(&mut self, id: &oid) {
        let (Ok(at) | Err(at)) = self.find(id);
        if let Some(shard) = self.shards.get_mut(usize::from(id.first_byte())) {
            let at = at * self.width;
            Arc::make_mut(shard).splice(at..at, id.as_bytes().iter().copied());
        }
    }

    /// Removes one occurrence of an id.
    pub(super) fn remove(&mut self, id: &oid) {
        debug_assert!(self.find(id).is_ok(), "only ids of refs in the table are removed");
        if let (Ok(at), Some(shard)) = (self.find(id), self.shards.get_mut(usize::from(id.first_byte()))) {
            Arc::make_mut(shard).drain(at * self.width..(at + 1) * self.width);
        }
    }

    /// Returns the index of an id in its shard, or the index at which to insert the id.
    fn find(&self, id: &oid) -> Result<usize, usize> {
        let shard: &[u8] = self.shards.get(usize::from(id.first_byte())).map_or(&[], |shard| shard);
        let mut low = 0;
        let mut high = shard.len() / self.width;
        while low < high {
            let middle = low + (high - low) / 2;
            match shard[middle * self.width..(middle + 1) * self.width].cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}
