//! Snapshots: all refs of one state in one object, so that reading refs does not replay the whole ledger.

use std::time::Duration;

use super::commit::back_off;
use super::{Region, Result, blocking};
use crate::ledger::LedgerError;
use crate::ledger::advance::{Advance, advance_head};
use crate::ledger::hash::SnapshotHash;
use crate::ledger::head::{Head, HeadItem, SnapshotRef};
use crate::ledger::heads::read_head;
use crate::ledger::log::read_chain;
use crate::ledger::refs::{RefsAt, wants_snapshot};
use crate::ledger::{keys, snapshot};
use gitferry_store::objects::ObjectError;

/// Attempts to put a snapshot into the head; each failure means that another change came first.
const MAX_SNAPSHOT_ATTEMPTS: u32 = 100;
/// Longest wait between two attempts to record a snapshot.
const MAX_SNAPSHOT_WAIT: Duration = Duration::from_millis(50);

/// Takes snapshots of the refs of repositories.
#[derive(Clone, Copy, Debug)]
pub struct Snapshots<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the snapshots of refs in this region.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots { region: self }
    }
}

impl Snapshots<'_> {
    /// Takes a snapshot of the refs if the log outweighs the last one. Best effort: after a failure, the next commit
    /// tries.
    pub async fn maintain(self, item: HeadItem) -> HeadItem {
        if !wants_snapshot(&item.head) {
            return item;
        }
        match self.take(&item).await {
            Ok(item) => item,
            Err(error) => {
                tracing::warn!(%error, repository = item.head.name, "could not take a snapshot of the refs");
                item
            }
        }
    }

    async fn take(self, item: &HeadItem) -> Result<HeadItem> {
        let refs = self.region.reader().refs(item).await?;
        let dir = self.region.spool_dir();
        let expected = item.head.clone();
        let (file, sha256) = blocking(move || write_snapshot(refs, &expected, &dir)).await?;
        let key = keys::snapshot(item.id, item.head.frontier.seq, sha256);
        let bytes = match self.region.objects().put_file(&key, file).await {
            Ok(meta) => meta.size,
            // An earlier attempt stored the same bytes. If they are gone by now, the next commit tries again.
            Err(ObjectError::Exists { store, key }) => {
                let there = self.region.objects().head(&key).await?;
                there.ok_or(ObjectError::NotFound { store, key })?.size
            }
            Err(error) => return Err(error.into()),
        };
        let snapshot = SnapshotRef { seq: item.head.frontier.seq, key, bytes, sha256: Some(sha256) };
        let mut now = item.clone();
        for attempt in 1..=MAX_SNAPSHOT_ATTEMPTS {
            let mut after = now.head.clone();
            // Only the bytes of the changes after the snapshot.
            after.log_bytes = now.head.log_bytes.saturating_sub(item.head.log_bytes);
            after.snapshot = Some(snapshot.clone());
            let step = Advance { id: item.id, before: Some(now.clone()), after, manifest: None, with: Vec::new() };
            match advance_head(self.region.table(), step).await {
                Err(LedgerError::Lost { .. }) => back_off(self.region.clock(), attempt, MAX_SNAPSHOT_WAIT).await,
                done => return Ok(done?),
            }
            match read_head(self.region.table(), item.id).await? {
                // Changes came meanwhile. The snapshot is of a state on their chain, so it still counts.
                Some(newer) if newer.head.snapshot == item.head.snapshot && self.leads_to(item, &newer).await? => {
                    now = newer;
                }
                Some(newer) => return Ok(newer),
                None => return Ok(now),
            }
        }
        Ok(now)
    }

    /// Returns true if the chain that ends at `to` runs through `from`.
    async fn leads_to(self, from: &HeadItem, to: &HeadItem) -> Result<bool> {
        match read_chain(self.region.table(), from.id, from.head.frontier, to.head.frontier).await {
            Ok(_) => Ok(true),
            Err(LedgerError::Fork { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn write_snapshot(refs: RefsAt, expected: &Head, dir: &std::path::Path) -> Result<(tempfile::TempPath, SnapshotHash)> {
    let file = tempfile::NamedTempFile::new_in(dir)?;
    let mut writer = snapshot::SnapshotWriter::new(std::io::BufWriter::new(file))?;
    for entry in refs.open()? {
        let (name, value) = entry?;
        writer.push(&name, &value)?;
    }
    let snapshot::Written { out, sha256, mut refs, .. } = writer.finish()?;
    expected.add_head_to(&mut refs);
    if !refs.has_hash(&expected.refs_hash) {
        let reason = "its refs do not have the digest that its head records";
        return Err(LedgerError::corrupt(format!("{}: {reason}", expected.name)).into());
    }
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok((file.into_temp_path(), sha256))
}
