//! Delivery of one repository between regions: read both heads, walk the changes, copy the packs, move the head.

use super::apply::MAX_ALONG;
use super::error::{InRegion as _, ReplicationError};
use super::link::{Delivered, Lag, Link};
use super::packs::{ChosenPacks, Manifests};
use super::plan::{Standing, standing};
use super::transfer::Transfer;
use gitferry_base::fault::crash_point;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::{Frontier, Head, HeadItem, RepositoryId, State};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::ledger::keys;
use gitferry_engine::ledger::log::{ChangeRow, read_chain, read_head_and_newest};
use gitferry_engine::region::claims::HeldPacks;
use gitferry_engine::region::commit::MAX_COMMIT_ATTEMPTS;
use gitferry_engine::region::fold::{Before, FoldError, Folded, fold};
use gitferry_engine::region::manifest::LivePack;
use gitferry_engine::region::{RegionError, Unreadable, blocking};
use gitferry_store::table::Write;
use gitferry_store::table::lease::{Lease, Waiter};

/// Transfers below this size take no lease.
const LEASED_BYTES: u64 = 64 * 1024 * 1024;

impl Link {
    /// Brings one repository of the target to the state of the source. Returns `None` if the target is there already,
    /// or the link does not carry the repository.
    ///
    /// Reads on either side run concurrently: with a small pack, a delivery takes three round trips to a distant source
    /// (head and newest change; manifest and the other changes; pack and index).
    pub async fn deliver(&self, id: RepositoryId) -> Result<Option<Delivered>, ReplicationError> {
        self.deliver_with(id, &[]).await
    }

    /// [`Link::deliver`] with writes of the caller to the target's table in the same transaction, which saves a
    /// request.
    ///
    /// The writes must have no condition that can fail. More than [`MAX_ALONG`] of them are ignored, and without a
    /// commit none is written: [`Delivered::along`] is true if all of them are.
    pub async fn deliver_with(&self, id: RepositoryId, along: &[Write]) -> Result<Option<Delivered>, ReplicationError> {
        let along = if along.len() > MAX_ALONG { &[] } else { along };
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let Some((lag, manifests)) = self.read_lag(id).await? else { return Ok(None) };
            match self.deliver_lag(lag, manifests, along).await {
                Err(ReplicationError::Region { error, .. }) if has_moved(&error) => {}
                result => return result,
            }
        }
        let Some((lag, _)) = self.read_lag(id).await? else { return Ok(None) };
        self.target.lost_rows().check(id, &lag.source.head.name).await.in_region(&self.target)?;
        Err(RegionError::Moved { repository: lag.source.head.name }).in_region(&self.target)
    }

    /// Reads both heads and the changes between them. Returns `None` if there is nothing to deliver.
    async fn read_lag(&self, id: RepositoryId) -> Result<Option<(Lag, Manifests)>, ReplicationError> {
        let (source, target) =
            futures::join!(read_head_and_newest(self.source.table(), id), read_head(self.target.table(), id));
        let (source, newest) = source.in_region(&self.source)?;
        let target = target.in_region(&self.target)?;
        let fed = target.as_ref().is_some_and(|item| item.head.fed_by.as_ref() == Some(&self.name));
        if source.is_none() && fed {
            return Err(Unreadable::without_head(id).error).in_region(&self.source);
        }
        let Some(source) = source.filter(|source| self.carries(&source.head, target.as_ref())) else {
            return Ok(None);
        };
        match self.start_of_lag(&source, target.as_ref()).await? {
            Some(from) => self.read_from(source, newest, target, from).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the state of the target if the link may deliver what the target lacks; `None` if the target lacks nothing.
    async fn start_of_lag(
        &self,
        source: &HeadItem,
        target: Option<&HeadItem>,
    ) -> Result<Option<Frontier>, ReplicationError> {
        let repository = || source.head.name.clone();
        let from = match standing(&source.head, target.map(|item| &item.head)) {
            Standing::Equal => {
                if let Some(target) = target
                    && !self.claim_name(target.clone()).await?
                    && let Some(reason) = self.name_conflict(target).await?
                {
                    return Err(ReplicationError::Fork { repository: repository(), reason });
                }
                return Ok(None);
            }
            Standing::Ahead => return self.check_ahead(source, target).await,
            Standing::Diverged(reason) => return Err(ReplicationError::Fork { repository: repository(), reason }),
            Standing::Behind(from) => from,
        };
        if target.is_none() && source.head.state == State::Deleted {
            return Ok(None);
        }
        let floor = source.head.floor;
        if from.seq < floor {
            return Err(ReplicationError::BelowFloor { repository: repository(), target: from.seq, floor });
        }
        self.check_feeder(&source.head, target.map(|item| &item.head))?;
        Ok(Some(from))
    }

    /// Reads the changes that the target lacks, and both manifests.
    async fn read_from(
        &self,
        source: HeadItem,
        newest: Option<ChangeRow>,
        target: Option<HeadItem>,
        from: Frontier,
    ) -> Result<(Lag, Manifests), ReplicationError> {
        let lost_rows = async {
            match &target {
                Some(_) => Ok(()),
                None => self.target.lost_rows().check(source.id, &source.head.name).await,
            }
        };
        let (rows, source_manifest, target_manifest, lost) = futures::join!(
            self.changes(&source, newest, from),
            self.source.reader().manifest(&source),
            self.target.claims().held_packs(source.id, target.as_ref(), &source.head.name),
            lost_rows,
        );
        lost.in_region(&self.target)?;
        let rows = match rows {
            Err(LedgerError::Fork { at, .. }) => {
                let reason = format!("the target is at {at}, which the source has never been");
                return Err(ReplicationError::Fork { repository: source.head.name, reason });
            }
            rows => rows
                .map_err(|error| RegionError::from(error).locate(self.source.name(), &source.head.name))
                .in_region(&self.source)?,
        };
        let source_manifest = source_manifest.map(|(manifest, _)| manifest).in_region(&self.source);
        let manifests = Manifests { source: source_manifest, target: target_manifest.in_region(&self.target) };
        Ok((Lag { source, target, rows }, manifests))
    }

    /// Returns the changes that the target lacks. The newest one was read with the head; if it is the only one, no
    /// request is made.
    async fn changes(
        &self,
        source: &HeadItem,
        newest: Option<ChangeRow>,
        from: Frontier,
    ) -> Result<Vec<ChangeRow>, LedgerError> {
        let to = source.head.frontier;
        match newest.filter(|row| row.frontier() == to && row.facts.prev == from.hash && to.seq == from.seq + 1) {
            Some(row) => Ok(vec![row]),
            None => read_chain(self.source.table(), source.id, from, to).await,
        }
    }

    /// Returns `None`, nothing to deliver, if a target with a higher seq is on the source's chain; a fork otherwise.
    async fn check_ahead<T>(
        &self,
        source: &HeadItem,
        target: Option<&HeadItem>,
    ) -> Result<Option<T>, ReplicationError> {
        match self.fork_ahead(source, target).await? {
            None => Ok(None),
            Some(reason) => Err(ReplicationError::Fork { repository: source.head.name.clone(), reason }),
        }
    }

    /// Refuses a repository that another active link delivers.
    fn check_feeder(&self, source: &Head, target: Option<&Head>) -> Result<(), ReplicationError> {
        match self.rival(target) {
            Some(other) => Err(ReplicationError::TwoLinks {
                repository: source.name.clone(),
                other: other.clone(),
                target: self.target.name().to_owned(),
            }),
            None => Ok(()),
        }
    }

    async fn deliver_lag(
        &self,
        lag: Lag,
        manifests: Manifests,
        along: &[Write],
    ) -> Result<Option<Delivered>, ReplicationError> {
        let folded = self.fold(&lag).await?;
        let (packs, held) = match manifests.plan(&folded)? {
            Some((wanted, held)) => (self.choose_packs(lag.source.id, wanted).await?, Some(held)),
            None => (ChosenPacks::default(), None),
        };
        let lfs = self.lfs_to_copy(lag.source.id, &folded).await?;
        let bytes = bytes_in_all(&packs.packs, &lfs);
        self.progress.bytes.add(bytes);
        let lease = if bytes < LEASED_BYTES {
            None
        } else {
            let Some(lease) = self.wait_for_lease(&lag).await? else { return self.lost(&lag) };
            Some(lease)
        };
        let result = self.copy_and_apply(lag, folded, (&packs, &lfs), held, along).await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        result.map(Some)
    }

    fn lost<T>(&self, lag: &Lag) -> Result<T, ReplicationError> {
        let error = LedgerError::Lost { id: lag.source.id }.into();
        Err(ReplicationError::Region { region: self.target.name().to_owned(), error })
    }

    /// Waits for the lease on the repository. Returns `None` if the target moved meanwhile: plan again.
    async fn wait_for_lease(&self, lag: &Lag) -> Result<Option<Lease>, ReplicationError> {
        let key = keys::lease(&self.name, lag.source.id);
        let mut waiter = Waiter::new(self.target.shared_table(), self.target.shared_clock(), key);
        loop {
            if let Some(lease) = waiter.try_take().await.in_region(&self.target)? {
                return Ok(Some(lease));
            }
            let now = read_head(self.target.table(), lag.source.id).await.in_region(&self.target)?;
            if now.map(|item| item.revision) != lag.target.as_ref().map(|item| item.revision) {
                return Ok(None);
            }
        }
    }

    async fn fold(&self, lag: &Lag) -> Result<Folded, ReplicationError> {
        let log = self.source.log();
        let id = lag.source.id;
        let rows = lag.rows.clone();
        let head = lag.target.as_ref().map(|item| item.head.clone());
        let here = self.target.log();
        let folding = move || {
            let before = head.as_ref().map(|head| Before { head, log: &here });
            Ok::<_, std::io::Error>(fold(&log, id, before, &rows))
        };
        let folded = blocking(folding).await.in_region(&self.source)?;
        let name = &lag.source.head.name;
        folded.map_err(|error| match error {
            error @ FoldError::Before(_) => ReplicationError::of_fold(error, name, self.target.name()),
            error => ReplicationError::of_fold(error, name, self.source.name()),
        })
    }

    async fn copy_and_apply(
        &self,
        lag: Lag,
        folded: Folded,
        (packs, lfs): (&ChosenPacks, &[LfsObject]),
        held: Option<HeldPacks>,
        along: &[Write],
    ) -> Result<Delivered, ReplicationError> {
        let transfer = Transfer {
            source: self.source.clone(),
            target: self.target.clone(),
            id: lag.source.id,
            repository: lag.source.head.name.clone(),
            memory: self.memory.clone(),
            progress: self.progress.clone(),
        };
        for row in &lag.rows {
            if let Some(large) = &row.facts.object {
                transfer.copy_log_object(&large.key, row.facts.size, large.crc64).await?;
            }
        }
        transfer.copy_lfs(lfs).await?;
        crash_point("copied-lfs");
        let copied = packs.copy(&transfer).await?;
        crash_point("copied-packs");
        let id = lag.source.id;
        let edits = folded.edits;
        let oldest = lag.rows.first().map(|row| row.facts.time);
        let mut delivered = Delivered {
            changes: lag.rows.len() as u64,
            edits,
            packs: copied.len() as u64,
            lfs_objects: lfs.len() as u64,
            bytes: bytes_in_all(copied.iter().map(|copied| &copied.pack), lfs),
            seq: lag.source.head.frontier.seq,
            lag_ms: oldest.map_or(0, |time| self.target.clock().now().duration_since(time).as_millis() as i64).max(0),
            along: false,
        };
        let before = lag.target.as_ref().map(|item| item.head.clone());
        let live = held.as_ref().map_or(0, |held| held.manifest.packs.len()) + copied.len();
        let result = self.apply(lag, folded, &copied, held, &delivered, along).await;
        self.drop_unused(id, &copied, result.as_ref().ok()).await;
        let advanced = result?;
        delivered.along = advanced.ours && !along.is_empty();
        crash_point("applied");
        self.settle_names(before.as_ref(), advanced.item.clone()).await;
        let item = self.target.snapshots().maintain(advanced.item).await;
        self.target.consolidator().maintain_packs(item.id, live).await;
        Ok(delivered)
    }
}

/// Total bytes of packs, their indexes, and LFS objects.
fn bytes_in_all<'a>(packs: impl IntoIterator<Item = &'a LivePack>, lfs: &[LfsObject]) -> u64 {
    let packs = packs.into_iter().flat_map(|pack| [pack.bytes, pack.index_bytes]);
    packs.chain(lfs.iter().map(|object| object.size)).fold(0, u64::saturating_add)
}

/// Returns true if the target moved while the delivery was prepared: plan again.
fn has_moved(error: &RegionError) -> bool {
    use LedgerError::{Lost, ManifestMoved};
    // The delivery copies an upload again that a sweep has claimed, or that is too old to be committed.
    let again = matches!(error, RegionError::Moved { .. } | RegionError::UploadGone { .. });
    again || matches!(error, RegionError::Ledger(Lost { .. } | ManifestMoved { .. }))
}
