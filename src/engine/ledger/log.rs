//! The log: the changes of a repository as table rows, read back as one proven chain.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Cursor};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::change::{ChangeBody, ChangeError, ChangeHeader, ChangeReader, RefEdit, SealedChange};
use super::hash::ChangeHash;
use super::head::{Frontier, HeadItem, RepositoryId};
use super::heads::parse_head;
use super::{LedgerError, keys};
use gitferry_store::objects::reader::ObjectReader;
use gitferry_store::objects::{Crc64, ObjectStore};
use gitferry_store::table::{Condition, Item, Query, Table, Write};

/// Bytes of inline changes that a chain keeps in memory; the rest is read again when needed.
const MAX_CHAIN_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// Document of a change row: facts that are known without reading the change's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFacts {
    /// Sequence number of the change.
    pub seq: u64,
    /// Hash of the previous change.
    pub prev: ChangeHash,
    /// Epoch of the change.
    pub epoch: u64,
    /// Time of the commit.
    pub time: Timestamp,
    /// Size of the change in bytes.
    pub size: u64,
    /// Number of ref edits.
    pub edits: u64,
    /// Number of packs that came with the change.
    pub packs: u64,
    /// Size of these packs and their indexes in bytes.
    pub pack_bytes: u64,
    /// Size of the LFS objects that the change names in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lfs_bytes: u64,
    /// Object with the change's bytes, if they are too large for the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<LargeBody>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Bytes of a change in the object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeBody {
    /// Object key of the bytes.
    pub key: String,
    /// CRC-64/NVME of the bytes.
    #[serde(with = "gitferry_base::text")]
    pub crc64: Crc64,
}

/// One change of a chain.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// Hash of the change, from the key of its row.
    pub hash: ChangeHash,
    /// Document of the row.
    pub facts: ChangeFacts,
    /// Bytes of the change, if they are inline and were kept.
    pub inline: Option<Bytes>,
}

impl ChangeRow {
    /// Returns the state after this change.
    pub fn frontier(&self) -> Frontier {
        Frontier { epoch: self.facts.epoch, seq: self.facts.seq, hash: self.hash }
    }

    fn from_item(item: Item) -> Result<Self, LedgerError> {
        let corrupt = |what: String| LedgerError::corrupt(format!("the row {} {what}", item.key));
        let Some((_, hash)) = item.key.sk.rsplit_once('-') else { return Err(corrupt("has no hash".into())) };
        let hash = hash.parse().map_err(|_| corrupt("has no valid hash".into()))?;
        let facts: ChangeFacts =
            ChangeFacts::deserialize(&item.document).map_err(|error| corrupt(format!("is not a change: {error}")))?;
        if facts.object.is_none() && item.bytes.is_none() {
            return Err(corrupt("has lost its bytes".into()));
        }
        Ok(ChangeRow { hash, facts, inline: item.bytes })
    }
}

/// Returns the row of a sealed change; `object` names the stored bytes of a large one.
pub fn row_of(id: RepositoryId, sealed: &SealedChange, object: Option<LargeBody>) -> Write {
    let header = &sealed.header;
    let facts = ChangeFacts {
        seq: header.seq,
        prev: header.prev,
        epoch: header.epoch,
        time: header.time,
        size: sealed.size,
        edits: header.edits,
        packs: header.packs.len() as u64,
        pack_bytes: header.pack_bytes(),
        lfs_bytes: header.lfs_bytes(),
        object,
    };
    let inline = match &sealed.body {
        ChangeBody::Inline(bytes) => Some(bytes.clone()),
        ChangeBody::Spooled(_) => None,
    };
    row_write(id, sealed.hash, &facts, inline)
}

/// Reads the bytes of an inline change that a chain did not keep.
///
/// # Errors
/// [`LedgerError::Corrupt`] if the row has lost its bytes since the chain was read, or has others.
pub async fn read_inline(table: &dyn Table, id: RepositoryId, row: &ChangeRow) -> Result<Bytes, LedgerError> {
    let key = keys::change(id, row.facts.seq, row.hash);
    let bytes = table.get(&key).await?.and_then(|item| item.bytes);
    let bytes = bytes.ok_or_else(|| LedgerError::corrupt(format!("the row {key} has lost its bytes")))?;
    if ChangeHash::of(&bytes) != row.hash {
        return Err(LedgerError::corrupt(format!("the row {key} has other bytes than before")));
    }
    Ok(bytes)
}

/// Returns the row of a change with the same bytes and key as in another region.
pub fn row_write(id: RepositoryId, hash: ChangeHash, facts: &ChangeFacts, inline: Option<Bytes>) -> Write {
    let document = serde_json::to_value(facts)
        .unwrap_or_else(|error| unreachable!("numbers, times and hashes are JSON values: {error}"));
    assert!(
        facts.object.is_some() || inline.as_ref().is_some_and(|bytes| bytes.len() as u64 == facts.size),
        "the row of change {} holds all bytes, or names the object that does",
        facts.seq
    );
    let key = keys::change(id, facts.seq, hash);
    match inline {
        Some(bytes) if facts.object.is_none() => Write::put_bytes(key, Condition::Any, document, bytes),
        _ => Write::put(key, Condition::Any, document),
    }
}

/// Reads the changes after `from` up to `to` and proves that they are one chain that ends at `to`.
///
/// # Errors
/// [`LedgerError::Fork`] if the chain that ends at `to` does not start at `from`.
pub async fn read_chain(
    table: &dyn Table,
    id: RepositoryId,
    from: Frontier,
    to: Frontier,
) -> Result<Vec<ChangeRow>, LedgerError> {
    if from.seq >= to.seq {
        return if from.hash == to.hash { Ok(Vec::new()) } else { Err(LedgerError::Fork { id, at: from }) };
    }
    let chain = read_chain_above(table, id, from.seq, to).await?;
    if chain.first().is_none_or(|row| row.facts.prev != from.hash) {
        return Err(LedgerError::Fork { id, at: from });
    }
    Ok(chain)
}

/// Query for the changes above `seq` up to `to`.
fn changes_between(id: RepositoryId, seq: u64, to: u64) -> Query {
    let last = format!("{}{}", keys::change_prefix(to), char::MAX);
    Query::range(keys::repository(id), keys::change_prefix(seq + 1), last)
}

/// Reads the changes above `seq` up to `to`, as one chain that ends at `to`.
pub async fn read_chain_above(
    table: &dyn Table,
    id: RepositoryId,
    seq: u64,
    to: Frontier,
) -> Result<Vec<ChangeRow>, LedgerError> {
    if seq >= to.seq {
        return Ok(Vec::new());
    }
    let mut query = changes_between(id, seq, to.seq);
    let mut rows: HashMap<ChangeHash, ChangeRow> = HashMap::new();
    let mut kept = 0;
    loop {
        let mut page = table.query(&query).await?;
        let next = page.next.take();
        for item in page.whole()? {
            let mut row = ChangeRow::from_item(item)?;
            kept += row.inline.as_ref().map_or(0, |bytes| bytes.len() as u64);
            if kept > MAX_CHAIN_BODY_BYTES {
                row.inline = None;
            }
            rows.insert(row.hash, row);
        }
        match next {
            None => break,
            next => query.after = next,
        }
    }
    follow(table, id, rows, seq, to, Timestamp::MIN).await
}

/// Reads a head and the newest change in one request: their rows are adjacent. The change is the one that the head
/// names, unless another writer moved the head meanwhile or left a row that is not on the chain.
pub async fn read_head_and_newest(
    table: &dyn Table,
    id: RepositoryId,
) -> Result<(Option<HeadItem>, Option<ChangeRow>), LedgerError> {
    let head = keys::head(id);
    let mut query = Query::range(head.pk, keys::CHANGE_PREFIX, head.sk.clone());
    (query.descending, query.limit) = (true, 2);
    let mut found = None;
    let mut newest = None;
    for row in table.query(&query).await?.rows {
        let item = match row {
            Ok(item) => item,
            Err(bad) if bad.key.sk == head.sk => return Err(bad.error.into()),
            Err(_) => continue,
        };
        if item.key.sk == head.sk {
            found = Some(HeadItem { id, head: parse_head(id, &item.document)?, revision: item.revision });
        } else if newest.is_none() && item.key.sk.starts_with(keys::CHANGE_PREFIX) {
            // A damaged row on the chain is read again with the chain, and is an error there.
            newest = ChangeRow::from_item(item).ok();
        }
    }
    Ok((found, newest))
}

/// Reads the changes from `to` back to `seq`, or to the first one that was committed before `oldest`; oldest first.
/// Costs as much as it returns, however long the log is.
pub async fn read_newest(
    table: &dyn Table,
    id: RepositoryId,
    seq: u64,
    to: Frontier,
    oldest: Timestamp,
) -> Result<Vec<ChangeRow>, LedgerError> {
    if seq >= to.seq {
        return Ok(Vec::new());
    }
    let mut query = changes_between(id, seq, to.seq);
    query.descending = true;
    let mut rows = HashMap::new();
    let mut kept = 0;
    'pages: loop {
        let mut page = table.query(&query).await?;
        let next = page.next.take();
        for item in page.whole()? {
            let mut row = ChangeRow::from_item(item)?;
            if row.facts.time < oldest {
                break 'pages;
            }
            kept += row.inline.as_ref().map_or(0, |bytes| bytes.len() as u64);
            if kept > MAX_CHAIN_BODY_BYTES {
                row.inline = None;
            }
            rows.insert(row.hash, row);
        }
        match next {
            None => break,
            next => query.after = next,
        }
    }
    follow(table, id, rows, seq, to, oldest).await
}

/// Pauses before reading again a row that a head or a change names and that is absent or outdated. DynamoDB reads a
/// single item as it is before or after a transaction, while a query may see a part of one.
pub(crate) const REREAD_PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(500)];

/// Follows `prev` from `to` back to `floor`, or to the first change that was committed before `oldest`; oldest first.
/// Rows that are not on the chain are inert and ignored. A missing row may belong to a transaction that a query has
/// seen in part: it is read by its key before it counts as damage.
async fn follow(
    table: &dyn Table,
    id: RepositoryId,
    mut rows: HashMap<ChangeHash, ChangeRow>,
    floor: u64,
    to: Frontier,
    oldest: Timestamp,
) -> Result<Vec<ChangeRow>, LedgerError> {
    let mut chain = Vec::new();
    let mut seq = to.seq;
    let mut hash = to.hash;
    while seq > floor {
        let row = match rows.remove(&hash).filter(|row| row.facts.seq == seq) {
            Some(row) => row,
            None => read_late(table, id, seq, hash).await?,
        };
        if row.facts.time < oldest {
            break;
        }
        (seq, hash) = (seq - 1, row.facts.prev);
        chain.push(row);
    }
    chain.reverse();
    debug_assert!(
        chain.windows(2).all(|pair| pair[1].facts.seq == pair[0].facts.seq + 1 && pair[1].facts.prev == pair[0].hash),
        "a chain has no gaps and no branches"
    );
    Ok(chain)
}

/// Reads a change that must exist by its key, which sees all of a transaction.
async fn read_late(table: &dyn Table, id: RepositoryId, seq: u64, hash: ChangeHash) -> Result<ChangeRow, LedgerError> {
    for pause in REREAD_PAUSES {
        tokio::time::sleep(pause).await;
        if let Some(item) = table.get(&keys::change(id, seq, hash)).await? {
            let row = ChangeRow::from_item(item)?;
            if row.facts.seq == seq {
                return Ok(row);
            }
            break;
        }
    }
    Err(LedgerError::corrupt(format!("change {seq} ({hash}) of repository {id} is missing")))
}

/// Reader of change bytes in one region.
#[derive(Clone, Debug)]
pub struct Log {
    /// Table with the rows.
    pub table: Arc<dyn Table>,
    /// Object store with the large changes.
    pub objects: Arc<dyn ObjectStore>,
}

impl Log {
    /// Opens the bytes of a change. Blocking: large ones are streamed from the object store.
    pub fn open(&self, id: RepositoryId, row: &ChangeRow) -> Result<ChangeReader<Box<dyn BufRead>>, LedgerError> {
        let runtime = tokio::runtime::Handle::current();
        let input: Box<dyn BufRead> = match (&row.facts.object, &row.inline) {
            (Some(large), _) => Box::new(BufReader::new(ObjectReader::new(self.objects.clone(), &large.key, runtime))),
            (None, Some(bytes)) => Box::new(Cursor::new(bytes.clone())),
            (None, None) => {
                let key = keys::change(id, row.facts.seq, row.hash);
                let item = runtime.block_on(self.table.get(&key))?;
                let bytes = item.and_then(|item| item.bytes);
                let bytes = bytes.ok_or_else(|| LedgerError::corrupt(format!("the row {key} has lost its bytes")))?;
                Box::new(Cursor::new(bytes))
            }
        };
        ChangeReader::new(input).map_err(|error| damaged(id, row, error))
    }

    /// Opens a change as a stream of edits. Blocking.
    pub fn stream(&self, id: RepositoryId, row: ChangeRow) -> Result<ChangeStream, LedgerError> {
        let reader = Some(self.open(id, &row)?);
        Ok(ChangeStream { id, row, reader })
    }

    /// Reads a change to its end, passes each edit to `each`, and checks that the bytes have the hash and place that
    /// the row records. Blocking.
    pub fn read(
        &self,
        id: RepositoryId,
        row: &ChangeRow,
        mut each: impl FnMut(&ChangeHeader, RefEdit),
    ) -> Result<ChangeHeader, LedgerError> {
        let mut reader = self.open(id, row)?;
        loop {
            match reader.next_edit() {
                Ok(Some(edit)) => each(reader.header(), edit),
                Ok(None) => return finish(id, row, reader),
                Err(error) => return Err(damaged(id, row, error)),
            }
        }
    }
}

/// Edits of one change. The end of the stream is reached only if all bytes match the hash of the row.
pub struct ChangeStream {
    id: RepositoryId,
    row: ChangeRow,
    reader: Option<ChangeReader<Box<dyn BufRead>>>,
}

impl ChangeStream {
    /// Returns the next edit, or `None` after the last edit of a change that matches its row.
    pub fn next_edit(&mut self) -> Result<Option<RefEdit>, LedgerError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let edit = reader.next_edit().map_err(|error| damaged(self.id, &self.row, error))?;
        if edit.is_none()
            && let Some(reader) = self.reader.take()
        {
            finish(self.id, &self.row, reader)?;
        }
        Ok(edit)
    }
}

/// Checks that a change has the hash and place that its row records.
fn finish<R: BufRead>(id: RepositoryId, row: &ChangeRow, reader: ChangeReader<R>) -> Result<ChangeHeader, LedgerError> {
    let (header, hash, size) = reader.finish().map_err(|error| damaged(id, row, error))?;
    let facts = &row.facts;
    let same = hash == row.hash
        && (header.seq, header.prev, header.epoch, size) == (facts.seq, facts.prev, facts.epoch, facts.size);
    if !same {
        return Err(LedgerError::corrupt(format!(
            "change {} of repository {id} hashes to {hash}, not to {}: its bytes were altered",
            facts.seq, row.hash
        )));
    }
    Ok(header)
}

fn damaged(id: RepositoryId, row: &ChangeRow, error: ChangeError) -> LedgerError {
    let seq = row.facts.seq;
    match error {
        ChangeError::Io(error) => LedgerError::of_stream(&format!("change {seq} of repository {id}"), error),
        error => LedgerError::corrupt(format!("change {seq} of repository {id}: {error}")),
    }
}
