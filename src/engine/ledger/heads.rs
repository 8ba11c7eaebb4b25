//! Reading heads, one or many.

use super::head::{Head, HeadItem, RepositoryId};
use super::{LedgerError, keys};
use gitferry_store::table::{Key, MAX_GET_KEYS, Table, TableError};

/// Reads the head of a repository.
pub async fn read_head(table: &dyn Table, id: RepositoryId) -> Result<Option<HeadItem>, LedgerError> {
    let item = table.get(&keys::head(id)).await?;
    item.map(|item| head_of(id, &item.document, item.revision)).transpose()
}

/// Outcome for one of many heads: `None` if there is no such repository, an error if this head is unreadable.
pub type HeadRead = Result<Option<HeadItem>, LedgerError>;

/// Reads many heads, in the order of `ids`. A damaged head fails alone.
pub async fn read_heads(table: &dyn Table, ids: &[RepositoryId]) -> Result<Vec<HeadRead>, TableError> {
    let mut heads = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_GET_KEYS) {
        let wanted: Vec<Key> = ids.iter().map(|id| keys::head(*id)).collect();
        match table.get_many(&wanted).await {
            Ok(items) => heads.extend(
                ids.iter()
                    .zip(items)
                    .map(|(id, item)| item.map(|item| head_of(*id, &item.document, item.revision)).transpose()),
            ),
            // A row that cannot be parsed fails its whole batch; read one by one, it fails alone.
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

/// Parses the document of a head.
pub fn parse_head(id: RepositoryId, document: &serde_json::Value) -> Result<Head, LedgerError> {
    use serde::Deserialize as _;
    let bad = |reason: String| {
        let name = document.get("name").and_then(serde_json::Value::as_str).map(str::to_owned);
        LedgerError::BadHead { id, name, reason }
    };
    let head = Head::deserialize(document).map_err(|error| bad(error.to_string()))?;
    // Each has a successor, so that the next step does not overflow.
    if [head.frontier.seq, head.epoch.number, head.manifest].contains(&u64::MAX) {
        return Err(bad("its change, epoch or generation is the highest number there is".into()));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::commit::blank_head;
    use serde_json::Value;

    #[test]
    fn a_head_without_a_successor_is_damage() {
        let id = RepositoryId(uuid::Uuid::from_u128(1));
        let format = gix::hash::Kind::Sha1;
        let head = blank_head(
            "app".into(),
            format,
            crate::ledger::head::Role::Primary,
            "us".into(),
            jiff::Timestamp::UNIX_EPOCH,
        );
        let document = serde_json::to_value(&head).unwrap();
        assert_eq!(parse_head(id, &document).unwrap(), head);
        for path in ["/frontier/seq", "/epoch/number", "/manifest"] {
            let with = |number: u64| {
                let mut document = document.clone();
                *document.pointer_mut(path).unwrap() = Value::from(number);
                document
            };
            assert!(parse_head(id, &with(u64::MAX - 1)).is_ok(), "{path}");
            let error = parse_head(id, &with(u64::MAX)).unwrap_err();
            assert!(
                matches!(&error, LedgerError::BadHead { name: Some(name), .. } if name == "app"),
                "{path}: {error}"
            );
        }
    }
}
