//! Which packs a cache holds, which of them are in use, and which go first.

use std::collections::HashMap;

use super::root::{Discarded, Found, Root};

/// The packs of a cache, by object key.
#[derive(Debug)]
pub(super) struct Entries {
    packs: HashMap<String, Entry>,
    bytes: u64,
    max_bytes: u64,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    /// Of pack and index.
    bytes: u64,
    /// When it was used last.
    used: u64,
    /// How many readers have it.
    pins: usize,
    /// This process knows that its bytes are right.
    checked: bool,
}

impl Entries {
    pub(super) fn new(max_bytes: u64) -> Self {
        Entries { packs: HashMap::new(), bytes: 0, max_bytes, clock: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes in what an earlier process left, the least recently used first.
    pub(super) fn adopt(&mut self, found: Vec<Found>) {
        for Found { key, bytes } in found {
            self.clock += 1;
            self.bytes += bytes;
            self.packs.insert(key, Entry { bytes, used: self.clock, pins: 0, checked: false });
        }
    }

    /// Holds a place of so many bytes for a pack that somebody reads now, whether it is there or still has to
    /// come. Tells whether its bytes are known to be right, and what had to make room for it.
    pub(super) fn pin(&mut self, key: &str, bytes: u64, root: &Root) -> (bool, Vec<Discarded>) {
        self.clock += 1;
        let entry = Entry { bytes: 0, used: 0, pins: 0, checked: false };
        let entry = self.packs.entry(key.to_owned()).or_insert(entry);
        entry.used = self.clock;
        entry.pins += 1;
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        let checked = entry.checked;
        (checked, self.make_room(root))
    }

    /// The bytes of a pack are right.
    pub(super) fn keep(&mut self, key: &str) {
        if let Some(entry) = self.packs.get_mut(key) {
            entry.checked = true;
        }
    }

    /// A reader is done. What never came, or came damaged, is forgotten.
    pub(super) fn unpin(&mut self, key: &str) {
        let Some(entry) = self.packs.get_mut(key) else { return };
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 && !entry.checked {
            self.bytes -= entry.bytes;
            self.packs.remove(key);
        }
    }

    /// Takes files away, the least recently used first, until the rest fits. Nothing that is in use.
    fn make_room(&mut self, root: &Root) -> Vec<Discarded> {
        let mut discarded = Vec::new();
        while self.bytes > self.max_bytes {
            let idle = self.packs.iter().filter(|(_, entry)| entry.pins == 0);
            let Some(key) = idle.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone()) else {
                tracing::debug!(bytes = self.bytes, max_bytes = self.max_bytes, "packs in use outgrow the cache");
                break;
            };
            if let Some(entry) = self.packs.remove(&key) {
                self.bytes -= entry.bytes;
            }
            discarded.extend(root.take_away(&key));
        }
        discarded
    }
}
