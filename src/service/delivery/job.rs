//! A job, as a value and as a row: an event has announced a repository, and no delivery has answered it yet.

use std::fmt;
use std::sync::Arc;

use gix::ObjectId;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_replication::mirror::checkpoint::Hint;
use gitferry_store::table::{Item, Key};

/// Names a repository of a link. A region knows its repositories by an id that outlives the name; a remote knows only
/// names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryKey {
    /// A repository of a source that is a region.
    Id(RepositoryId),
    /// A repository of a source that is a remote.
    Name(Arc<str>),
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepositoryKey::Id(id) => id.fmt(f),
            RepositoryKey::Name(name) => name.fmt(f),
        }
    }
}

/// A delivery that is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PendingJob {
    /// A change of a repository of a region.
    Change {
        /// The repository.
        id: RepositoryId,
        /// The change that the target has to reach.
        seq: u64,
    },
    /// An event about a repository of a remote.
    Event {
        /// Name of the repository.
        name: Arc<str>,
        /// Distinguishes this job from all others of the repository.
        token: Uuid,
        /// The new value of a ref, where the event has it.
        hint: Option<Hint>,
    },
}

impl PendingJob {
    /// The repository that has to be delivered.
    pub fn repository(&self) -> RepositoryKey {
        match self {
            PendingJob::Change { id, .. } => RepositoryKey::Id(*id),
            PendingJob::Event { name, .. } => RepositoryKey::Name(name.clone()),
        }
    }

    pub(super) fn key(&self, link: &str) -> Key {
        match self {
            PendingJob::Change { id, seq } => keys::pending_change(link, *id, *seq),
            PendingJob::Event { name, token, .. } => keys::pending_event(link, name, *token),
        }
    }

    pub(super) fn document(&self, since: Timestamp) -> Value {
        let since = since.as_millisecond();
        match self {
            PendingJob::Event { hint: Some(Hint { reference, new }), .. } => {
                let new = new.map(|id| id.to_string());
                json!({ "since": since, "reference": reference.to_string(), "new": new })
            }
            _ => json!({ "since": since }),
        }
    }

    pub(super) fn parse(item: &Item) -> Option<PendingJob> {
        if let Some((id, seq)) = keys::parse_pending_change(&item.key.sk) {
            return Some(PendingJob::Change { id, seq });
        }
        let (name, token) = keys::parse_pending_event(&item.key.sk)?;
        Some(PendingJob::Event { name: name.into(), token, hint: hint_in(&item.document) })
    }
}

/// The hint of a row; without a readable one, the delivery compares both ends.
fn hint_in(document: &Value) -> Option<Hint> {
    let new = match document.get("new")? {
        Value::Null => None,
        id => Some(ObjectId::from_hex(id.as_str()?.as_bytes()).ok()?),
    };
    Some(Hint { reference: document.get("reference")?.as_str()?.into(), new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_read_back_from_their_rows() {
        let read = |job: &PendingJob| {
            let document = job.document(Timestamp::UNIX_EPOCH);
            PendingJob::parse(&Item { key: job.key("cc"), document, revision: 1, bytes: None })
        };
        let hint = |new| Some(Hint { reference: "refs/heads/main".into(), new });
        let id = ObjectId::from_hex(b"0123456789012345678901234567890123456789").unwrap();
        for hint in [None, hint(None), hint(Some(id))] {
            let job = PendingJob::Event { name: "team/app".into(), token: Uuid::from_u128(5), hint };
            assert_eq!(read(&job), Some(job));
        }
        let job = PendingJob::Change { id: RepositoryId(Uuid::from_u128(5)), seq: 3 };
        assert_eq!(read(&job), Some(job));
    }
}
