//! The log: a repository's changes as rows of the table, read back as one proven chain.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Cursor};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::advance::parse_head;
use super::change::{ChangeBody, ChangeError, ChangeHeader, ChangeReader, RefEdit, SealedChange};
use super::hash::ChangeHash;
use super::head::{Frontier, HeadItem, RepositoryId};
use super::{LedgerError, keys};
use gitferry_store::objects::reader::ObjectReader;
use gitferry_store::objects::{Crc64, ObjectStore};
use gitferry_store::table::{Condition, Item, Query, Table, Write};

/// Bodies of changes that a chain keeps in memory while it is read; the rest are read again when needed.
const MAX_CHAIN_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// The document of a change's row: what can be known of it without reading its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFacts {
    /// Its number.
    pub seq: u64,
    /// The hash of the change before.
    pub prev: ChangeHash,
    /// Its epoch.
    pub epoch: u64,
    /// When it was committed.
    pub time: Timestamp,
    /// Its size in bytes.
    pub size: u64,
    /// How many refs it edits.
    pub edits: u64,
    /// How many packs came with it.
    pub packs: u64,
    /// Bytes of these packs and their indexes.
    pub pack_bytes: u64,
    /// Bytes of the LFS objects that it names.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lfs_bytes: u64,
    /// Where its bytes are, when they are too large for the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<LargeBody>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A change's bytes in the object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeBody {
    /// The object's key.
    pub key: String,
    /// CRC-64/NVME of the bytes.
    #[serde(with = "gitferry_base::text")]
    pub crc64: Crc64,
}

/// One change of a chain.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// Its hash, as its key says.
    pub hash: ChangeHash,
    /// What its document says.
    pub facts: ChangeFacts,
    /// Its bytes, where they are inline and were kept.
    pub inline: Option<Bytes>,
}

impl ChangeRow {
    /// The state that this change makes.
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

/// The row of a sealed change; `object` names where large bytes were put.
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

/// The row of a change as another region has it; the same bytes under the same key.
pub fn row_write(id: RepositoryId, hash: ChangeHash, facts: &ChangeFacts, inline: Option<Bytes>) -> Write {
    let document = serde_json::to_value(facts).unwrap_or_default();
    let key = keys::change(id, facts.seq, hash);
    match inline {
        Some(bytes) if facts.object.is_none() => Write::put_bytes(key, Condition::Any, document, bytes),
        _ => Write::put(key, Condition::Any, document),
    }
}

/// Reads the changes behind `from` up to `to` and proves that they are one chain, ending at `to`.
///
/// # Errors
/// [`LedgerError::Fork`] when the chain that ends at `to` does not start at `from`.
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

/// Reads the changes above number `seq` up to `to`, as one chain that ends at `to`.
pub async fn read_chain_above(
    table: &dyn Table,
    id: RepositoryId,
    seq: u64,
    to: Frontier,
) -> Result<Vec<ChangeRow>, LedgerError> {
    let last = format!("{}{}", keys::change_prefix(to.seq), char::MAX);
    let mut query = Query::range(keys::repository(id), keys::change_prefix(seq + 1), last);
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

/// Reads a head together with the newest change, by one request: the rows lie side by side. The change is the one
/// that the head names, unless somebody moved the head meanwhile or left a row that is not on the chain.
pub async fn read_head_and_newest(
    table: &dyn Table,
    id: RepositoryId,
) -> Result<(Option<HeadItem>, Option<ChangeRow>), LedgerError> {
    let head = keys::head(id);
    let mut query = Query::range(head.pk, keys::CHANGE_PREFIX, head.sk.clone());
    (query.descending, query.limit) = (true, 2);
    let (mut found, mut newest) = (None, None);
    for row in table.query(&query).await?.rows {
        let item = match row {
            Ok(item) => item,
            Err(bad) if bad.key.sk == head.sk => return Err(bad.error.into()),
            Err(_) => continue,
        };
        if item.key.sk == head.sk {
            found = Some(HeadItem { id, head: parse_head(id, &item.document)?, revision: item.revision });
        } else if newest.is_none() && item.key.sk.starts_with(keys::CHANGE_PREFIX) {
            // One that is on the chain is read again with it, and is an error there.
            newest = ChangeRow::from_item(item).ok();
        }
    }
    Ok((found, newest))
}

/// Reads the changes from `to` back to number `seq`, or to the first one that was committed before `oldest`;
/// what is returned is oldest first. Costs what is returned, however long the log is.
pub async fn read_newest(
    table: &dyn Table,
    id: RepositoryId,
    seq: u64,
    to: Frontier,
    oldest: Timestamp,
) -> Result<Vec<ChangeRow>, LedgerError> {
    let last = format!("{}{}", keys::change_prefix(to.seq), char::MAX);
    let mut query = Query::range(keys::repository(id), keys::change_prefix(seq + 1), last);
    query.descending = true;
    let (mut rows, mut kept) = (HashMap::new(), 0);
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

/// Pauses before a row that a head or a change names, and that is not there or older than that, is read again. DynamoDB
/// reads a single item as it is after a transaction or before it, while a query may see a part of one.
pub(crate) const LOOK_AGAIN_AFTER: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(500)];

/// Follows `prev` from `to` back to number `floor`, or to the first change that was committed before `oldest`; what is
/// returned is oldest first. Rows that are not on the way are inert and ignored. A row that is missing may belong to a
/// transaction of which a query has seen only a part: it is read by its key before that is called damage.
async fn follow(
    table: &dyn Table,
    id: RepositoryId,
    mut rows: HashMap<ChangeHash, ChangeRow>,
    floor: u64,
    to: Frontier,
    oldest: Timestamp,
) -> Result<Vec<ChangeRow>, LedgerError> {
    let mut chain = Vec::new();
    let (mut seq, mut hash) = (to.seq, to.hash);
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
    Ok(chain)
}

/// Reads a change that must be there by its key, which sees all of a transaction.
async fn read_late(table: &dyn Table, id: RepositoryId, seq: u64, hash: ChangeHash) -> Result<ChangeRow, LedgerError> {
    for pause in LOOK_AGAIN_AFTER {
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

/// The log of one region, for reading the bytes of changes.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where the rows are.
    pub table: Arc<dyn Table>,
    /// Where large changes are.
    pub objects: Arc<dyn ObjectStore>,
}

impl Log {
    /// Opens a change's bytes. Blocking: large ones are read from the object store as a stream.
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

    /// Opens a change whose edits are wanted one by one. Blocking.
    pub fn stream(&self, id: RepositoryId, row: ChangeRow) -> Result<ChangeStream, LedgerError> {
        let reader = Some(self.open(id, &row)?);
        Ok(ChangeStream { id, row, reader })
    }

    /// Reads a change to its end, handing out each edit, and checks that its bytes have the hash and
    /// the place that its row claims. Blocking.
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

/// The edits of one change. Behind the last one the hash of all that was read is compared with the row's.
pub struct ChangeStream {
    id: RepositoryId,
    row: ChangeRow,
    reader: Option<ChangeReader<Box<dyn BufRead>>>,
}

impl ChangeStream {
    /// The next edit, or `None` behind the last of a change that is what its row claims.
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

/// Checks that a change that was read has the hash and the place that its row claims.
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
