//! The one function that writes heads. Every push, apply, rename, freeze and snapshot ends here.

use serde_json::json;

use super::head::{Frontier, Head, HeadItem, RepositoryId};
use super::{LedgerError, keys, log};
use gitferry_store::table::{Condition, Key, Table, TableError, Write};

/// A step from one head to the next.
#[derive(Debug)]
pub struct Advance {
    /// Which repository.
    pub id: RepositoryId,
    /// The head that the step was decided on; `None` for a new repository.
    pub before: Option<HeadItem>,
    /// The head to be.
    pub after: Head,
    /// The manifest to be, when it changes: its document, whose generation is that of `after`, and the revision that it
    /// replaces (0 for none).
    pub manifest: Option<(serde_json::Value, u64)>,
    /// What belongs to the same step: change rows, statistics.
    pub with: Vec<Write>,
}

/// A step that is visible.
#[derive(Debug)]
pub struct Advanced {
    /// The head, which may have gone further since.
    pub item: HeadItem,
    /// This very transaction did it, with all that belonged to it. Otherwise the change is on the chain, and it may
    /// have been somebody else who brought it there.
    pub ours: bool,
}

/// Makes a step visible, all at once, if nobody else has moved the head since it was read.
///
/// # Errors
/// [`LedgerError::Lost`] when somebody has: read the state again and decide again.
/// [`LedgerError::ManifestMoved`] when the head is still the same and only the manifest or the claims are not:
/// consolidation or a sweep came first.
/// [`LedgerError::NameTaken`] when the name belongs to another repository.
/// [`LedgerError::MayHaveHappened`] when the answer was lost and no read settles it. After every other error the step
/// is not visible and cannot become so.
pub async fn advance_head(table: &dyn Table, step: Advance) -> Result<HeadItem, LedgerError> {
    advance_and_tell(table, step).await.map(|advanced| advanced.item)
}

/// [`advance_head`], which also tells who did it.
pub async fn advance_and_tell(table: &dyn Table, step: Advance) -> Result<Advanced, LedgerError> {
    let Advance { id, before, after, manifest, mut with } = step;
    check_step(before.as_ref(), &after, manifest.as_ref().map(|(document, _)| document))?;
    let (revision, condition) = match &before {
        Some(item) => (item.revision + 1, Condition::Revision(item.revision)),
        None => (1, Condition::Absent),
    };
    let document = serde_json::to_value(&after).map_err(|error| LedgerError::corrupt(error.to_string()))?;
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

/// Refuses what no step may do: going back, and a head that names another manifest than the one it comes with.
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
    Err(LedgerError::Internal(format!("a step from {from} to {} is not one", after.frontier)))
}

/// The rows of names that are let go and taken. A name's row changes only together with its holder's
/// head, so a head that says `named` holds its row for as long as its own revision stands.
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

/// A failed or timed-out write may have happened all the same: looks for it before saying that it lost. Every failure
/// that leaves the outcome open, the look's own included, is [`LedgerError::MayHaveHappened`].
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
        // The table says that it changed nothing.
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
            let (name, packs) = (keys::name(&after.name), [keys::manifest(id), keys::claims(id)]);
            let failed: Vec<&Key> = writes.iter().zip(&failed).filter(|(_, f)| **f).map(|(key, _)| key).collect();
            match failed.as_slice() {
                [key] if **key == name => Err(LedgerError::NameTaken { name: after.name.clone() }),
                [_, ..] if failed.iter().all(|key| packs.contains(key)) => Err(LedgerError::ManifestMoved { id }),
                _ => Err(LedgerError::Lost { id }),
            }
        }
        // A step along the chain that is not on it lost when the head went elsewhere: its condition cannot hold again.
        // As long as the head has not moved, the write may be under way still; and a step that leaves the frontier
        // as it is leaves no trace on the chain.
        _ if lost_answer && is_along_the_chain(before, after) && has_moved(before, now.as_ref()) => {
            Err(LedgerError::Lost { id })
        }
        error => Err(in_doubt(error.into())),
    }
}

/// Whether a head that was read says that a step has been made.
async fn is_reached(
    table: &dyn Table,
    before: Option<&HeadItem>,
    after: &Head,
    now: &HeadItem,
) -> Result<bool, LedgerError> {
    if is_along_the_chain(before, after) {
        return contains(table, now.id, now.head.frontier, after.frontier).await;
    }
    Ok(before.is_some_and(|before| now.revision == before.revision + 1) && now.head == *after)
}

fn is_along_the_chain(before: Option<&HeadItem>, after: &Head) -> bool {
    before.is_none_or(|item| item.head.frontier != after.frontier)
}

fn has_moved(before: Option<&HeadItem>, now: Option<&HeadItem>) -> bool {
    before.map(|item| item.revision) != now.map(|item| item.revision)
}

/// Whether the chain that ends at `tip` runs through `frontier`.
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

/// Reads a repository's head.
pub async fn read_head(table: &dyn Table, id: RepositoryId) -> Result<Option<HeadItem>, LedgerError> {
    let item = table.get(&keys::head(id)).await?;
    item.map(|item| head_of(id, &item.document, item.revision)).transpose()
}

/// One of many heads: `None` where there is no such repository, an error where this one cannot be read.
pub type HeadRead = Result<Option<HeadItem>, LedgerError>;

/// Reads many heads at once, in the order of their ids. A head that is damaged fails alone.
pub async fn read_heads(table: &dyn Table, ids: &[RepositoryId]) -> Result<Vec<HeadRead>, TableError> {
    let mut heads = Vec::with_capacity(ids.len());
    for ids in ids.chunks(gitferry_store::table::MAX_GET_KEYS) {
        let wanted: Vec<Key> = ids.iter().map(|id| keys::head(*id)).collect();
        match table.get_many(&wanted).await {
            Ok(items) => heads.extend(
                ids.iter()
                    .zip(items)
                    .map(|(id, item)| item.map(|item| head_of(*id, &item.document, item.revision)).transpose()),
            ),
            // A row that is no row at all fails the whole batch: one by one, it fails alone.
            Err(TableError::Corrupt { .. } | TableError::Newer { .. }) => {
                for id in ids {
                    heads.push(match read_head(table, *id).await {
                        Err(LedgerError::Table(TableError::Corrupt { reason, .. })) => {
                            Err(LedgerError::BadHead { id: *id, name: None, reason })
                        }
                        Err(error @ LedgerError::Table(TableError::Newer { .. })) => Err(error),
                        Err(LedgerError::Table(error)) => return Err(error),
                        read => read,
                    });
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(heads)
}

fn head_of(id: RepositoryId, document: &serde_json::Value, revision: u64) -> Result<HeadItem, LedgerError> {
    Ok(HeadItem { id, head: parse_head(id, document)?, revision })
}

/// Reads the document of a head.
pub fn parse_head(id: RepositoryId, document: &serde_json::Value) -> Result<Head, LedgerError> {
    use serde::Deserialize as _;
    Head::deserialize(document).map_err(|error| {
        let name = document.get("name").and_then(serde_json::Value::as_str).map(str::to_owned);
        LedgerError::BadHead { id, name, reason: error.to_string() }
    })
}
