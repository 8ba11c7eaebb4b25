//! The change: one atomic step of a repository, as exact bytes.
//!
//! A change is text in lines, like Git's own commit objects: written and hashed once, then copied byte by byte from
//! region to region. Ref edits are written and read as a stream, however many there are.
//!
//! ```text
//! gitferry-change 2
//! epoch 1 us-east-1
//! seq 7
//! prev <hash of change 6>
//! time 1764000000123
//! actor import:/srv/git/linux.git           (or `NAME from ORIGIN`, see [`Actor`])
//! name linux                               (where the name changes)
//! format sha1                              (first change only)
//! state deleted                            (where the state changes)
//! head ref:refs/heads/main <new value>     (where HEAD changes; `-` for no old value)
//! description "a text in JSON"             (format 3, where the description changes)
//! tag "key" "value"                        (format 3, for each tag that changes; `-` for no value)
//! pack <id> <bytes> <objects> <crc64> <index bytes> <index crc64> <closed|open>
//! lfs <sha256> <bytes> <crc64>
//! digest lt1-<refs digest after the change>
//! edits 2
//! <old or -> <new or -> refs/heads/main
//! <old or -> <new or -> refs/tags/v1
//! ```
//!
//! Format 1 differs in one line: its digest is an XOR without `lt1-` (see [`super::hash`]). Changes of format 1 are
//! read, and no longer written; in a ledger they never follow a change of format 2. Format 3 is format 2 with lines of
//! metadata, and written only where there are some: builds that know no metadata read every other change.
//!
//! Edits are sorted by name, one for each ref. Deletions apply before creations. `lfs` lines name the Git LFS objects
//! that came with the change, sorted by id, each once, and `tag` lines are sorted by key.

mod actor;
mod read;
#[cfg(test)]
mod tests;
mod write;

use jiff::Timestamp;

use super::hash::{ChangeHash, RefsDigest};
use super::head::State;
use super::metadata::MetadataEdit;
use gitferry_git::lfs::LfsOid;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_store::objects::Crc64;

pub use actor::Actor;
pub use read::ChangeReader;
pub use write::{ChangeBody, EditSpool, SealedChange};

/// Largest change that is stored in its table row, in bytes; larger ones are stored in the object store.
pub const MAX_INLINE_BYTES: usize = 256 * 1024;
/// Most packs in one change that readers accept. Writers bring fewer: the packs of a change have to fit into a manifest.
pub const MAX_PACKS: usize = 1_000;
/// Most LFS objects in one change.
pub const MAX_LFS_OBJECTS: usize = 100_000;
/// Longest actor, in bytes.
const MAX_ACTOR_BYTES: usize = 1_024;

/// A pack that came with a change, with the facts by which copies are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePack {
    /// Checksum in the pack's trailer.
    pub id: gix::ObjectId,
    /// Size of the pack in bytes.
    pub bytes: u64,
    /// Number of objects in the pack.
    pub objects: u32,
    /// CRC-64/NVME of the pack.
    pub crc64: Crc64,
    /// Size of the index in bytes.
    pub index_bytes: u64,
    /// CRC-64/NVME of the index.
    pub index_crc64: Crc64,
    /// True if every link of every object in the pack resolves within the repository's closed packs, so that finding an
    /// object in it proves that everything below is present. An open pack proves nothing.
    pub closed: bool,
}

/// A Git LFS object, with the facts by which copies are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LfsObject {
    /// SHA-256 of the content.
    pub oid: LfsOid,
    /// Size in bytes.
    pub size: u64,
    /// CRC-64/NVME of the content.
    pub crc64: Crc64,
}

/// Edit of HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadEdit {
    /// Old value; `None` only in the first change of a repository.
    pub old: Option<RefValue>,
    /// New value.
    pub new: RefValue,
}

/// Edit of one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefEdit {
    /// Name of the ref.
    pub name: RefName,
    /// Old value; `None` if the ref is created.
    pub old: Option<RefValue>,
    /// New value; `None` if the ref is deleted.
    pub new: Option<RefValue>,
}

/// A change without its ref edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHeader {
    /// Epoch in which the change was written.
    pub epoch: u64,
    /// Region that wrote the change.
    pub region: String,
    /// Sequence number in the ledger, counted from 1.
    pub seq: u64,
    /// Hash of the previous change.
    pub prev: ChangeHash,
    /// Time of the commit, in milliseconds.
    pub time: Timestamp,
    /// User, link or command in whose name the change was made.
    pub actor: String,
    /// New name, if the name changes.
    pub name: Option<String>,
    /// Object format; in the first change, and only there.
    pub format: Option<gix::hash::Kind>,
    /// New state, if the state changes.
    pub state: Option<State>,
    /// Edit of HEAD, if HEAD changes.
    pub head: Option<HeadEdit>,
    /// Edit of the metadata.
    pub metadata: MetadataEdit,
    /// Packs that came with the change.
    pub packs: Vec<ChangePack>,
    /// LFS objects that came with the change: sorted by id, each once.
    pub lfs: Vec<LfsObject>,
    /// Digest of all refs and HEAD after the change.
    pub digest: RefsDigest,
    /// Number of ref edits that follow.
    pub edits: u64,
}

#[cfg(test)]
impl ChangeHeader {
    /// Header of the change that creates an empty repository.
    pub fn first(region: &str, repository: &str) -> Self {
        ChangeHeader {
            epoch: 1,
            region: region.into(),
            seq: 1,
            prev: ChangeHash::ZERO,
            time: Timestamp::UNIX_EPOCH,
            actor: "a".into(),
            name: Some(repository.into()),
            format: Some(gix::hash::Kind::Sha1),
            state: Some(State::Active),
            head: Some(HeadEdit { old: None, new: RefValue::parse(b"ref:refs/heads/main").unwrap() }),
            metadata: MetadataEdit::default(),
            packs: Vec::new(),
            lfs: Vec::new(),
            digest: RefsDigest::default(),
            edits: 0,
        }
    }
}

impl ChangeHeader {
    /// Returns the bytes of packs and indexes that a replica has to copy for this change.
    pub fn pack_bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes.saturating_add(pack.index_bytes)).fold(0, u64::saturating_add)
    }

    /// Returns the bytes of LFS objects that a replica has to copy for this change, unless it holds them.
    pub fn lfs_bytes(&self) -> u64 {
        self.lfs.iter().map(|object| object.size).fold(0, u64::saturating_add)
    }
}

/// Makes free text fit into one line of a change: control characters become spaces, the end is cut off.
pub fn clean_actor(text: &str) -> String {
    let mut actor: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = actor.len().min(MAX_ACTOR_BYTES);
    while !actor.is_char_boundary(end) {
        end -= 1;
    }
    actor.truncate(end);
    if actor.trim().is_empty() { "unknown".into() } else { actor.trim().into() }
}

/// Bytes are not a valid change. The sender is at fault; nothing of the change has been used.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A line violates the format.
    #[error("line {line} of the change is not valid: {reason}")]
    Malformed {
        /// Line number, counted from 1.
        line: u64,
        /// The violation.
        reason: String,
    },
    /// Reading or writing the change failed.
    #[error("the change could not be read or written: {0}")]
    Io(#[from] std::io::Error),
}
