//! Due marks: rows of the target's table that say which repositories an event has announced and nobody has
//! delivered yet. Once the mark is durable the event's message is deleted, however long the delivery takes.
//!
//! A mark names the change that the target has to reach, so it is never written over: a delivery that began
//! after it was read clears it, and a later event has a mark of its own.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ledger::head::RepositoryId;
use crate::ledger::keys;
use crate::region::Region;
use crate::replication::ReplicationError;
use crate::replication::deliver::{Delivered, Link};
use crate::table::{Condition, MAX_TRANSACTION_ITEMS, Query, TableError, Write};

/// Most marks that are read at a time; the rest follow when these are done.
pub const MAX_DUE: usize = 10_000;

/// One mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Due {
    /// Which repository.
    pub id: RepositoryId,
    /// The change that the target has to reach.
    pub seq: u64,
}

/// The marks of one link.
#[derive(Clone, Debug)]
pub struct DueMarks {
    target: Region,
    link: String,
}

impl DueMarks {
    /// Those of a link, in its target.
    pub fn new(target: &Region, link: &str) -> Self {
        DueMarks { target: target.clone(), link: link.into() }
    }

    /// Marks a repository, durably. Doing it again changes nothing.
    pub async fn mark(&self, due: &Due) -> Result<(), TableError> {
        let since = self.target.clock.now().as_millisecond();
        let key = keys::due(&self.link, due.id, due.seq);
        self.target.table.transact(vec![Write::put(key, Condition::Any, json!({ "since": since }))]).await
    }

    /// Takes marks away that a delivery has answered.
    pub async fn clear(&self, marks: &[Due]) -> Result<(), TableError> {
        for marks in marks.chunks(MAX_TRANSACTION_ITEMS) {
            self.target.table.transact(self.clearing(marks)).await?;
        }
        Ok(())
    }

    /// The writes that take marks away.
    fn clearing(&self, marks: &[Due]) -> Vec<Write> {
        // No transaction names a key twice.
        let marks: BTreeSet<(RepositoryId, u64)> = marks.iter().map(|due| (due.id, due.seq)).collect();
        let delete = |(id, seq)| Write::delete(keys::due(&self.link, id, seq), Condition::Any);
        marks.into_iter().map(delete).collect()
    }

    /// The marks that were made before a moment, at most [`MAX_DUE`] of them.
    pub async fn read(&self, before: Timestamp) -> Result<Vec<Due>, TableError> {
        let mut query = Query::prefix(keys::due_partition(&self.link), "");
        let mut found = Vec::new();
        loop {
            let page = self.target.table.query(&query).await?;
            for item in page.items {
                let Some((id, seq)) = keys::parse_due(&item.key.sk) else {
                    tracing::warn!(key = %item.key, "this due mark names no repository");
                    continue;
                };
                let since = item.document.get("since").and_then(Value::as_i64).unwrap_or(0);
                if since <= before.as_millisecond() && found.len() < MAX_DUE {
                    found.push(Due { id, seq });
                }
            }
            match page.next {
                Some(next) if found.len() < MAX_DUE => query.after = Some(next),
                _ => return Ok(found),
            }
        }
    }
}

/// Delivers a repository and takes away the marks that asked for it, with the commit where there is one. A mark
/// that stays comes to one more look.
pub async fn deliver_due(link: &Link, id: RepositoryId, marks: &[Due]) -> Result<Option<Delivered>, ReplicationError> {
    let due = DueMarks::new(&link.target, &link.name);
    let delivered = link.deliver_with(id, &due.clearing(marks)).await?;
    let cleared = delivered.as_ref().is_some_and(|delivered| delivered.along);
    if !cleared && let Err(error) = due.clear(marks).await {
        tracing::info!(%error, "a due mark stays; it comes to one more look");
    }
    Ok(delivered)
}
