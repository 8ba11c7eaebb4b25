//! The change: one atomic step of a repository, as exact bytes.
//!
//! A change is a text in lines, like Git's own commit objects: it is written once, hashed as it stands,
//! and copied as it stands from region to region. A million ref edits are read and written as a stream.
//!
//! ```text
//! gitferry-change 2
//! epoch 1 us-east-1
//! seq 7
//! prev <hash of change 6>
//! time 1764000000123
//! actor import:/srv/git/linux.git
//! name linux                               (where the name changes)
//! format sha1                              (first change only)
//! state deleted                            (where the state changes)
//! head ref:refs/heads/main <new value>     (where HEAD changes; `-` for no old value)
//! pack <id> <bytes> <objects> <crc64> <index bytes> <index crc64> <closed|open>
//! lfs <sha256> <bytes> <crc64>
//! digest lt1-<refs digest after the change>
//! edits 2
//! <old or -> <new or -> refs/heads/main
//! <old or -> <new or -> refs/tags/v1
//! ```
//!
//! Format 1 differs in one line: its digest is an XOR without `lt1-` (see [`super::hash`]). It is read, and no longer
//! written; in one ledger it stands only below format 2.
//!
//! Edits are sorted by name and name each ref once. Deletions apply before creations. `lfs` lines name the
//! Git LFS objects that came with the change, sorted by id, each once.

mod read;
#[cfg(test)]
mod tests;
mod write;

use jiff::Timestamp;

use super::hash::{ChangeHash, RefsDigest};
use super::head::State;
use gitferry_git::lfs::LfsOid;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_store::objects::Crc64;

pub use read::ChangeReader;
pub use write::{ChangeBody, EditSpool, SealedChange};

/// Changes up to this size travel in their table row; larger ones live in the object store.
pub const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Most packs that one change brings: what a manifest can hold.
pub const MAX_PACKS: usize = 1_000;
/// Most LFS objects that one change names.
pub const MAX_LFS_OBJECTS: usize = 100_000;
/// Longest actor, in bytes.
const MAX_ACTOR_BYTES: usize = 1_024;

/// A pack that came with a change, and what a copy of it is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePack {
    /// The checksum in its trailer.
    pub id: gix::ObjectId,
    /// Size of the pack in bytes.
    pub bytes: u64,
    /// Number of objects in it.
    pub objects: u32,
    /// CRC-64/NVME of the pack.
    pub crc64: Crc64,
    /// Size of its index in bytes.
    pub index_bytes: u64,
    /// CRC-64/NVME of its index.
    pub index_crc64: Crc64,
    /// Every link of every object in it resolves within the repository's closed packs, so that finding
    /// an object in it proves that everything below is there. An open pack proves nothing.
    pub closed: bool,
}

/// A Git LFS object, and what a copy of it is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LfsObject {
    /// SHA-256 of its content.
    pub oid: LfsOid,
    /// Size in bytes.
    pub size: u64,
    /// CRC-64/NVME of its content.
    pub crc64: Crc64,
}

/// What happens to HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadEdit {
    /// Before; `None` only in a repository's first change.
    pub old: Option<RefValue>,
    /// After.
    pub new: RefValue,
}

/// What happens to one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefEdit {
    /// Which ref.
    pub name: RefName,
    /// Before; `None` when it is created.
    pub old: Option<RefValue>,
    /// After; `None` when it is deleted.
    pub new: Option<RefValue>,
}

/// All of a change but its ref edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHeader {
    /// The epoch it was written in.
    pub epoch: u64,
    /// The region that wrote it.
    pub region: String,
    /// Its place in the ledger, counted from 1.
    pub seq: u64,
    /// The hash of the change before.
    pub prev: ChangeHash,
    /// When it was committed, in milliseconds.
    pub time: Timestamp,
    /// Who did it.
    pub actor: String,
    /// The new name.
    pub name: Option<String>,
    /// The object format: in the first change, and only there.
    pub format: Option<gix::hash::Kind>,
    /// The new state.
    pub state: Option<State>,
    /// What happens to HEAD.
    pub head: Option<HeadEdit>,
    /// The packs that came with it.
    pub packs: Vec<ChangePack>,
    /// The LFS objects that came with it: sorted by id, each once.
    pub lfs: Vec<LfsObject>,
    /// The refs digest after it.
    pub digest: RefsDigest,
    /// How many ref edits follow.
    pub edits: u64,
}

impl ChangeHeader {
    /// Bytes of packs and indexes that a replica has to copy for it.
    pub fn pack_bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes.saturating_add(pack.index_bytes)).fold(0, u64::saturating_add)
    }

    /// Bytes of LFS objects that a replica has to copy for it, unless it has them.
    pub fn lfs_bytes(&self) -> u64 {
        self.lfs.iter().map(|object| object.size).fold(0, u64::saturating_add)
    }
}

/// Makes free text fit into one line of a change.
pub fn clean_actor(text: &str) -> String {
    let mut actor: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = actor.len().min(MAX_ACTOR_BYTES);
    while !actor.is_char_boundary(end) {
        end -= 1;
    }
    actor.truncate(end);
    if actor.trim().is_empty() { "unknown".into() } else { actor.trim().into() }
}

/// Why bytes are not a change. Whoever sends them is at fault; nothing of them has been used.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A line is not what the format says.
    #[error("line {line} of the change is not valid: {reason}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed on the way.
    #[error("the change could not be read or written: {0}")]
    Io(#[from] std::io::Error),
}
