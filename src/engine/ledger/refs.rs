//! The refs of a state, derived from the newest snapshot and the changes after it, as one sorted stream.
//!
//! Layers are merged by name, and the newest layer that names a ref wins: the snapshot, large changes (sorted, read as
//! streams) and all small changes folded into one map. Memory is bounded by the small changes since the snapshot, which
//! the snapshot policy keeps in proportion.
//!
//! A stream that ends without an error has read every change to its end and found its hash correct. Use nothing of it
//! before.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::io::{BufReader, Read};

use super::LedgerError;
use super::hash::HashedRefs;
use super::head::{Head, RepositoryId, SnapshotRef};
use super::log::{ChangeRow, ChangeStream, Log, read_chain_above};
use super::snapshot::SnapshotReader;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_store::objects::reader::ObjectReader;

/// Size of a log, in bytes, up to which no snapshot is taken.
const MIN_SNAPSHOT_LOG_BYTES: u64 = 1024 * 1024;

/// Returns true if the log since the newest snapshot outweighs it, or if the snapshot cannot be proven.
pub fn wants_snapshot(head: &Head) -> bool {
    if head.snapshot.is_some() && head.proven_snapshot().is_none() {
        return true;
    }
    let snapshot = head.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes);
    head.log_bytes > MIN_SNAPSHOT_LOG_BYTES.max(snapshot.saturating_mul(2))
}

/// Snapshot and changes from which the refs of one state are streamed.
#[derive(Debug)]
pub struct RefsAt {
    id: RepositoryId,
    log: Log,
    snapshot: Option<SnapshotRef>,
    rows: Vec<ChangeRow>,
}

impl RefsAt {
    /// Finds the snapshot and the changes that make up the refs of `head`. A snapshot that cannot be proven is ignored:
    /// the refs then follow from all changes, whose hashes the head names.
    pub async fn load(log: Log, id: RepositoryId, head: &Head) -> Result<Self, LedgerError> {
        let snapshot = head.proven_snapshot().cloned();
        let since = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        let rows = if since < head.frontier.seq {
            read_chain_above(&*log.table, id, since, head.frontier).await?
        } else {
            Vec::new()
        };
        Ok(RefsAt { id, log, snapshot, rows })
    }

    /// Starts the stream. Blocking: for `spawn_blocking` only.
    pub fn open(self) -> Result<RefsStream, LedgerError> {
        let mut layers: Vec<Layer> = Vec::new();
        if let Some(SnapshotRef { key, sha256: Some(sha256), .. }) = &self.snapshot {
            let runtime = tokio::runtime::Handle::current();
            let input: Box<dyn Read> = Box::new(ObjectReader::new(self.log.objects.clone(), key, runtime));
            let reader = SnapshotReader::new(BufReader::new(input), *sha256)?;
            layers.push(Layer::new(0, Source::Snapshot(Box::new(reader))));
        }
        let mut small: BTreeMap<RefName, (u64, Option<RefValue>)> = BTreeMap::new();
        for row in &self.rows {
            let seq = row.facts.seq;
            if row.facts.object.is_some() {
                layers.push(Layer::new(seq, Source::Change(Box::new(self.log.stream(self.id, row.clone())?))));
            } else {
                self.log.read(self.id, row, |_, edit| {
                    small.insert(edit.name, (seq, edit.new));
                })?;
            }
        }
        layers.push(Layer::new(0, Source::Small(small.into_iter())));
        for layer in &mut layers {
            layer.advance()?;
        }
        Ok(RefsStream { layers })
    }

    /// Collects all refs in memory. Blocking.
    pub fn collect(self) -> Result<BTreeMap<RefName, RefValue>, LedgerError> {
        self.open()?.collect()
    }
}

/// Computes the hash of all refs and HEAD afresh from the log. Blocking.
///
/// # Errors
/// [`LedgerError::Corrupt`] if the head records another hash.
pub fn hash_refs(log: &Log, id: RepositoryId, head: &Head) -> Result<HashedRefs, LedgerError> {
    let refs = tokio::runtime::Handle::current().block_on(RefsAt::load(log.clone(), id, head))?;
    let mut hash = HashedRefs::default();
    for entry in refs.open()? {
        let (name, value) = entry?;
        hash.edit(name.as_bstr(), None, Some(&value));
    }
    head.add_head_to(&mut hash);
    if hash.has_hash(&head.refs_hash) {
        return Ok(hash);
    }
    let digest = head.refs_hash.digest();
    Err(LedgerError::corrupt(format!(
        "the refs of repository {id} do not have digest {digest}, which its head records"
    )))
}

/// Refs in the order of their names.
pub struct RefsStream {
    layers: Vec<Layer>,
}

impl RefsStream {
    fn next_ref(&mut self) -> Result<Option<(RefName, RefValue)>, LedgerError> {
        loop {
            let names = self.layers.iter().filter_map(|layer| layer.front.as_ref().map(|front| &front.name));
            let Some(name) = names.min().cloned() else { return Ok(None) };
            let mut newest: Option<(u64, Option<RefValue>)> = None;
            for layer in &mut self.layers {
                if layer.front.as_ref().is_some_and(|front| front.name == name) {
                    let front = layer.advance()?;
                    if let Some(front) = front
                        && newest.as_ref().is_none_or(|(seq, _)| *seq <= front.seq)
                    {
                        newest = Some((front.seq, front.value));
                    }
                }
            }
            if let Some((_, Some(value))) = newest {
                return Ok(Some((name, value)));
            }
        }
    }
}

impl Iterator for RefsStream {
    type Item = Result<(RefName, RefValue), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref().transpose()
    }
}

struct Front {
    name: RefName,
    seq: u64,
    value: Option<RefValue>,
}

enum Source {
    Snapshot(Box<SnapshotReader<BufReader<Box<dyn Read>>>>),
    Change(Box<ChangeStream>),
    Small(btree_map::IntoIter<RefName, (u64, Option<RefValue>)>),
}

struct Layer {
    seq: u64,
    source: Source,
    front: Option<Front>,
}

impl Layer {
    fn new(seq: u64, source: Source) -> Self {
        Layer { seq, source, front: None }
    }

    /// Returns the front and fetches the next one.
    fn advance(&mut self) -> Result<Option<Front>, LedgerError> {
        let seq = self.seq;
        let next = match &mut self.source {
            Source::Snapshot(reader) => reader.next_ref()?.map(|(name, value)| Front { name, seq, value: Some(value) }),
            Source::Change(change) => change.next_edit()?.map(|edit| Front { name: edit.name, seq, value: edit.new }),
            Source::Small(edits) => edits.next().map(|(name, (seq, value))| Front { name, seq, value }),
        };
        Ok(std::mem::replace(&mut self.front, next))
    }
}
