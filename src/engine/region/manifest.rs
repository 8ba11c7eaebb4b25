//! The manifest: the packs live in a region for a repository.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ledger::change::ChangePack;
use gitferry_store::objects::Crc64;

/// Most packs that a manifest lists: its row stays below the limit of a table ([`gitferry_store::table::MAX_ITEM_BYTES`]) with
/// the longest ids. Consolidation begins long before.
pub const MAX_PACKS: usize = 900;

/// The document of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Raised by one with every change of it. The head names the one of its own last change with packs: this one, or
    /// an earlier one whose objects are all here, too.
    pub generation: u64,
    /// The packs.
    pub packs: Vec<LivePack>,
}

/// What a pack's objects are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackClass {
    /// Reachable objects; served.
    Live,
    /// Objects kept only for history; never served.
    Retention,
}

/// One pack in a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePack {
    /// Object key of the pack; the index lies beside it.
    pub key: String,
    /// What it is kept for.
    pub class: PackClass,
    /// The checksum in its trailer.
    #[serde(with = "gitferry_base::text")]
    pub id: gix::ObjectId,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of objects.
    pub objects: u32,
    /// CRC-64/NVME, in hex.
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
    /// A pack that came with a change, under the key that it has in this region.
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

    /// What a change says about it.
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
    /// The entry of a pack, by its id.
    pub fn find(&self, id: &gix::oid) -> Option<&LivePack> {
        self.packs.iter().find(|pack| pack.id.as_ref() == id)
    }

    /// The next generation, with more packs.
    pub fn with(&self, packs: impl IntoIterator<Item = LivePack>) -> Manifest {
        let mut next = Manifest { generation: self.generation + 1, packs: self.packs.clone() };
        next.packs.extend(packs);
        next
    }

    /// The next generation, with one pack in the place of several, by their keys. `None` where one of them is not here.
    pub fn replacing(&self, replaced: &HashSet<&str>, by: &LivePack) -> Option<Manifest> {
        let (gone, kept): (Vec<&LivePack>, Vec<&LivePack>) =
            self.packs.iter().partition(|pack| replaced.contains(pack.key.as_str()));
        let packs = || kept.into_iter().chain([by]).cloned().collect();
        (gone.len() == replaced.len()).then(|| Manifest { generation: self.generation + 1, packs: packs() })
    }

    /// Bytes of all packs and indexes.
    pub fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes.saturating_add(pack.index_bytes)).fold(0, u64::saturating_add)
    }
}
