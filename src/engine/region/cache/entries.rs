//! Bookkeeping of a cache: packs, readers, and the order of eviction.

use std::collections::HashMap;

use super::root::{Discarded, Found, Root};

/// The packs of a cache, by object key.
#[derive(Debug)]
pub(super) struct Entries {
    packs: HashMap<String, Entry>,
    /// Sum of the sizes that manifests record. A damaged one may record any size, so that the sum may exceed 64 bits.
    bytes: u128,
    max_bytes: u64,
    /// Number of uses so far; orders entries by last use.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    /// Size of pack and index.
    bytes: u64,
    /// Value of `clock` at the last use.
    used: u64,
    /// Number of readers.
    pins: usize,
    /// True if this process has checked the bytes.
    checked: bool,
}

impl Entries {
    pub(super) fn new(max_bytes: u64) -> Self {
        Entries { packs: HashMap::new(), bytes: 0, max_bytes, clock: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.bytes).unwrap_or(u64::MAX)
    }

    /// Records packs left by an earlier process, the least recently used first.
    pub(super) fn adopt(&mut self, found: Vec<Found>) {
        for Found { key, bytes } in found {
            self.clock += 1;
            self.bytes += u128::from(bytes);
            self.packs.insert(key, Entry { bytes, used: self.clock, pins: 0, checked: false });
        }
    }

    /// Reserves `bytes` for a pack with a reader, cached or about to be fetched. Returns true if its bytes were checked
    /// already, and the files that have to make room.
    pub(super) fn pin(&mut self, key: &str, bytes: u64, root: &Root) -> (bool, Vec<Discarded>) {
        self.clock += 1;
        let entry = Entry { bytes: 0, used: 0, pins: 0, checked: false };
        let entry = self.packs.entry(key.to_owned()).or_insert(entry);
        entry.used = self.clock;
        entry.pins += 1;
        self.bytes = self.bytes - u128::from(entry.bytes) + u128::from(bytes);
        entry.bytes = bytes;
        let checked = entry.checked;
        (checked, self.make_room(root))
    }

    /// Records that the bytes of a pack were checked.
    pub(super) fn keep(&mut self, key: &str) {
        let entry = self.packs.get_mut(key);
        debug_assert!(entry.as_ref().is_some_and(|entry| entry.pins > 0), "only a reader checks a pack: {key}");
        if let Some(entry) = entry {
            entry.checked = true;
        }
    }

    /// Ends one use. A pack that never came, or came damaged, is forgotten.
    pub(super) fn unpin(&mut self, key: &str) {
        let entry = self.packs.get_mut(key);
        debug_assert!(entry.as_ref().is_some_and(|entry| entry.pins > 0), "a pack in use stays in the cache: {key}");
        let Some(entry) = entry else { return };
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 && !entry.checked {
            self.bytes -= u128::from(entry.bytes);
            self.packs.remove(key);
        }
    }

    /// Evicts unused packs, the least recently used first, until the rest fits.
    fn make_room(&mut self, root: &Root) -> Vec<Discarded> {
        let mut discarded = Vec::new();
        while self.bytes() > self.max_bytes {
            let idle = self.packs.iter().filter(|(_, entry)| entry.pins == 0);
            let Some(key) = idle.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone()) else {
                tracing::debug!(bytes = self.bytes(), max_bytes = self.max_bytes, "packs in use outgrow the cache");
                break;
            };
            if let Some(entry) = self.packs.remove(&key) {
                self.bytes -= u128::from(entry.bytes);
            }
            discarded.extend(root.evict(&key));
        }
        discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_disk_holds_are_counted_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (root, _) = Root::open(&dir.path().join("cache")).unwrap();
        let mut entries = Entries::new(100);
        entries.pin("sound", 70, &root);
        entries.keep("sound");
        for key in ["damaged", "damaged too", "damaged"] {
            entries.pin(key, u64::MAX, &root);
        }
        assert_eq!(entries.bytes(), u64::MAX);
        for key in ["damaged", "damaged too", "damaged"] {
            entries.unpin(key);
        }
        assert_eq!(entries.bytes(), 70);
    }
}
