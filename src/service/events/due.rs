//! Due marks: rows of the link's table that say which repositories an event has announced and nobody has
//! delivered yet. Once the mark is durable the event's message is deleted, however long the delivery takes.
//!
//! A mark is never written over: a delivery that began after it was read clears it, and a later event has a mark of
//! its own. Where the source is a region it names the change that the target has to reach; a remote has no changes
//! with numbers, so what it tells of is a mark of its own each time.

use std::collections::HashSet;
use std::sync::Arc;

use gix::ObjectId;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::remote;
use gitferry_base::clock::Clock;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_replication::deliver::Link;
use gitferry_replication::remotes::RemoteLink;
use gitferry_replication::remotes::checkpoint::Hint;
use gitferry_replication::{AnyLink, ReplicationError, Which};
use gitferry_store::table::{Condition, Item, Key, MAX_TRANSACTION_ITEMS, Query, Table, TableError, Write};

/// Most marks that are read at a time; the rest follow when these are done.
pub const MAX_DUE: usize = 10_000;

/// One mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// A change of a region's repository.
    Change {
        /// Which repository.
        id: RepositoryId,
        /// The change that the target has to reach.
        seq: u64,
    },
    /// Something that happened to a repository of a remote.
    News {
        /// The name of the repository.
        name: Arc<str>,
        /// Tells this mark from all others.
        mark: Uuid,
        /// What happened, where the event says it.
        hint: Option<Hint>,
    },
}

impl Due {
    /// Which repository.
    pub fn which(&self) -> Which {
        match self {
            Due::Change { id, .. } => Which::Id(*id),
            Due::News { name, .. } => Which::Name(name.clone()),
        }
    }

    fn key(&self, link: &str) -> Key {
        match self {
            Due::Change { id, seq } => keys::due(link, *id, *seq),
            Due::News { name, mark, .. } => keys::due_news(link, name, *mark),
        }
    }

    fn document(&self, since: Timestamp) -> Value {
        let since = since.as_millisecond();
        match self {
            Due::News { hint: Some(Hint { reference, new }), .. } => {
                let new = new.map(|id| id.to_string());
                json!({ "since": since, "reference": reference.to_string(), "new": new })
            }
            _ => json!({ "since": since }),
        }
    }

    fn parse(item: &Item) -> Option<Due> {
        if let Some((id, seq)) = keys::parse_due(&item.key.sk) {
            return Some(Due::Change { id, seq });
        }
        let (name, mark) = keys::parse_due_news(&item.key.sk)?;
        Some(Due::News { name: name.into(), mark, hint: hint_in(&item.document) })
    }
}

/// What cannot be read says nothing, and both sides are looked at.
fn hint_in(document: &Value) -> Option<Hint> {
    let new = match document.get("new")? {
        Value::Null => None,
        id => Some(ObjectId::from_hex(id.as_str()?.as_bytes()).ok()?),
    };
    Some(Hint { reference: document.get("reference")?.as_str()?.into(), new })
}

/// The marks of one link.
#[derive(Clone, Debug)]
pub struct DueMarks {
    /// A link that has none keeps no marks, and nobody relies on them: it has no queue.
    table: Option<Arc<dyn Table>>,
    clock: Arc<dyn Clock>,
    link: String,
}

impl DueMarks {
    /// Those of a link between regions, in its target.
    pub fn new(target: &Region, link: &str) -> Self {
        DueMarks { table: Some(target.table.clone()), clock: target.clock.clone(), link: link.into() }
    }

    /// Those of a link.
    pub fn of(link: &AnyLink) -> Self {
        DueMarks { table: link.table().cloned(), clock: link.clock().clone(), link: link.name().into() }
    }

    /// Those of a link with a remote.
    pub fn of_remote(link: &RemoteLink) -> Self {
        DueMarks { table: link.table.clone(), clock: link.clock.clone(), link: link.name.clone() }
    }

    /// Marks a repository, durably. Doing it again changes nothing.
    pub async fn mark(&self, due: &Due) -> Result<(), TableError> {
        let Some(table) = &self.table else { return Ok(()) };
        let document = due.document(self.clock.now());
        table.transact(vec![Write::put(due.key(&self.link), Condition::Any, document)]).await
    }

    /// Takes marks away that a delivery has answered.
    pub async fn clear(&self, marks: &[Due]) -> Result<(), TableError> {
        let Some(table) = &self.table else { return Ok(()) };
        for marks in marks.chunks(MAX_TRANSACTION_ITEMS) {
            table.transact(self.clearing(marks)).await?;
        }
        Ok(())
    }

    /// The writes that take marks away.
    fn clearing(&self, marks: &[Due]) -> Vec<Write> {
        // No transaction names a key twice.
        let mut seen = HashSet::new();
        let marks = marks.iter().filter(|due| seen.insert(*due));
        marks.map(|due| Write::delete(due.key(&self.link), Condition::Any)).collect()
    }

    /// The marks that were made before a moment, at most [`MAX_DUE`] of them.
    pub async fn read(&self, before: Timestamp) -> Result<Vec<Due>, TableError> {
        self.read_below("", |_, since| since <= before.as_millisecond()).await
    }

    /// The marks that a repository of a remote has now, at most [`MAX_DUE`] of them.
    pub async fn of_name(&self, name: &str) -> Result<Vec<Due>, TableError> {
        self.of_name_until(name, Timestamp::MAX).await
    }

    /// Those of them that were made before a moment.
    pub async fn of_name_until(&self, name: &str, before: Timestamp) -> Result<Vec<Due>, TableError> {
        let is_of = |due: &Due| matches!(due, Due::News { name: other, .. } if **other == *name);
        let wanted = |due: &Due, since| since <= before.as_millisecond() && is_of(due);
        self.read_below(&keys::due_news_prefix(name), wanted).await
    }

    async fn read_below(&self, prefix: &str, wanted: impl Fn(&Due, i64) -> bool) -> Result<Vec<Due>, TableError> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let mut query = Query::prefix(keys::due_partition(&self.link), prefix);
        let mut found = Vec::new();
        loop {
            let mut page = table.query(&query).await?;
            let next = page.next.take();
            for item in page.readable() {
                let Some(due) = Due::parse(&item) else {
                    tracing::warn!(key = %item.key, "this due mark names no repository");
                    continue;
                };
                let since = item.document.get("since").and_then(Value::as_i64).unwrap_or(0);
                if wanted(&due, since) && found.len() < MAX_DUE {
                    found.push(due);
                }
            }
            match next {
                Some(next) if found.len() < MAX_DUE => query.after = Some(next),
                _ => return Ok(found),
            }
        }
    }
}

/// What asks for a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which repository.
    pub which: Which,
    /// The marks that ask for it.
    pub marks: Vec<Due>,
    /// Both sides are to be looked at, whatever the link knows of what was announced: a sweep.
    pub look: bool,
}

/// What a delivery brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Changes, or to and from a remote the refs that changed.
    pub changes: u64,
    /// How late the oldest of them was; to and from a remote nobody knows.
    pub lag_ms: Option<i64>,
    /// The repository of the target and its newest change, where the target is a region.
    pub reached: Option<(RepositoryId, u64)>,
}

/// Delivers a repository. The marks that it has answered and that are still there; with `along` those that asked for
/// it are taken away with the commit where there is one.
pub async fn deliver(
    link: &AnyLink,
    asked: &Asked,
    along: bool,
) -> Result<(Option<Brought>, Vec<Due>), ReplicationError> {
    match (link, &asked.which) {
        (AnyLink::Regions(link), Which::Id(id)) => deliver_change(link, *id, &asked.marks, along).await,
        (AnyLink::Remote(link), _) => remote::deliver(link, asked).await,
        // No link between regions is told of names.
        (AnyLink::Regions(_), Which::Name(_)) => Ok((None, asked.marks.clone())),
    }
}

async fn deliver_change(
    link: &Link,
    id: RepositoryId,
    marks: &[Due],
    along: bool,
) -> Result<(Option<Brought>, Vec<Due>), ReplicationError> {
    let clearing = if along { DueMarks::new(&link.target, &link.name).clearing(marks) } else { Vec::new() };
    let Some(delivered) = link.deliver_with(id, &clearing).await? else { return Ok((None, marks.to_vec())) };
    let left = if delivered.along { Vec::new() } else { marks.to_vec() };
    let brought =
        Brought { changes: delivered.changes, lag_ms: Some(delivered.lag_ms), reached: Some((id, delivered.seq)) };
    Ok((Some(brought), left))
}

/// Delivers a repository and takes away the marks that asked for it, with the commit where there is one. A mark
/// that stays comes to one more look.
pub async fn deliver_due(link: &AnyLink, asked: &Asked) -> Result<Option<Brought>, ReplicationError> {
    let (brought, left) = deliver(link, asked, true).await?;
    clear_after(link, &left).await;
    Ok(brought)
}

/// Takes away the marks that a delivery has answered, as well as it can.
pub async fn clear_after(link: &AnyLink, marks: &[Due]) {
    if let Err(error) = DueMarks::of(link).clear(marks).await {
        tracing::info!(%error, "a due mark stays; it comes to one more look");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back_from_their_rows() {
        let read = |due: &Due| {
            let document = due.document(Timestamp::UNIX_EPOCH);
            Due::parse(&Item { key: due.key("cc"), document, revision: 1, bytes: None })
        };
        let hint = |new| Some(Hint { reference: "refs/heads/main".into(), new });
        let id = ObjectId::from_hex(b"0123456789012345678901234567890123456789").unwrap();
        for hint in [None, hint(None), hint(Some(id))] {
            let due = Due::News { name: "team/app".into(), mark: Uuid::from_u128(5), hint };
            assert_eq!(read(&due), Some(due));
        }
        let due = Due::Change { id: RepositoryId(Uuid::from_u128(5)), seq: 3 };
        assert_eq!(read(&due), Some(due));
    }
}
