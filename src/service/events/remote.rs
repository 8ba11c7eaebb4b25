//! Events on links with a remote at one end: what they ask for, and what answers them.
//!
//! What the last passes have left (checkpoints, and the changes of a region that were carried) says of most repeated
//! events that there is nothing to do, without a request to either server.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::codecommit::{Rejection, StateChange, Subject};
use super::due::{Asked, Brought, Due, DueMarks};
use super::intake::{IntakeError, Taken};
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::{read_head, read_heads};
use gitferry_engine::ledger::head::{Frontier, Head, HeadItem, RepositoryId, State};
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::pass::Report;
use gitferry_replication::remotes::RemoteLink;
use gitferry_replication::remotes::checkpoint::Hint;
use gitferry_replication::remotes::report::Carried;
use gitferry_replication::remotes::rows::GONE_AFTER;
use gitferry_replication::{ReplicationError, Which};
use gitferry_store::table::{Condition, MAX_GET_KEYS, TableError, Write};

/// What an event asks for. Nothing is written.
pub(super) async fn look_up(link: &RemoteLink, change: &StateChange) -> Result<Taken, IntakeError> {
    match link.source.region() {
        Some(source) => change_of(link, source, change).await,
        None => Ok(news_of(link, change).await?),
    }
}

/// The source is a remote: names are all that it has.
async fn news_of(link: &RemoteLink, change: &StateChange) -> Result<Taken, ReplicationError> {
    let name: Arc<str> = change.repository.as_str().into();
    if !link.carries(&name) {
        return Ok(Taken::NotCarried);
    }
    let hint = change.hint();
    // What is under way may have begun before this happened, and bring back what was there in between.
    if let Some(hint) = &hint
        && link.knows(&name, [hint]).await.map_err(|error| link.table_failed(error))?
        && DueMarks::of_remote(link).of_name(&name).await.map_err(|error| link.table_failed(error))?.is_empty()
    {
        return Ok(Taken::Current);
    }
    Ok(Taken::Due(Due::News { name, mark: link.clock.new_id(), hint }))
}

/// The source is a region: what counts is its newest change.
async fn change_of(link: &RemoteLink, source: &Region, change: &StateChange) -> Result<Taken, IntakeError> {
    let (item, announced) = match &change.subject {
        Subject::Gitferry { id, frontier } => {
            (read_head(&*source.table, *id).await.in_region(source)?, frontier.as_ref())
        }
        Subject::CodeCommit => (source.find(&change.repository).await.in_region(source)?, None),
    };
    let Some(item) = item else {
        let (region, link_name) = (source.name.clone(), link.name.clone());
        let unknown = Rejection::UnknownRepository { repository: change.repository.clone(), region, link: link_name };
        return if link.carries(&change.repository) { Err(unknown.into()) } else { Ok(Taken::NotCarried) };
    };
    if !is_carried(link, &item.head) {
        return Ok(Taken::NotCarried);
    }
    let frontier = announced.unwrap_or(&item.head.frontier);
    match reached(link, &[item.id]).await?[0] >= Some(number_of(frontier)) {
        true => Ok(Taken::Current),
        false => Ok(Taken::Due(Due::Change { id: item.id, seq: frontier.seq })),
    }
}

fn is_carried(link: &RemoteLink, head: &Head) -> bool {
    head.named && head.state != State::Deleted && link.carries(&head.name)
}

fn number_of(frontier: &Frontier) -> (u64, u64) {
    (frontier.epoch, frontier.seq)
}

/// How far the link has carried some repositories of a region.
async fn reached(link: &RemoteLink, ids: &[RepositoryId]) -> Result<Vec<Option<(u64, u64)>>, ReplicationError> {
    let Some(table) = &link.table else { return Ok(vec![None; ids.len()]) };
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_GET_KEYS) {
        let wanted: Vec<_> = ids.iter().map(|id| keys::reached(&link.name, *id)).collect();
        match table.get_many(&wanted).await {
            Ok(rows) => found.extend(rows.into_iter().map(|row| row.and_then(|row| numbers_in(&row.document)))),
            // One row that cannot be read: its repository counts as not carried, and the others as what they are.
            Err(TableError::Corrupt { .. } | TableError::Newer { .. }) => {
                for key in &wanted {
                    found.push(match table.get(key).await {
                        Ok(row) => row.and_then(|row| numbers_in(&row.document)),
                        Err(error @ (TableError::Corrupt { .. } | TableError::Newer { .. })) => {
                            tracing::error!(%error, link = link.name, "a row is passed over");
                            None
                        }
                        Err(error) => return Err(link.table_failed(error)),
                    });
                }
            }
            Err(error) => return Err(link.table_failed(error)),
        }
    }
    Ok(found)
}

fn numbers_in(document: &Value) -> Option<(u64, u64)> {
    Some((document.get("epoch")?.as_u64()?, document.get("seq")?.as_u64()?))
}

/// Best effort: without the row there is more to look at.
async fn note_reached(link: &RemoteLink, item: &HeadItem) {
    let Some(table) = &link.table else { return };
    let (epoch, seq) = number_of(&item.head.frontier);
    let write = Write::put(keys::reached(&link.name, item.id), Condition::Any, json!({ "epoch": epoch, "seq": seq }));
    if let Err(error) = table.transact(vec![write]).await {
        tracing::debug!(%error, id = %item.id, "could not note how far a repository was carried");
    }
}

/// Those repositories of a region that the link carries and whose newest change it has not carried yet.
pub(crate) async fn not_reached(
    link: &RemoteLink,
    source: &Region,
    ids: &[RepositoryId],
) -> Result<Vec<RepositoryId>, ReplicationError> {
    let CarriedHeads { items, broken } = carried_of(link, source, ids).await?;
    let ids: Vec<RepositoryId> = items.iter().map(|item| item.id).collect();
    let reached = reached(link, &ids).await?;
    let behind = items.iter().zip(reached).filter(|(item, reached)| *reached < Some(number_of(&item.head.frontier)));
    Ok(behind.map(|(item, _)| item.id).chain(broken).collect())
}

/// Repositories of a region that a link carries.
#[derive(Debug, Default)]
struct CarriedHeads {
    items: Vec<HeadItem>,
    /// Those whose head cannot be read: a delivery says why.
    broken: Vec<RepositoryId>,
}

/// Those repositories of a region that the link carries.
async fn carried_of(
    link: &RemoteLink,
    source: &Region,
    ids: &[RepositoryId],
) -> Result<CarriedHeads, ReplicationError> {
    let mut carried = CarriedHeads::default();
    for (id, read) in ids.iter().zip(read_heads(&*source.table, ids).await.in_region(source)?) {
        match read {
            Ok(item) => carried.items.extend(item.filter(|item| is_carried(link, &item.head))),
            Err(LedgerError::BadHead { name: Some(name), .. }) if !link.carries(&name) => {}
            Err(_) => carried.broken.push(*id),
        }
    }
    Ok(carried)
}

/// All repositories on the link, as far as they can be listed: those of a region, those of a remote that are known.
pub(crate) async fn all_of(link: &RemoteLink) -> Result<Vec<Which>, ReplicationError> {
    let Some(source) = link.source.region() else {
        let names: BTreeSet<String> = link.known_names().await?.into_iter().filter(|name| link.carries(name)).collect();
        return Ok(names.into_iter().map(|name| Which::Name(name.as_str().into())).collect());
    };
    let ids = source.list().await.in_region(source)?;
    let CarriedHeads { items, broken } = carried_of(link, source, &ids).await?;
    Ok(items.into_iter().map(|item| item.id).chain(broken).map(Which::Id).collect())
}

/// Delivers a repository; the marks that are answered by that.
pub(super) async fn deliver(link: &RemoteLink, asked: &Asked) -> Result<(Option<Brought>, Vec<Due>), ReplicationError> {
    match &asked.which {
        Which::Name(name) => deliver_named(link, name, asked).await,
        Which::Id(id) => deliver_id(link, *id, asked).await,
    }
}

async fn deliver_named(
    link: &RemoteLink,
    name: &str,
    asked: &Asked,
) -> Result<(Option<Brought>, Vec<Due>), ReplicationError> {
    // All that there are now: those of other workers and of invocations before are answered, too.
    let due = DueMarks::of_remote(link).of_name(name).await.map_err(|error| link.table_failed(error))?;
    let only_marks = !asked.look && !asked.marks.is_empty() && link.table.is_some();
    if only_marks && is_known(link, name, &due).await.map_err(|error| link.table_failed(error))? {
        return Ok((None, due));
    }
    let report = link.deliver_once(name).await;
    if report.gone && give_up(link, name, due.len()).await.map_err(|error| link.table_failed(error))? {
        return Ok((None, Vec::new()));
    }
    Ok((brought(link, name, report).await?, due))
}

/// Takes away the marks of a repository that is gone at the source: what they tell of never comes. Young ones stay, as
/// it may come back. `true`: nobody looks for it any more.
async fn give_up(link: &RemoteLink, name: &str, due: usize) -> Result<bool, TableError> {
    let (marks, now) = (DueMarks::of_remote(link), link.clock.now());
    let old = marks.of_name_until(name, now.checked_sub(GONE_AFTER).unwrap_or(now)).await?;
    if !old.is_empty() {
        marks.clear(&old).await?;
        tracing::warn!(
            link = link.name,
            repository = name,
            events = old.len(),
            "given up: the source says that there is no such repository, or that these credentials may not see it, and \
             events that told of it are older than {GONE_AFTER:#}; its copy stays. If it should be there, mend that and \
             run `gitferry replicate {} {name}`",
            link.name
        );
    }
    Ok(old.len() >= due && !link.names_in_full(name))
}

/// Whether the target has all that marks tell of. Where none are left, somebody else has answered them.
async fn is_known(link: &RemoteLink, name: &str, due: &[Due]) -> Result<bool, TableError> {
    let hints: Option<Vec<&Hint>> = due
        .iter()
        .map(|due| match due {
            Due::News { hint, .. } => hint.as_ref(),
            Due::Change { .. } => None,
        })
        .collect();
    match hints {
        None => Ok(false),
        Some(hints) if hints.is_empty() => Ok(true),
        Some(hints) => link.knows(name, hints).await,
    }
}

async fn deliver_id(
    link: &RemoteLink,
    id: RepositoryId,
    asked: &Asked,
) -> Result<(Option<Brought>, Vec<Due>), ReplicationError> {
    let Some(source) = link.source.region() else { return Ok((None, asked.marks.clone())) };
    let item = read_head(&*source.table, id).await.in_region(source)?;
    let Some(item) = item.filter(|item| is_carried(link, &item.head)) else { return Ok((None, asked.marks.clone())) };
    if !asked.look && reached(link, &[id]).await?[0] >= Some(number_of(&item.head.frontier)) {
        return Ok((None, asked.marks.clone()));
    }
    let report = link.deliver_once(&item.head.name).await;
    let brought = brought(link, &item.head.name, report).await?;
    // A sweep that found nothing has nothing to note.
    if brought.is_some() || !asked.look {
        note_reached(link, &item).await;
    }
    Ok((brought, asked.marks.clone()))
}

async fn brought(link: &RemoteLink, name: &str, report: Report) -> Result<Option<Brought>, ReplicationError> {
    if let Some(error) = report.error {
        return Err(error);
    }
    let Some(carried) = report.carried.filter(Carried::has_changed) else { return Ok(None) };
    let reached = match link.target.region() {
        // Whoever is to announce it finds it in the outbox as well.
        Some(region) => region.find(name).await.ok().flatten().map(|item| (item.id, item.head.frontier.seq)),
        None => None,
    };
    Ok(Some(Brought { changes: carried.edits(), lag_ms: None, reached }))
}
