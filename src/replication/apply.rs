//! The target's side of a delivery: one transaction moves the head over the whole lag.

use super::error::{InRegion as _, ReplicationError};
use super::link::{Delivered, Lag, Link};
use super::statistics::LinkRow;
use super::transfer::CopiedPack;
use gitferry_config::LinkMode;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::{Advance, Advanced, advance_and_report};
use gitferry_engine::ledger::head::{Head, RepositoryId, Role, State};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::ledger::keys;
use gitferry_engine::ledger::log::{ChangeRow, read_inline, row_write};
use gitferry_engine::region::RegionError;
use gitferry_engine::region::claims::HeldPacks;
use gitferry_engine::region::commit::{MAX_MANIFEST_ATTEMPTS, manifest_with};
use gitferry_engine::region::fold::Folded;
use gitferry_engine::region::manifest::LivePack;
use gitferry_store::table::{Condition, MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ITEMS, TableError, Write};

/// Items of a transaction that are not change rows: head, manifest, claims, outbox, names, listing, statistics,
/// staging rows.
const RESERVED_ITEMS: usize = 21;
/// Staging rows that the commit itself deletes; [`Link::claim_staging`] deletes the others right before it.
const STAGING_ROWS: usize = 10;
/// Writes of the caller that fit into the committing transaction.
pub(super) const MAX_ALONG: usize = 3;

impl Link {
    /// Puts the change rows and moves the head, with all that belongs to it, over the whole lag.
    pub(super) async fn apply(
        &self,
        lag: Lag,
        folded: Folded,
        copied: &[CopiedPack],
        held: Option<HeldPacks>,
        delivered: &Delivered,
        along: &[Write],
    ) -> Result<Advanced, ReplicationError> {
        let id = lag.source.id;
        let before = lag.target;
        let after = self.head_after(folded.head);
        let with = self.writes_of(id, &lag.rows, copied, delivered, along).await?;
        self.claim_staging(id, copied).await?;
        let mut held = held.filter(|_| !copied.is_empty());
        let mut attempt = 1;
        loop {
            let step = Advance { id, before: before.clone(), after: after.clone(), manifest: None, with: with.clone() };
            let result = self.try_step(step, held.as_ref(), copied).await;
            match (&result, &before) {
                _ if attempt >= MAX_MANIFEST_ATTEMPTS => return result,
                (Err(error), Some(item)) if is_full(error) => {
                    self.target.consolidator().make_room(item).await.in_region(&self.target)?;
                }
                (Err(error), _) if is_full(error) || has_manifest_moved(error) => {}
                _ => return result,
            }
            // Consolidation or a sweep moved the manifest first: the same packs go into the new one.
            attempt += 1;
            let now = self.target.claims().held_packs(id, before.as_ref(), &after.name).await;
            held = Some(now.in_region(&self.target)?);
        }
    }

    /// Returns the target's head from that of the source: a replica, which an active link feeds.
    fn head_after(&self, mut head: Head) -> Head {
        head.role = Role::Replica;
        if self.mode == LinkMode::Active || head.fed_by.is_none() {
            head.fed_by = Some(self.name.clone());
        }
        head.named = head.state != State::Deleted;
        head
    }

    /// Returns the writes that go with the head: change rows, statistics of the link, writes of the caller, deletions of
    /// staging rows. Change rows that do not fit are written ahead.
    async fn writes_of(
        &self,
        id: RepositoryId,
        rows: &[ChangeRow],
        copied: &[CopiedPack],
        delivered: &Delivered,
        along: &[Write],
    ) -> Result<Vec<Write>, ReplicationError> {
        assert!(along.len() <= MAX_ALONG, "the transaction has room for {MAX_ALONG} writes of the caller");
        let mut writes = self.put_rows_ahead(id, rows).await?;
        let row = LinkRow {
            delivered: Some(self.target.clock().now()),
            lag_ms: delivered.lag_ms,
            bytes: delivered.bytes,
            changes: delivered.changes,
            ..LinkRow::default()
        };
        let document = serde_json::to_value(row).map_err(std::io::Error::from).in_region(&self.target)?;
        writes.push(Write::put(keys::link(&self.name, id), Condition::Any, document));
        writes.extend_from_slice(along);
        let staged = copied.iter().filter_map(|copied| copied.staging.clone());
        // The condition fails if another worker has removed the upload meanwhile (see `Staged::forget`).
        writes.extend(staged.take(STAGING_ROWS).map(|key| Write::delete(key, Condition::Present)));
        Ok(writes)
    }

    /// Makes one attempt at a step. With `held`, the step also adds the copied packs to the manifest of the target.
    async fn try_step(
        &self,
        mut step: Advance,
        held: Option<&HeldPacks>,
        copied: &[CopiedPack],
    ) -> Result<Advanced, ReplicationError> {
        if let Some(held) = held {
            let packs: Vec<LivePack> = copied.iter().map(|copied| copied.pack.clone()).collect();
            step.with.push(self.admit(held, &step.after.name, &packs, copied).await?);
            let manifest = manifest_with(step.id, held, packs, &mut step.after).in_region(&self.target)?;
            step.manifest = Some(manifest);
        }
        self.advance_named(step).await.in_region(&self.target)
    }

    /// Advances the head. Leaves the repository unnamed where another one still holds the name at the target, as the
    /// change that frees the name is not delivered yet.
    async fn advance_named(&self, step: Advance) -> Result<Advanced, LedgerError> {
        let unnamed = Advance {
            id: step.id,
            before: step.before.clone(),
            after: Head { named: false, ..step.after.clone() },
            manifest: step.manifest.clone(),
            with: step.with.clone(),
        };
        match advance_and_report(self.target.table(), step).await {
            Err(LedgerError::NameTaken { .. }) => advance_and_report(self.target.table(), unnamed).await,
            result => result,
        }
    }

    /// [`gitferry_engine::region::claims::Claims::admit_uploads`] for copies. Deletes the staging rows of uploads that can no
    /// longer be committed, so that no process resumes them.
    async fn admit(
        &self,
        held: &HeldPacks,
        repository: &str,
        packs: &[LivePack],
        copied: &[CopiedPack],
    ) -> Result<Write, ReplicationError> {
        let admitted = self.target.claims().admit_uploads(held, repository, packs).await;
        if let Err(RegionError::UploadGone { .. }) = &admitted {
            let rows: Vec<_> = copied.iter().filter_map(|copied| copied.staging.clone()).collect();
            for rows in rows.chunks(MAX_TRANSACTION_ITEMS) {
                let deletes = rows.iter().map(|key| Write::delete(key.clone(), Condition::Any)).collect();
                self.target.table().transact(deletes).await.in_region(&self.target)?;
            }
        }
        admitted.in_region(&self.target)
    }

    /// Deletes, before the commit, the staging rows that do not fit into it: from then on no other worker resumes or
    /// removes these uploads. A crash between the two costs a second copy.
    async fn claim_staging(&self, id: RepositoryId, copied: &[CopiedPack]) -> Result<(), ReplicationError> {
        let left: Vec<_> = copied.iter().filter_map(|copied| copied.staging.clone()).skip(STAGING_ROWS).collect();
        for rows in left.chunks(MAX_TRANSACTION_ITEMS) {
            let deletes = rows.iter().map(|key| Write::delete(key.clone(), Condition::Present)).collect();
            match self.target.table().transact(deletes).await {
                Err(TableError::ConditionFailed { .. }) => Err(LedgerError::Lost { id }).in_region(&self.target)?,
                done => done.in_region(&self.target)?,
            }
        }
        Ok(())
    }

    /// Writes the rows that do not fit into the committing transaction and returns those that do.
    async fn put_rows_ahead(&self, id: RepositoryId, rows: &[ChangeRow]) -> Result<Vec<Write>, ReplicationError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for row in rows {
            let inline = match (&row.facts.object, &row.inline) {
                // The chain was folded from these bytes: what is read again must be the same.
                (None, None) => Some(read_inline(self.source.table(), id, row).await.in_region(&self.source)?),
                (_, inline) => inline.clone(),
            };
            // A margin of two, as documents and keys count towards the limit.
            bytes += 2 * 1024 + inline.as_ref().map_or(0, bytes::Bytes::len);
            batch.push(row_write(id, row.hash, &row.facts, inline));
            if batch.len() + RESERVED_ITEMS >= MAX_TRANSACTION_ITEMS || bytes > MAX_TRANSACTION_BYTES / 2 {
                self.target.table().transact(std::mem::take(&mut batch)).await.in_region(&self.target)?;
                bytes = 0;
            }
        }
        Ok(batch)
    }

    /// Removes this worker's copies after another worker has committed the same changes, which counts as success for
    /// both. Every copy has a key of its own, so no other worker refers to these.
    pub(super) async fn drop_unused(&self, id: RepositoryId, copied: &[CopiedPack], applied: Option<&Advanced>) {
        if copied.is_empty() || applied.is_some_and(|advanced| advanced.ours) {
            return;
        }
        let head = match applied {
            Some(advanced) => Some(advanced.item.clone()),
            None => read_head(self.target.table(), id).await.ok().flatten(),
        };
        if let Some(item) = head {
            let packs: Vec<_> = copied.iter().map(|copy| copy.pack.clone()).collect();
            self.target.uploads().drop_duplicates(&item, &packs).await;
        }
    }
}

/// Returns true if the manifest of the target lists as many packs as it may.
fn is_full(error: &ReplicationError) -> bool {
    matches!(error, ReplicationError::Region { error: RegionError::Full { .. }, .. })
}

/// Returns true if consolidation or a sweep moved the manifest after it was read.
fn has_manifest_moved(error: &ReplicationError) -> bool {
    use RegionError::Ledger;
    matches!(error, ReplicationError::Region { error: Ledger(LedgerError::ManifestMoved { .. }), .. })
}
