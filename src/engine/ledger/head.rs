//! The head of a ledger: a small table item that names the exact state of a repository.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hash::{ChangeHash, HashedRefs, RefsHash, SnapshotHash};
use super::metadata::Metadata;
use gitferry_git::refs::RefValue;

/// Permanent id of a repository, independent of its name: a UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryId(pub Uuid);

impl RepositoryId {
    /// Returns the creation time in the UUIDv7.
    pub fn made(self) -> Option<Timestamp> {
        let (seconds, nanoseconds) = self.0.get_timestamp()?.to_unix();
        Timestamp::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?).ok()
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RepositoryId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(RepositoryId)
    }
}

/// Readiness of a repository for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Takes changes.
    Active,
    /// Takes no changes for now.
    Frozen,
    /// Is a tombstone, kept for the retention period.
    Deleted,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Active => "active",
            State::Frozen => "frozen",
            State::Deleted => "deleted",
        })
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "active" => Ok(State::Active),
            "frozen" => Ok(State::Frozen),
            "deleted" => Ok(State::Deleted),
            _ => Err(format!("`{text}` is not a state")),
        }
    }
}

/// Role of a region for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Accepts pushes and imports.
    Primary,
    /// Is written by replication only.
    Replica,
}

/// Name of one exact state of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frontier {
    /// Epoch of the last change.
    pub epoch: u64,
    /// Sequence number of the last change; 0 before the first.
    pub seq: u64,
    /// Hash of the last change.
    pub hash: ChangeHash,
}

impl Frontier {
    /// State before the first change.
    pub const ORIGIN: Frontier = Frontier { epoch: 0, seq: 0, hash: ChangeHash::ZERO };
}

impl fmt::Display for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.hash.to_string();
        write!(f, "{}.{}-{}", self.epoch, self.seq, &hash[..12])
    }
}

/// Right of one region to write a ledger, from one state on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number of the epoch, counted from 1.
    pub number: u64,
    /// Region that writes in this epoch.
    pub region: String,
    /// State from which the epoch started.
    pub start: Frontier,
}

/// Newest snapshot of the refs in this region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// Sequence number of the change after which the snapshot was taken.
    pub seq: u64,
    /// Object key of the snapshot.
    pub key: String,
    /// Size of the snapshot in bytes.
    pub bytes: u64,
    /// SHA-256 of the snapshot. A snapshot without it comes from a build that did not prove what it read, and is not
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<SnapshotHash>,
}

/// Document of a head: under 4 KiB, of which the hash of the refs takes 2.7, beside the metadata, whose limits keep them
/// under 80 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Name of the repository.
    pub name: String,
    /// True if the row of the name points here. A replica whose name is still held by another repository waits for it
    /// and is reachable by id until then.
    pub named: bool,
    /// Object format, SHA-1 or SHA-256.
    #[serde(with = "gitferry_base::text")]
    pub format: gix::hash::Kind,
    /// Readiness for changes.
    pub state: State,
    /// Time of deletion, for tombstones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    /// Role of this region for the repository.
    pub role: Role,
    /// Name of the link that delivers to this replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fed_by: Option<String>,
    /// Epoch of the ledger: the region that may write.
    pub epoch: Epoch,
    /// State of the ledger.
    pub frontier: Frontier,
    /// Time when that state was committed at its origin.
    pub time: Timestamp,
    /// Hash of all refs and HEAD.
    #[serde(alias = "refs_digest")]
    pub refs_hash: RefsHash,
    /// Number of refs.
    pub refs: u64,
    /// Value of HEAD.
    #[serde(with = "head_value")]
    pub head: RefValue,
    /// Description and tags.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Generation of the manifest when a change last brought packs. Consolidation raises the manifest's generation
    /// without the head: a manifest of this or a later generation holds all objects of this state.
    pub manifest: u64,
    /// Newest snapshot of the refs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotRef>,
    /// Size of the changes since that snapshot in bytes.
    pub log_bytes: u64,
    /// Oldest sequence number that this region still has, minus one.
    pub floor: u64,
}

impl Head {
    /// Returns the newest snapshot, if its bytes can be proven.
    pub fn proven_snapshot(&self) -> Option<&SnapshotRef> {
        self.snapshot.as_ref().filter(|snapshot| snapshot.sha256.is_some())
    }

    /// Adds HEAD to the sum of the refs, which includes it from the first change on.
    pub fn add_head_to(&self, refs: &mut HashedRefs) {
        if self.frontier.seq > 0 {
            refs.edit(b"HEAD", None, Some(&self.head));
        }
    }
}

/// HEAD as text; a name that is not UTF-8 is in hex.
mod head_value {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use gitferry_git::refs::RefValue;

    const RAW: &str = "hex:";

    pub fn serialize<S: Serializer>(value: &RefValue, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = value.to_bytes();
        match std::str::from_utf8(&bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_str(&format!("{RAW}{}", hex::encode(&bytes))),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RefValue, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = match text.strip_prefix(RAW) {
            Some(raw) => hex::decode(raw).map_err(D::Error::custom)?,
            None => text.into_bytes(),
        };
        RefValue::parse(&bytes).map_err(D::Error::custom)
    }
}

/// A head with the row revision on which the next write is conditional.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadItem {
    /// Id of the repository.
    pub id: RepositoryId,
    /// Document of the head.
    pub head: Head,
    /// Revision of the row.
    pub revision: u64,
}
