//! The state on which a push is decided.

use std::sync::Arc;

use async_trait::async_trait;
use gix::bstr::BStr;
use gix::hash::Kind as Format;

use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::refs::RefsAt;
use crate::ledger::{LedgerError, heads};
use crate::region::commit::Subject;
use crate::region::local::LocalPacks;
use crate::region::manifest::Manifest;
use crate::region::{Region, RegionError, Result, blocking};
use gitferry_git::local::RefPatterns;
use gitferry_git::pack::PackSet;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RefTable, View};

use super::policy::is_hidden;

/// One exact state of a repository, at one revision of its head.
#[derive(Clone, Debug)]
pub struct PushState {
    /// Head at that revision.
    pub item: HeadItem,
    /// Manifest of that state.
    pub manifest: Manifest,
    /// All refs, hidden ones included.
    pub refs: Arc<RefTable>,
    /// View for clients; its packs are those of `local`, in the same order.
    pub view: View,
    /// Live packs as files.
    pub local: Arc<LocalPacks>,
}

/// Revision of a head without a row: the repository does not exist yet.
pub(super) const UNBORN: u64 = 0;

impl PushState {
    /// Returns the subject of a change on top of this state.
    pub(super) fn subject(&self) -> Subject {
        let HeadItem { id, head, revision } = &self.item;
        match *revision {
            UNBORN => Subject::New { id: *id, name: head.name.clone(), format: head.format },
            _ => Subject::Existing(Box::new(self.item.clone())),
        }
    }
}

/// Source of the newest state of one repository; a host caches states between requests.
#[async_trait]
pub trait PushStates: Send + Sync {
    /// Returns the current state. Called again whenever a commit loses against another writer.
    async fn state(&self) -> Result<PushState>;

    /// Waits for the pushes of this process that are about to commit to the repository, so that they do not defeat each
    /// other. `None` if there is no queue, or if the wait would be too long: the conditional write decides anyway.
    async fn commit_permit(&self, _id: RepositoryId) -> Option<CommitPermit> {
        None
    }
}

/// Permit to commit, released on drop.
#[derive(Debug)]
pub struct CommitPermit(#[allow(dead_code)] tokio::sync::OwnedMutexGuard<()>);

impl CommitPermit {
    /// Wraps the guard of a per-repository lock.
    pub fn new(lock: tokio::sync::OwnedMutexGuard<()>) -> Self {
        CommitPermit(lock)
    }
}

/// Reads the whole state afresh each time, at a cost proportional to the number of refs.
#[derive(Clone, Debug)]
pub struct FreshStates {
    /// Region of the repository.
    pub region: Region,
    /// Id of the repository.
    pub id: RepositoryId,
    /// Refs that clients do not see; `None` for none.
    pub hidden: Option<RefPatterns>,
    /// True for links, which see the refs that links keep.
    pub mirror: bool,
}

/// Attempts to read head and manifest of the same state while other writers commit.
const MAX_READS: u32 = 64;

#[async_trait]
impl PushStates for FreshStates {
    async fn state(&self) -> Result<PushState> {
        let region = &self.region;
        for _ in 0..MAX_READS {
            let item = heads::read_head(region.table(), self.id).await?;
            let item = item.ok_or_else(|| RegionError::NoRepository {
                name: self.id.to_string(),
                region: region.name().to_owned(),
            })?;
            let manifest = match region.reader().manifest(&item).await {
                Ok((manifest, _)) => manifest,
                Err(RegionError::Moved { .. }) => continue,
                Err(error) => return Err(error),
            };
            let local = match region.packs().local(&manifest.packs).await {
                Ok(local) => Arc::new(local),
                Err(RegionError::Moved { .. }) => continue,
                Err(error) => return Err(error),
            };
            let refs = region.reader().refs(&item).await?;
            let packs = local.clone();
            let hidden = self.hidden.clone();
            let mirror = self.mirror;
            let head = item.head.clone();
            let spool = region.spool_dir();
            let (refs, view) = blocking(move || {
                let refs = Arc::new(read_table(head.format, refs)?);
                let visible = without(&refs, |name| is_hidden(name, hidden.as_ref(), mirror))?;
                let visible = visible.map_or_else(|| refs.clone(), Arc::new);
                let mut set = PackSet::new(head.format).with_spool(spool);
                for pack in &packs.packs {
                    set.add(&pack.pack, &pack.index)?;
                }
                let recent_tips = Default::default();
                let view =
                    View { format: head.format, head: head.head, refs: visible, packs: Arc::new(set), recent_tips };
                Ok::<_, RegionError>((refs, view))
            })
            .await?;
            return Ok(PushState { item, manifest, refs, view, local });
        }
        Err(RegionError::Moved { repository: self.id.to_string() })
    }
}

fn read_table(format: Format, refs: RefsAt) -> Result<RefTable> {
    let mut table = RefTable::empty(format);
    for entry in refs.open()? {
        let (name, value) = entry?;
        table.push(name, value).map_err(|error| LedgerError::corrupt(error.to_string()))?;
    }
    Ok(table)
}

/// Copies a table without some refs; `None` if the table has none of them.
pub fn without(refs: &RefTable, is_left_out: impl Fn(&BStr) -> bool) -> Result<Option<RefTable>> {
    if !refs.iter().any(|entry| is_left_out(entry.name)) {
        return Ok(None);
    }
    let mut table = RefTable::empty(refs.format());
    for entry in refs.iter().filter(|entry| !is_left_out(entry.name)) {
        let bad = |what: String| LedgerError::corrupt(what);
        let name = RefName::new(entry.name).map_err(|error| bad(error.to_string()))?;
        let value = match (entry.id, refs.symbolic_target(entry.row)) {
            (Some(id), _) => RefValue::Object(id.to_owned()),
            (None, Some(target)) => RefValue::Symbolic(RefName::new(target).map_err(|error| bad(error.to_string()))?),
            (None, None) => continue,
        };
        table.push(name, value).map_err(|error| bad(error.to_string()))?;
    }
    Ok(Some(table))
}
