//! [`States`]: the newest state of the account's repository, at a cost in proportion to what changed since the last one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use gix::ObjectId;

use super::error::{AccountError, Diverged};
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Frontier, HeadItem, RepositoryId, State};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::ledger::log::{ChangeRow, read_chain};
use gitferry_engine::region::local::LocalPacks;
use gitferry_engine::region::push::{PushState, PushStates, Unborn};
use gitferry_engine::region::{Region, RegionError, blocking};
use gitferry_git::pack::PackSet;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RefTable, View};

/// Attempts to read head and manifest of the same state while consolidation replaces packs.
const MAX_READS: u32 = 16;

/// Reads the states of one repository.
#[derive(Debug)]
pub(crate) struct States {
    region: Region,
    id: RepositoryId,
    /// The state before the first change, for a repository that is being created.
    unborn: Option<Unborn>,
    /// Newest state that was read.
    last: Mutex<Option<PushState>>,
}

impl States {
    /// States of the repository `id` of a region. A repository without a head is missing.
    pub fn of(region: Region, id: RepositoryId) -> Self {
        States { region, id, unborn: None, last: Mutex::default() }
    }

    /// States of a repository that is to be created.
    pub fn to_create(region: Region, unborn: Unborn) -> Self {
        States { region, id: unborn.state().item.id, unborn: Some(unborn), last: Mutex::default() }
    }

    /// Returns the region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Returns the id of the repository.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// Reads the newest state. Costs one read of the head if nothing has changed.
    ///
    /// # Errors
    /// [`AccountError::Diverged`] if the state does not follow from the last one, [`AccountError::Gone`] if there is
    /// none.
    pub async fn newest(&self) -> Result<PushState, AccountError> {
        let mut moved = RegionError::Moved { repository: self.id.to_string() };
        for _ in 0..MAX_READS {
            let Some(item) = read_head(self.region.table(), self.id).await? else {
                return self.unborn.as_ref().map(|unborn| unborn.state().clone()).ok_or_else(|| self.gone("missing"));
            };
            if item.head.state == State::Deleted {
                return Err(self.gone("deleted"));
            }
            if !item.head.named {
                return Err(AccountError::Detached { region: self.region.name().to_owned() });
            }
            let last = self.last();
            if let Some(last) = last.as_ref().filter(|last| last.item == item) {
                return Ok(last.clone());
            }
            match self.read(item, last.as_ref()).await {
                Ok(state) => {
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
                    return Ok(state);
                }
                Err(AccountError::Region(error @ RegionError::Moved { .. })) => moved = error,
                Err(error) => return Err(error),
            }
        }
        Err(moved.into())
    }

    fn last(&self) -> Option<PushState> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn gone(&self, gone: &'static str) -> AccountError {
        AccountError::Gone { region: self.region.name().to_owned(), id: self.id, gone }
    }

    async fn read(&self, item: HeadItem, last: Option<&PushState>) -> Result<PushState, AccountError> {
        let region = &self.region;
        let refs = match last {
            Some(last) => self.follow(last, &item).await?,
            None => self.refs(&item).await?,
        };
        let (manifest, _) = region.reader().manifest(&item).await?;
        let known = last.map(|last| last.local.clone());
        let local = Arc::new(region.packs().local_after(&manifest.packs, known.as_deref()).await?);
        let open = last.map(|last| last.view.packs.clone());
        let spool = region.spool_dir();
        let format = item.head.format;
        let packs = local.clone();
        let packs = blocking(move || open_packs(format, &packs, open.as_deref(), &spool)).await?;
        let head = item.head.head.clone();
        let view = View { format, head, refs: refs.clone(), packs: Arc::new(packs), recent_tips: Default::default() };
        Ok(PushState { item, manifest, refs, view, local })
    }

    /// Reads all refs from the log.
    async fn refs(&self, item: &HeadItem) -> Result<Arc<RefTable>, AccountError> {
        let refs = self.region.reader().refs(item).await?;
        let format = item.head.format;
        let table = blocking(move || {
            let mut table = RefTable::empty(format);
            for entry in refs.open()? {
                let (name, value) = entry?;
                table.push(name, value).map_err(|error| LedgerError::corrupt(error.to_string()))?;
            }
            Ok::<_, RegionError>(table)
        });
        Ok(Arc::new(table.await?))
    }

    /// Applies the changes since the last state to its refs, and proves that the newer state follows from it.
    async fn follow(&self, last: &PushState, item: &HeadItem) -> Result<Arc<RefTable>, AccountError> {
        let known = last.item.head.frontier;
        let found = item.head.frontier;
        let region = self.region.name().to_owned();
        if found.seq < known.seq {
            let reason = "its table was rolled back; `gitferry status` and `gitferry verify` show the damage, and a \
                          restart of this process accepts the older state";
            return Err(AccountError::Diverged(Box::new(Diverged { region, known, found, reason })));
        }
        let rows = match read_chain(self.region.table(), self.id, known, found).await {
            Err(LedgerError::Fork { .. }) => {
                let reason = "it has two histories; `gitferry status` names the link and the way out, and a restart of \
                              this process accepts the other history";
                return Err(AccountError::Diverged(Box::new(Diverged { region, known, found, reason })));
            }
            rows => rows?,
        };
        if rows.is_empty() {
            return Ok(last.refs.clone());
        }
        let edits = self.edits(rows).await?;
        let table = last.refs.with_edits(edits).map_err(|error| LedgerError::corrupt(error.to_string()))?;
        Ok(Arc::new(table))
    }

    async fn edits(&self, rows: Vec<ChangeRow>) -> Result<BTreeMap<RefName, Option<RefValue>>, AccountError> {
        let log = self.region.log();
        let id = self.id;
        let edits = blocking(move || {
            let mut edits = BTreeMap::new();
            for row in &rows {
                log.read(id, row, |_, edit| drop(edits.insert(edit.name, edit.new)))?;
            }
            Ok::<_, RegionError>(edits)
        });
        Ok(edits.await?)
    }

    /// Returns the state of the ledger after the change that sets `branch` to a commit: the newest one above `before` up
    /// to `item`. `None` if that change cannot be read.
    pub async fn state_with(
        &self,
        before: &HeadItem,
        item: &HeadItem,
        branch: &str,
        commit: ObjectId,
    ) -> Option<Frontier> {
        let from = before.head.frontier;
        let to = item.head.frontier;
        if to.seq == from.seq + 1 {
            return Some(to);
        }
        let rows = read_chain(self.region.table(), self.id, from, to).await.ok()?;
        for row in rows.into_iter().rev() {
            let frontier = row.frontier();
            let edits = self.edits(vec![row]).await.ok()?;
            let sets = |(name, value): (&RefName, &Option<RefValue>)| {
                name.as_bstr() == branch && value.as_ref().and_then(RefValue::object) == Some(&commit)
            };
            if edits.iter().any(sets) {
                return Some(frontier);
            }
        }
        None
    }

    /// Returns true if the ledger that ends in `state` runs through `frontier`.
    pub async fn contains(&self, state: &PushState, frontier: Frontier) -> Result<bool, AccountError> {
        let tip = state.item.head.frontier;
        if tip.seq < frontier.seq {
            return Ok(false);
        }
        match read_chain(self.region.table(), self.id, frontier, tip).await {
            Ok(_) => Ok(true),
            Err(LedgerError::Fork { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_packs(
    format: gix::hash::Kind,
    local: &LocalPacks,
    open: Option<&PackSet>,
    spool: &Path,
) -> Result<PackSet, RegionError> {
    let files = local.packs.iter().map(|pack| (pack.pack.as_path(), pack.index.as_path()));
    Ok(PackSet::of(format, files, open)?.with_spool(spool.to_owned()))
}

/// The state for a push that lost against another writer.
#[async_trait]
impl PushStates for States {
    async fn state(&self) -> Result<PushState, RegionError> {
        self.newest().await.map_err(|error| match error {
            AccountError::Region(error) => error,
            other => RegionError::Refused { repository: self.id.to_string(), reason: other.to_string() },
        })
    }
}
