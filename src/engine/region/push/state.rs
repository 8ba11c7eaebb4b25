//! The state that a push is decided on.

use std::sync::Arc;

use async_trait::async_trait;
use gix::bstr::BStr;
use gix::hash::Kind as Format;

use crate::ledger::head::{HeadItem, RepositoryId};
use crate::ledger::refs::RefsAt;
use crate::ledger::{LedgerError, advance};
use crate::region::local::LocalPacks;
use crate::region::manifest::Manifest;
use crate::region::{Region, RegionError, Result, blocking};
use gitferry_git::local::RefPatterns;
use gitferry_git::pack::PackSet;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RefTable, View};

use super::is_hidden;

/// One exact state of a repository: all that belongs to one revision of its head.
#[derive(Clone, Debug)]
pub struct PushState {
    /// The head.
    pub item: HeadItem,
    /// The manifest that belongs to it.
    pub manifest: Manifest,
    /// All refs, hidden ones too.
    pub refs: Arc<RefTable>,
    /// What clients see; its packs are those of `local`, in that order.
    pub view: View,
    /// The live packs as files.
    pub local: Arc<LocalPacks>,
}

/// Where the newest state of one repository comes from; a host keeps states between requests.
#[async_trait]
pub trait PushStates: Send + Sync {
    /// The state now. Called again whenever a commit has lost against another.
    async fn state(&self) -> Result<PushState>;

    /// Waits for the pushes of this process that are about to commit to the repository, so that they do not defeat each
    /// other. `None` where there is no queue, or where the wait would be too long: the conditions of the commit decide.
    async fn turn(&self, _id: RepositoryId) -> Option<Turn> {
        None
    }
}

/// A push's turn to commit; the next one's begins when this is dropped.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code)] tokio::sync::OwnedMutexGuard<()>);

impl Turn {
    /// Holds a lock.
    pub fn new(lock: tokio::sync::OwnedMutexGuard<()>) -> Self {
        Turn(lock)
    }
}

/// Reads everything afresh each time, which costs as much as there are refs.
#[derive(Clone, Debug)]
pub struct FreshStates {
    /// The region.
    pub region: Region,
    /// The repository.
    pub id: RepositoryId,
    /// Refs that clients do not see; `None` for none.
    pub hidden: Option<RefPatterns>,
    /// Whether they are for a link, which sees what links keep.
    pub mirror: bool,
}

/// How often head and manifest are read again when somebody commits between the two.
const MAX_READS: u32 = 64;

#[async_trait]
impl PushStates for FreshStates {
    async fn state(&self) -> Result<PushState> {
        let region = &self.region;
        for _ in 0..MAX_READS {
            let item = advance::read_head(&*region.table, self.id).await?;
            let item = item
                .ok_or_else(|| RegionError::NoRepository { name: self.id.to_string(), region: region.name.clone() })?;
            let manifest = match region.manifest(&item).await {
                Ok((manifest, _)) => manifest,
                Err(RegionError::Moved { .. }) => continue,
                Err(error) => return Err(error),
            };
            let local = match region.local_packs(&manifest.packs).await {
                Ok(local) => Arc::new(local),
                Err(RegionError::Moved { .. }) => continue,
                Err(error) => return Err(error),
            };
            let refs = region.refs(&item).await?;
            let (packs, hidden, mirror, head) = (local.clone(), self.hidden.clone(), self.mirror, item.head.clone());
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

/// The table without some refs; `None` where it has none of them.
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
