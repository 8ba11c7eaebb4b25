//! Rows that say how far a link has carried the repositories of a region, so that a repeated event costs no request to
//! the Git server at the other end.

use serde_json::{Value, json};

use gitferry_engine::ledger::head::{Frontier, HeadItem, RepositoryId};
use gitferry_engine::ledger::keys;
use gitferry_replication::ReplicationError;
use gitferry_replication::mirror::RemoteLink;
use gitferry_store::table::{Condition, MAX_GET_KEYS, TableError, Write};

/// Epoch and sequence number of a change, in the order of the ledger.
pub(super) type Position = (u64, u64);

pub(super) fn position_of(frontier: &Frontier) -> Position {
    (frontier.epoch, frontier.seq)
}

/// Reads the last positions that the link has carried; `None` for a repository that it has never carried.
pub(super) async fn read(link: &RemoteLink, ids: &[RepositoryId]) -> Result<Vec<Option<Position>>, ReplicationError> {
    let Some(table) = link.table() else { return Ok(vec![None; ids.len()]) };
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_GET_KEYS) {
        let wanted: Vec<_> = ids.iter().map(|id| keys::reached(link.name(), *id)).collect();
        match table.get_many(&wanted).await {
            Ok(rows) => found.extend(rows.into_iter().map(|row| row.and_then(|row| position_in(&row.document)))),
            // A row that cannot be read: its repository counts as not carried, the others as their rows say.
            Err(TableError::Corrupt { .. } | TableError::Newer { .. }) => {
                for key in &wanted {
                    found.push(match table.get(key).await {
                        Ok(row) => row.and_then(|row| position_in(&row.document)),
                        Err(error @ (TableError::Corrupt { .. } | TableError::Newer { .. })) => {
                            tracing::error!(%error, link = link.name(), "a row is passed over");
                            None
                        }
                        Err(error) => return Err(link.table_failed(error)),
                    });
                }
            }
            Err(error) => return Err(link.table_failed(error)),
        }
    }
    assert_eq!(found.len(), ids.len(), "a batched read answers every key");
    Ok(found)
}

/// Reads the last position of one repository.
pub(super) async fn read_one(link: &RemoteLink, id: RepositoryId) -> Result<Option<Position>, ReplicationError> {
    Ok(read(link, &[id]).await?[0])
}

fn position_in(document: &Value) -> Option<Position> {
    Some((document.get("epoch")?.as_u64()?, document.get("seq")?.as_u64()?))
}

/// Writes the position of a delivered repository, as well as the table allows: without the row the next delivery
/// compares both ends.
pub(super) async fn note(link: &RemoteLink, item: &HeadItem) {
    let Some(table) = link.table() else { return };
    let (epoch, seq) = position_of(&item.head.frontier);
    let write = Write::put(keys::reached(link.name(), item.id), Condition::Any, json!({ "epoch": epoch, "seq": seq }));
    if let Err(error) = table.transact(vec![write]).await {
        tracing::debug!(%error, id = %item.id, "could not note how far a repository was carried");
    }
}
