//! The only writer of heads. Every push, apply, rename, freeze and snapshot ends here.

use serde_json::json;

use super::head::{Frontier, Head, HeadItem, RepositoryId};
use super::heads::{parse_head, read_head};
use super::{LedgerError, keys, log};
use gitferry_store::table::{Condition, Key, Table, TableError, Write, next_revision};

/// A step from one head to the next.
#[derive(Debug)]
pub struct Advance {
    /// Id of the repository.
    pub id: RepositoryId,
    /// Head on which the step was decided; `None` for a new repository.
    pub before: Option<HeadItem>,
    /// Head after the step.
    pub after: Head,
    /// New manifest, if it changes: a document with the generation of `after`, and the row revision that it replaces (0
    /// for none).
    pub manifest: Option<(serde_json::Value, u64)>,
    /// Other writes of the same transaction: change rows, checkpoints, statistics.
    pub with: Vec<Write>,
}

/// A step that is visible.
#[derive(Debug)]
pub struct Advanced {
    /// Head after the step; the head may have moved further since.
    pub item: HeadItem,
    /// True if this very transaction made the step, with all its writes. Otherwise the change is on the chain, but
    /// another writer may have brought it.
    pub ours: bool,
}

/// Makes a step visible atomically, if the head has not moved since it was read.
///
/// # Errors
/// [`LedgerError::Lost`] if the head has moved: read the state again and decide again.
/// [`LedgerError::ManifestMoved`] if only the manifest or the claims have changed: consolidation or a sweep came first.
/// [`LedgerError::NameTaken`] if another repository holds the name.
/// [`LedgerError::MayHaveHappened`] if the answer was lost and no read settles the outcome. After every other error the
/// step is not visible and cannot become visible.
pub async fn advance_head(table: &dyn Table, step: Advance) -> Result<HeadItem, LedgerError> {
    advance_and_report(table, step).await.map(|advanced| advanced.item)
}

/// Makes a step visible like [`advance_head`], and reports whether this transaction made it.
pub async fn advance_and_report(table: &dyn Table, step: Advance) -> Result<Advanced, LedgerError> {
    let Advance { id, before, after, manifest, mut with } = step;
    let own_rows = [keys::head(id), keys::manifest(id)];
    assert!(
        with.iter().all(|write| !own_rows.contains(&write.key)),
        "only this function writes the head of repository {id}, and the manifest along with it"
    );
    check_step(before.as_ref(), &after, manifest.as_ref().map(|(document, _)| document))?;
    let (revision, condition) = match &before {
        Some(item) => (next_revision(item.revision), Condition::Revision(item.revision)),
        None => (1, Condition::Absent),
    };
    let document = serde_json::to_value(&after).map_err(|error| LedgerError::corrupt(error.to_string()))?;
    assert!(
        parse_head(id, &document).is_ok_and(|read| read == after),
        "the head of repository {id} reads back as it is written: {document}"
    );
    with.push(Write::put(keys::head(id), condition, document));
    with.extend(name_writes(id, before.as_ref().map(|item| &item.head), &after));
    if before.is_none() {
        with.push(Write::put(keys::listing(id), Condition::Absent, json!({ "format": after.format.to_string() })));
    }
    if let Some((document, revision)) = manifest {
        let condition = if revision == 0 { Condition::Absent } else { Condition::Revision(revision) };
        with.push(Write::put(keys::manifest(id), condition, document));
    }
    if is_along_the_chain(before.as_ref(), &after) {
        with.push(Write::put(keys::outbox(id), Condition::Any, json!({ "seq": after.frontier.seq })));
    }
    match table.transact(with).await {
        Ok(()) => Ok(Advanced { item: HeadItem { id, head: after, revision }, ours: true }),
        Err(error) => {
            let item = settle(table, id, before.as_ref(), &after, error).await?;
            Ok(Advanced { item, ours: false })
        }
    }
}

/// Refuses steps that violate an invariant: a head never goes back, and names the generation of the manifest that is
/// written with it.
fn check_step(
    before: Option<&HeadItem>,
    after: &Head,
    manifest: Option<&serde_json::Value>,
) -> Result<(), LedgerError> {
    let old = before.map(|item| &item.head);
    let from = old.map_or(Frontier::ORIGIN, |head| head.frontier);
    let generation = old.map_or(0, |head| head.manifest);
    let forward = after.frontier.seq > from.seq || after.frontier == from;
    let generations = match manifest.map(|document| document.get("generation").and_then(serde_json::Value::as_u64)) {
        Some(written) => after.manifest > generation && written == Some(after.manifest),
        None => after.manifest == generation,
    };
    if forward && generations && after.floor >= old.map_or(0, |head| head.floor) {
        return Ok(());
    }
    let to = after.frontier;
    Err(LedgerError::Internal(format!("a step from {from} to {to} goes back, or does not match its manifest")))
}

/// Returns the writes of released and taken name rows. A name row changes only in one transaction with the head of its
/// holder, so a head with `named` holds its row for as long as the head's revision stands.
fn name_writes(id: RepositoryId, before: Option<&Head>, after: &Head) -> Vec<Write> {
    let held = before.filter(|head| head.named).map(|head| head.name.as_str());
    let wanted = after.named.then_some(after.name.as_str());
    if held == wanted {
        return Vec::new();
    }
    let release = held.map(|name| Write::delete(keys::name(name), Condition::Present));
    let take = wanted.map(|name| Write::put(keys::name(name), Condition::Absent, json!({ "id": id })));
    release.into_iter().chain(take).collect()
}

/// Settles the outcome of a failed or timed-out write by reading the head. Every failure that leaves the outcome open,
/// that of the read included, is [`LedgerError::MayHaveHappened`].
async fn settle(
    table: &dyn Table,
    id: RepositoryId,
    before: Option<&HeadItem>,
    after: &Head,
    error: TableError,
) -> Result<HeadItem, LedgerError> {
    let lost_answer = match &error {
        TableError::ConditionFailed { .. } => false,
        TableError::Unavailable { ambiguous: true, .. } => true,
        // The table guarantees that nothing was written.
        TableError::Unavailable { ambiguous: false, .. }
        | TableError::Invalid { .. }
        | TableError::Environment { .. }
        | TableError::Newer { .. }
        | TableError::Corrupt { .. } => return Err(error.into()),
    };
    let in_doubt = |source| LedgerError::MayHaveHappened { id, at: after.frontier, source: Box::new(source) };
    let now = read_head(table, id).await.map_err(in_doubt)?;
    if let Some(now) = &now
        && is_reached(table, before, after, now).await.map_err(in_doubt)?
    {
        return Ok(now.clone());
    }
    match error {
        TableError::ConditionFailed { keys: writes, failed, .. } => {
            let name = keys::name(&after.name);
            let packs = [keys::manifest(id), keys::claims(id)];
            let failed: Vec<&Key> = writes.iter().zip(&failed).filter(|(_, f)| **f).map(|(key, _)| key).collect();
            match failed.as_slice() {
                [key] if **key == name => Err(LedgerError::NameTaken { name: after.name.clone() }),
                [_, ..] if failed.iter().all(|key| packs.contains(key)) => Err(LedgerError::ManifestMoved { id }),
                _ => Err(LedgerError::Lost { id }),
            }
        }
        // A step along the chain has lost if the head has moved and the chain lacks the step: the step's condition
        // cannot hold again. While the head has not moved, the write may still be under way; and a step that keeps the
        // frontier leaves no trace on the chain.
        _ if lost_answer && is_along_the_chain(before, after) && has_moved(before, now.as_ref()) => {
            Err(LedgerError::Lost { id })
        }
        error => Err(in_doubt(error.into())),
    }
}

/// Returns true if a head that was just read proves that the step was made.
async fn is_reached(
    table: &dyn Table,
    before: Option<&HeadItem>,
    after: &Head,
    now: &HeadItem,
) -> Result<bool, LedgerError> {
    if is_along_the_chain(before, after) {
        return contains(table, now.id, now.head.frontier, after.frontier).await;
    }
    Ok(before.is_some_and(|before| now.revision == next_revision(before.revision)) && now.head == *after)
}

fn is_along_the_chain(before: Option<&HeadItem>, after: &Head) -> bool {
    before.is_none_or(|item| item.head.frontier != after.frontier)
}

fn has_moved(before: Option<&HeadItem>, now: Option<&HeadItem>) -> bool {
    before.map(|item| item.revision) != now.map(|item| item.revision)
}

/// Returns true if the chain that ends at `tip` runs through `frontier`.
async fn contains(table: &dyn Table, id: RepositoryId, tip: Frontier, frontier: Frontier) -> Result<bool, LedgerError> {
    if tip.seq < frontier.seq {
        return Ok(false);
    }
    match log::read_chain(table, id, frontier, tip).await {
        Ok(_) => Ok(true),
        Err(LedgerError::Fork { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
