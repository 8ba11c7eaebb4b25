//! The manifest: the packs that a region holds for a repository.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ledger::change::{self, ChangePack};
use gitferry_store::objects::Crc64;

/// Most packs in a manifest. With the longest ids, the row stays below the table's item limit
/// ([`gitferry_store::table::MAX_ITEM_BYTES`]). Consolidation begins long before.
pub const MAX_PACKS: usize = 900;
// The packs of a change enter the manifest in the transaction that commits the change, so no writer brings more than a
// manifest takes. The format of changes allows 1,000, and readers keep to that: the limit of a manifest follows from the
// table's items and may rise without a new format.
const _: () = assert!(MAX_PACKS <= change::MAX_PACKS, "a change whose packs fill a manifest can be read back");

/// Document of the manifest row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of this version; each write raises it by one. The head names the generation of its own last change with
    /// packs: this one, or an earlier one whose objects are all here, too.
    pub generation: u64,
    /// Entries of all packs, live ones and those kept for retention.
    pub packs: Vec<LivePack>,
}

/// Purpose for which a pack is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackClass {
    /// Holds reachable objects; served to clients.
    Live,
    /// Holds objects for history only; never served.
    Retention,
}

/// One pack and its index in a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePack {
    /// Object key of the pack; [`crate::ledger::keys::index_of`] gives that of the index.
    pub key: String,
    /// Purpose for which the pack is kept.
    pub class: PackClass,
    /// Checksum in the pack's trailer.
    #[serde(with = "gitferry_base::text")]
    pub id: gix::ObjectId,
    /// Size of the pack in bytes.
    pub bytes: u64,
    /// Number of objects in the pack.
    pub objects: u32,
    /// CRC-64/NVME of the pack, in hex.
    #[serde(with = "gitferry_base::text")]
    pub crc64: Crc64,
    /// Size of the index in bytes.
    pub index_bytes: u64,
    /// CRC-64/NVME of the index, in hex.
    #[serde(with = "gitferry_base::text")]
    pub index_crc64: Crc64,
    /// See [`ChangePack::closed`].
    pub closed: bool,
}

impl LivePack {
    /// Returns the entry for a pack of a change, stored under `key` in this region.
    pub fn from_change(pack: &ChangePack, key: String) -> Self {
        LivePack {
            key,
            class: PackClass::Live,
            id: pack.id,
            bytes: pack.bytes,
            objects: pack.objects,
            crc64: pack.crc64,
            index_bytes: pack.index_bytes,
            index_crc64: pack.index_crc64,
            closed: pack.closed,
        }
    }

    /// Returns the description of the pack in a change.
    pub fn to_change(&self) -> ChangePack {
        ChangePack {
            id: self.id,
            bytes: self.bytes,
            objects: self.objects,
            crc64: self.crc64,
            index_bytes: self.index_bytes,
            index_crc64: self.index_crc64,
            closed: self.closed,
        }
    }
}

impl Manifest {
    /// Parses the document of a manifest row.
    ///
    /// # Errors
    /// The damage: a document of another form, or numbers that no region can have reached. Sums over a parsed manifest
    /// do not overflow.
    pub fn parse(document: &serde_json::Value) -> Result<Manifest, String> {
        let manifest = Manifest::deserialize(document).map_err(|error| error.to_string())?;
        let sizes = manifest.packs.iter().flat_map(|pack| [pack.bytes, pack.index_bytes]);
        if sizes.into_iter().try_fold(0_u64, u64::checked_add).is_none() {
            return Err("the sizes of its packs exceed 16 EiB".into());
        }
        if manifest.generation == u64::MAX {
            return Err("its generation is the highest number there is".into());
        }
        Ok(manifest)
    }

    /// Finds the entry of a pack by its checksum.
    pub fn find(&self, id: &gix::oid) -> Option<&LivePack> {
        self.packs.iter().find(|pack| pack.id.as_ref() == id)
    }

    /// Returns the next generation, with more packs.
    pub fn with(&self, packs: impl IntoIterator<Item = LivePack>) -> Manifest {
        let mut next = Manifest { generation: self.generation + 1, packs: self.packs.clone() };
        next.packs.extend(packs);
        next
    }

    /// Returns the next generation, with one pack in place of several (by object key). `None` if one of them is not
    /// listed.
    pub fn replacing(&self, replaced: &HashSet<&str>, by: &LivePack) -> Option<Manifest> {
        let (gone, kept): (Vec<&LivePack>, Vec<&LivePack>) =
            self.packs.iter().partition(|pack| replaced.contains(pack.key.as_str()));
        debug_assert!(!replaced.contains(by.key.as_str()), "the key of a pack is never used twice: {}", by.key);
        let packs = || kept.into_iter().chain([by]).cloned().collect();
        (gone.len() == replaced.len()).then(|| Manifest { generation: self.generation + 1, packs: packs() })
    }

    /// Returns the size of all packs and indexes in bytes.
    pub fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes.saturating_add(pack.index_bytes)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(sizes: &[(u64, u64)], generation: u64) -> serde_json::Value {
        let pack = |(bytes, index_bytes): &(u64, u64)| LivePack {
            key: "k".into(),
            class: PackClass::Live,
            id: gix::ObjectId::null(gix::hash::Kind::Sha1),
            bytes: *bytes,
            objects: 1,
            crc64: Crc64(0),
            index_bytes: *index_bytes,
            index_crc64: Crc64(0),
            closed: true,
        };
        json!(Manifest { generation, packs: sizes.iter().map(pack).collect() })
    }

    #[test]
    fn numbers_that_overflow_are_damage() {
        let half = u64::MAX / 2;
        for sizes in [&[(u64::MAX, 1)][..], &[(half, half), (1, 1)], &[(half, 0), (half, 0), (1, 1)]] {
            assert!(Manifest::parse(&document(sizes, 1)).unwrap_err().contains("16 EiB"), "{sizes:?}");
        }
        assert!(Manifest::parse(&document(&[], u64::MAX)).unwrap_err().contains("generation"));
        let largest = Manifest::parse(&document(&[(half, half), (1, 0)], u64::MAX - 1)).unwrap();
        assert_eq!(largest.bytes(), u64::MAX);
        assert_eq!(largest.with([]).generation, u64::MAX);
    }
}
