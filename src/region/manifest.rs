//! The manifest: the packs live in a region for a repository.

use serde::{Deserialize, Serialize};

use crate::ledger::change::ChangePack;
use crate::objects::Crc64;

/// Most packs that a manifest lists; import consolidates above that.
pub const MAX_PACKS: usize = crate::ledger::change::MAX_PACKS;

/// The document of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Raised by one with every change of it; the head names the one that belongs to it.
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
    #[serde(with = "crate::text")]
    pub id: gix::ObjectId,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of objects.
    pub objects: u32,
    /// CRC-64/NVME, in hex.
    #[serde(with = "crate::text")]
    pub crc64: Crc64,
    /// Size of the index in bytes.
    pub index_bytes: u64,
    /// CRC-64/NVME of the index, in hex.
    #[serde(with = "crate::text")]
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

    /// Bytes of all packs and indexes.
    pub fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes.saturating_add(pack.index_bytes)).fold(0, u64::saturating_add)
    }
}
