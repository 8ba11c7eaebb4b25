//! The head of a ledger: one small item that says which exact state a repository is in.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hash::{ChangeHash, RefsHash, SnapshotHash};
use gitferry_git::refs::RefValue;

/// Names a repository for good, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryId(pub Uuid);

impl RepositoryId {
    /// When it was made, as a UUIDv7 tells.
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

/// Whether a repository takes changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    Active,
    /// It does not, for now.
    Frozen,
    /// It is a tombstone, kept for the retention period.
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

/// Who may write a repository's ledger in this region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Pushes and imports happen here.
    Primary,
    /// Only replication writes here.
    Replica,
}

/// Names one exact state of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frontier {
    /// The epoch of the last change.
    pub epoch: u64,
    /// The number of the last change; 0 before the first.
    pub seq: u64,
    /// The hash of the last change.
    pub hash: ChangeHash,
}

impl Frontier {
    /// Before the first change.
    pub const ORIGIN: Frontier = Frontier { epoch: 0, seq: 0, hash: ChangeHash::ZERO };
}

impl fmt::Display for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.hash.to_string();
        write!(f, "{}.{}-{}", self.epoch, self.seq, &hash[..12])
    }
}

/// Who may write, since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub number: u64,
    /// The region that writes in it.
    pub region: String,
    /// The state it started from.
    pub start: Frontier,
}

/// The newest snapshot of the refs in this region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// The change after which it was taken.
    pub seq: u64,
    /// Its key in the object store.
    pub key: String,
    /// Its size there, in bytes.
    pub bytes: u64,
    /// SHA-256 of these bytes. A snapshot without it is of a build that did not prove what it read, and is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<SnapshotHash>,
}

/// The document of a head; under 4 KiB, of which the hash of the refs takes 2.7.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The repository's name.
    pub name: String,
    /// Whether the name's row points here. A replica whose name is still held by another repository
    /// waits for it and is reachable by id until then.
    pub named: bool,
    /// SHA-1 or SHA-256.
    #[serde(with = "gitferry_base::text")]
    pub format: gix::hash::Kind,
    /// Whether it takes changes.
    pub state: State,
    /// When it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    /// Who writes here.
    pub role: Role,
    /// The link that delivers to this replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fed_by: Option<String>,
    /// Who may write anywhere.
    pub epoch: Epoch,
    /// The state it is in.
    pub frontier: Frontier,
    /// When that state was committed at its origin.
    pub time: Timestamp,
    /// The hash of all refs and HEAD.
    #[serde(alias = "refs_digest")]
    pub refs_hash: RefsHash,
    /// Number of refs.
    pub refs: u64,
    /// The value of HEAD.
    #[serde(with = "head_value")]
    pub head: RefValue,
    /// The generation that the manifest had when a change last brought packs. Consolidation raises the manifest's own
    /// without the head: a manifest of this or a later generation holds all objects of this state.
    pub manifest: u64,
    /// The newest snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotRef>,
    /// Bytes of changes since that snapshot.
    pub log_bytes: u64,
    /// The oldest change that this region still has, less one.
    pub floor: u64,
}

impl Head {
    /// The newest snapshot of the refs whose bytes can be proven.
    pub fn proven_snapshot(&self) -> Option<&SnapshotRef> {
        self.snapshot.as_ref().filter(|snapshot| snapshot.sha256.is_some())
    }
}

/// HEAD as text; the rare name that is not UTF-8 in hex.
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

/// A head as it was read, with the revision that the next write is conditional on.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadItem {
    /// Which repository.
    pub id: RepositoryId,
    /// The document.
    pub head: Head,
    /// The item's revision.
    pub revision: u64,
}
