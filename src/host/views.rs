//! Cache of open repositories: one exact state of each, kept in memory until its head moves.
//!
//! A request reads the head once. If the head has moved, only the newer changes are read, and the new table of refs
//! shares its unchanged parts with the old one. If the manifest has changed, only new packs are opened. Consolidation
//! changes the manifest without moving the head, so the manifest is also read again after [`MANIFEST_MAX_AGE`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gix::bstr::ByteSlice;
use jiff::{SignedDuration, Timestamp};

use super::admission::ComputePermit;
use super::maintenance::Maintenance;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::change::RefEdit;
use gitferry_engine::ledger::head::{Head, HeadItem, RepositoryId};
use gitferry_engine::ledger::log::{ChangeRow, read_chain, read_chain_above};
use gitferry_engine::region::local::LocalPacks;
use gitferry_engine::region::manifest::Manifest;
use gitferry_engine::region::push::{CommitPermit, PushState, PushStates, is_hidden, without};
use gitferry_engine::region::{Region, RegionError, Result, blocking, is_visible};
use gitferry_git::local::RefPatterns;
use gitferry_git::own_refs::{OWN_PREFIX, is_own, is_transit_ref};
use gitferry_git::pack::PackSet;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RecentTips, RefTable, View};

/// Most repositories in the cache; the least recently used one is evicted first.
const MAX_VIEWS: usize = 1_000;
/// Most attempts to read head and manifest when a commit falls between the two reads.
const MAX_READS: usize = 64;
/// Time for which the replaced value of a ref may still be wanted: it was in an advertisement shortly before.
const RECENT_TIPS_MAX_AGE: SignedDuration = SignedDuration::from_mins(10);
/// Most changes that are read for replaced values when a repository is opened that is not in the cache.
const MAX_RECENT_CHANGES: u64 = 1_000;
/// Age at which a manifest is read again. Far shorter than the time for which replaced packs are kept.
const MANIFEST_MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// Longest wait of a push for earlier pushes to the same repository. After that it competes with them for the head.
const MAX_TURN_WAIT: Duration = Duration::from_secs(10);
/// Most replaced values that are kept per repository.
const MAX_RECENT_TIPS: usize = 100_000;

/// An open repository.
#[derive(Clone, Debug)]
pub struct OpenRepository {
    /// One exact state, on which the protocols work.
    pub state: PushState,
    /// Refs as links see them that push here; set by the first such push.
    for_links: OnceLock<Arc<RefTable>>,
    manifest_read: ReadTime,
}

/// Time at which a manifest was read.
#[derive(Clone, Copy, Debug)]
struct ReadTime {
    at: Instant,
    /// Consolidations that this host had done by then.
    consolidations: u64,
}

impl OpenRepository {
    /// The same state without the values that were replaced before `since`.
    fn without_older_tips(&self, since: Timestamp) -> OpenRepository {
        let mut opened = self.clone();
        forget_older(&mut opened.state.view.recent_tips, since);
        opened
    }

    fn for_links(&self, hidden: Option<&RefPatterns>) -> Result<Arc<RefTable>> {
        if let Some(refs) = self.for_links.get() {
            return Ok(refs.clone());
        }
        let refs = without(&self.state.refs, |name| is_hidden(name, hidden, true))?;
        let refs = refs.map_or_else(|| self.state.refs.clone(), Arc::new);
        Ok(self.for_links.get_or_init(|| refs).clone())
    }
}

/// The refs of a state.
struct Refs {
    all: Arc<RefTable>,
    /// Refs as readers see them.
    visible: Arc<RefTable>,
    for_links: OnceLock<Arc<RefTable>>,
    /// Values that recent changes replaced.
    recent: RecentTips,
}

/// The open repositories of a region.
#[derive(Debug)]
pub struct Views {
    region: Region,
    hidden: Option<RefPatterns>,
    cache: Mutex<Cache>,
    maintenance: Arc<Maintenance>,
    /// Queues of the pushes to each repository: those of this host commit one at a time.
    push_queues: Mutex<HashMap<RepositoryId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Cache {
    ids: HashMap<String, RepositoryId>,
    open: HashMap<RepositoryId, (u64, Arc<OpenRepository>)>,
    clock: u64,
}

impl Views {
    /// Starts with an empty cache. Refs that match `hidden` are shown to no client. With `hidden`, gitferry's own refs
    /// are hidden, too, as they may keep hidden objects reachable. Refs of transfers in progress are shown to links
    /// alone.
    pub fn new(region: Region, hidden: Option<RefPatterns>) -> Self {
        let maintenance = Maintenance::new(region.clone());
        Views { region, hidden, cache: Mutex::default(), maintenance, push_queues: Mutex::default() }
    }

    /// Opens a repository in its current state. Reads the table once if the cache is up to date.
    ///
    /// # Errors
    /// [`RegionError::NoRepository`], and [`RegionError::Moved`] if commits keep falling between the reads.
    pub async fn open(&self, name: &str) -> Result<Arc<OpenRepository>> {
        for _ in 0..MAX_READS {
            let item = self.head(name).await?;
            match self.open_at(item).await {
                Err(RegionError::Moved { .. }) => {}
                Ok(opened) => {
                    self.maintenance.request(&opened.state.item, opened.state.manifest.packs.len());
                    self.remember(name, opened.state.item.id);
                    return Ok(opened);
                }
                Err(error) => return Err(error),
            }
        }
        Err(RegionError::Moved { repository: name.into() })
    }

    /// Opens the repository `id`, with which a request began, under its name.
    ///
    /// # Errors
    /// [`RegionError::Replaced`] if the name denotes another repository by now, or none. Otherwise as [`Views::open`].
    pub async fn open_by_id(&self, name: &str, id: RepositoryId) -> Result<Arc<OpenRepository>> {
        let replaced = || RegionError::Replaced { name: name.into(), region: self.region.name.clone(), id };
        match self.open(name).await {
            Ok(opened) if opened.state.item.id == id => Ok(opened),
            Ok(_) | Err(RegionError::NoRepository { .. }) => Err(replaced()),
            Err(error) => Err(error),
        }
    }

    /// Starts the maintenance that a push has made necessary, without waiting for the next request. Call it within a
    /// runtime.
    pub fn committed(&self, item: &HeadItem, packs: usize) {
        self.maintenance.request(item, packs);
    }

    /// The state that a push is checked against. Links (`mirror`) also see the refs that gitferry keeps for them.
    pub async fn for_push(&self, opened: &Arc<OpenRepository>, mirror: bool) -> Result<PushState> {
        let mut state = opened.state.clone();
        if mirror && !state.refs.with_prefix(OWN_PREFIX.as_bytes()).is_empty() {
            let opened = opened.clone();
            let hidden = self.hidden.clone();
            state.view.refs = blocking(move || opened.for_links(hidden.as_ref())).await?;
        }
        Ok(state)
    }

    async fn open_at(&self, item: HeadItem) -> Result<Arc<OpenRepository>> {
        let known = self.cached(item.id);
        if let Some(known) = &known
            && known.state.item.revision == item.revision
            && self.is_fresh(known.manifest_read)
        {
            let since = self.recent_since();
            if known.state.view.recent_tips.first_time().is_none_or(|time| time >= since) {
                return Ok(known.clone());
            }
            // The state is current, but some of its replaced values have become too old.
            let opened = Arc::new(known.without_older_tips(since));
            self.insert(opened.clone());
            return Ok(opened);
        }
        let opened = Arc::new(self.refresh(item, known.as_deref()).await?);
        self.insert(opened.clone());
        Ok(opened)
    }

    /// Reads the head of a repository.
    pub(super) async fn head(&self, name: &str) -> Result<HeadItem> {
        let known = self.cache.lock().ok().and_then(|cache| cache.ids.get(name).copied());
        if let Some(id) = known
            && let Some(item) = read_head(&*self.region.table, id).await?
            && item.head.named
            && item.head.name == name
        {
            return Ok(item);
        }
        let found = self.region.find(name).await?.filter(|item| is_visible(&item.head));
        found.ok_or_else(|| RegionError::NoRepository { name: name.into(), region: self.region.name.clone() })
    }

    fn cached(&self, id: RepositoryId) -> Option<Arc<OpenRepository>> {
        let mut cache = self.cache.lock().ok()?;
        cache.clock += 1;
        let now = cache.clock;
        let (used, opened) = cache.open.get_mut(&id)?;
        *used = now;
        Some(opened.clone())
    }

    fn remember(&self, name: &str, id: RepositoryId) {
        if let Ok(mut cache) = self.cache.lock() {
            cache.ids.insert(name.into(), id);
        }
    }

    fn insert(&self, opened: Arc<OpenRepository>) {
        let Ok(mut cache) = self.cache.lock() else { return };
        cache.clock += 1;
        let now = cache.clock;
        let id = opened.state.item.id;
        let newer = |(_, held): &(u64, Arc<OpenRepository>)| held.state.item.revision > opened.state.item.revision;
        if !cache.open.get(&id).is_some_and(newer) {
            cache.open.insert(id, (now, opened));
        }
        // An open repository keeps its packs in the pack cache, which cannot evict them.
        let crowded = cache.open.len() > 1 && self.region.cache.is_full();
        if (cache.open.len() > MAX_VIEWS || crowded)
            && let Some(oldest) = cache.open.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        {
            cache.open.remove(&oldest);
            cache.ids.retain(|_, id| *id != oldest);
        }
    }

    /// Values that were replaced before this time may no longer be wanted.
    fn recent_since(&self) -> Timestamp {
        self.region.clock.now().checked_sub(RECENT_TIPS_MAX_AGE).unwrap_or(Timestamp::MIN)
    }

    fn now(&self) -> ReadTime {
        ReadTime { at: Instant::now(), consolidations: self.maintenance.consolidations() }
    }

    fn is_fresh(&self, read: ReadTime) -> bool {
        read.at.elapsed() < MANIFEST_MAX_AGE && read.consolidations == self.maintenance.consolidations()
    }

    async fn refresh(&self, item: HeadItem, known: Option<&OpenRepository>) -> Result<OpenRepository> {
        let mut refs = match known {
            Some(known) => match self.follow(&item, known).await {
                // The ledger no longer contains the cached frontier, as after a promotion elsewhere: load everything.
                Err(RegionError::Ledger(LedgerError::Fork { .. })) => self.load(&item).await?,
                followed => followed?,
            },
            None => self.load(&item).await?,
        };
        forget_older(&mut refs.recent, self.recent_since());
        let same = |known: &&OpenRepository| {
            known.state.item.head.manifest == item.head.manifest && self.is_fresh(known.manifest_read)
        };
        let (manifest, local, packs, manifest_read) = match known.filter(same) {
            Some(known) => {
                let PushState { manifest, local, view, .. } = &known.state;
                (manifest.clone(), local.clone(), view.packs.clone(), known.manifest_read)
            }
            None => self.open_packs(&item, known).await?,
        };
        let Refs { all, visible, for_links, recent: recent_tips } = refs;
        let Head { format, head, .. } = item.head.clone();
        let view = View { format, head, refs: visible, packs, recent_tips };
        let state = PushState { item, manifest, refs: all, view, local };
        Ok(OpenRepository { state, for_links, manifest_read })
    }

    /// Opens the packs of the manifest. Packs that `known` has open are reused.
    async fn open_packs(
        &self,
        item: &HeadItem,
        known: Option<&OpenRepository>,
    ) -> Result<(Manifest, Arc<LocalPacks>, Arc<PackSet>, ReadTime)> {
        let now = self.now();
        let (manifest, _) = self.region.manifest(item).await?;
        if let Some(known) = known.filter(|known| known.state.manifest.generation == manifest.generation) {
            return Ok((manifest, known.state.local.clone(), known.state.view.packs.clone(), now));
        }
        let held = known.map(|known| &*known.state.local);
        let local = Arc::new(self.region.local_packs_after(&manifest.packs, held).await?);
        let spool = self.region.spool_dir();
        let (files, format, open) =
            (local.clone(), item.head.format, known.map(|known| known.state.view.packs.clone()));
        let opening = move || {
            let files = files.packs.iter().map(|pack| (pack.pack.as_path(), pack.index.as_path()));
            Ok::<_, RegionError>(PackSet::of(format, files, open.as_deref())?.with_spool(spool))
        };
        Ok((manifest, local, Arc::new(blocking(opening).await?), now))
    }

    /// Loads all refs from snapshot and log, and the values that recent changes replaced.
    async fn load(&self, item: &HeadItem) -> Result<Refs> {
        let refs = self.region.refs(item).await?;
        let from = item.head.frontier.seq.saturating_sub(MAX_RECENT_CHANGES).max(item.head.floor);
        let rows = read_chain_above(&*self.region.table, item.id, from, item.head.frontier).await?;
        let log = self.region.log();
        let id = item.id;
        let format = item.head.format;
        let hidden = self.hidden.clone();
        let since = self.recent_since();
        blocking(move || {
            let mut table = RefTable::empty(format);
            for entry in refs.open()? {
                let (name, value) = entry?;
                table.push(name, value).map_err(|error| LedgerError::Corrupt(error.to_string()))?;
            }
            let mut recent = RecentTips::default();
            for row in rows.iter().filter(|row| row.facts.time >= since) {
                log.read(id, row, |header, edit| note_replaced(&mut recent, hidden.as_ref(), header.time, &edit))?;
            }
            let visible = match &hidden {
                None if table.with_prefix(OWN_PREFIX.as_bytes()).is_empty() => None,
                hidden => without(&table, |name| is_hidden_from_readers(name, hidden.as_ref()))?,
            };
            let all = Arc::new(table);
            let visible = visible.map_or_else(|| all.clone(), Arc::new);
            Ok(Refs { all, visible, for_links: OnceLock::new(), recent })
        })
        .await
    }

    /// Derives the refs of a newer state: the tables of `known` with the changes since then.
    async fn follow(&self, item: &HeadItem, known: &OpenRepository) -> Result<Refs> {
        let from = known.state.item.head.frontier;
        let rows: Vec<ChangeRow> = read_chain(&*self.region.table, item.id, from, item.head.frontier).await?;
        let log = self.region.log();
        let id = item.id;
        let hidden = self.hidden.clone();
        let old = known.state.refs.clone();
        let mut recent = known.state.view.recent_tips.clone();
        let shown = known.state.view.refs.clone();
        let linked = known.for_links.get().cloned();
        blocking(move || {
            let mut edits: Edits = BTreeMap::new();
            for row in &rows {
                log.read(id, row, |header, edit| {
                    note_replaced(&mut recent, hidden.as_ref(), header.time, &edit);
                    edits.insert(edit.name, edit.new);
                })?;
            }
            let all = if edits.is_empty() { old.clone() } else { Arc::new(edited(&old, edits.clone())?) };
            let whole = (&old, &all);
            let visible = subset_after(&shown, whole, &edits, |name| is_hidden_from_readers(name, hidden.as_ref()))?;
            let for_links = OnceLock::new();
            if let Some(linked) = linked {
                let _ =
                    for_links.set(subset_after(&linked, whole, &edits, |name| is_hidden(name, hidden.as_ref(), true))?);
            }
            Ok(Refs { all, visible, for_links, recent })
        })
        .await
    }

    /// Waits for earlier pushes to a repository; `None` after [`MAX_TURN_WAIT`].
    async fn commit_permit(&self, id: RepositoryId, compute: &ComputePermit) -> Option<CommitPermit> {
        let lock = {
            let mut queues = self.push_queues.lock().unwrap_or_else(PoisonError::into_inner);
            // A queue that no push holds or waits for has no reference but the one in the map.
            queues.retain(|other, lock| *other == id || Arc::strong_count(lock) > 1);
            queues.entry(id).or_default().clone()
        };
        if let Ok(turn) = lock.clone().try_lock_owned() {
            return Some(CommitPermit::new(turn));
        }
        let turn = compute.release_while_awaiting(tokio::time::timeout(MAX_TURN_WAIT, lock.lock_owned())).await;
        turn.ok().map(CommitPermit::new)
    }
}

/// New values of refs by name; `None` deletes a ref.
type Edits = BTreeMap<RefName, Option<RefValue>>;

fn edited(table: &RefTable, edits: Edits) -> Result<RefTable> {
    Ok(table.with_edits(edits).map_err(|error| LedgerError::Corrupt(error.to_string()))?)
}

/// The visible subset of a table after some edits, derived from the subset before them; `whole` is the full table
/// before and after.
fn subset_after(
    part: &Arc<RefTable>,
    whole: (&Arc<RefTable>, &Arc<RefTable>),
    edits: &Edits,
    is_hidden: impl Fn(&[u8]) -> bool,
) -> Result<Arc<RefTable>> {
    let shown = |name: &&RefName| !is_hidden(name.as_bytes());
    if Arc::ptr_eq(part, whole.0) && edits.keys().all(|name| shown(&name)) {
        return Ok(whole.1.clone());
    }
    let edits = edits.iter().filter(|(name, _)| shown(name)).map(|(name, value)| (name.clone(), value.clone()));
    let edits: Edits = edits.collect();
    if edits.is_empty() {
        return Ok(part.clone());
    }
    Ok(Arc::new(edited(part, edits)?))
}

/// The current state of one repository, for a push that reads it again after each conflict.
#[derive(Debug)]
pub struct RepositoryStates {
    /// Cache that opens the repository.
    pub views: Arc<Views>,
    /// Name of the repository.
    pub name: String,
    /// Id of the repository with which the push began. The push never goes to another one, even if the name changes
    /// hands.
    pub id: RepositoryId,
    /// True if links push to this repository (`mirror` of the push policy).
    pub mirror: bool,
    /// Compute permit of the push, released while it waits.
    pub compute: Arc<ComputePermit>,
}

#[async_trait]
impl PushStates for RepositoryStates {
    async fn state(&self) -> Result<PushState> {
        self.views.for_push(&self.views.open_by_id(&self.name, self.id).await?, self.mirror).await
    }

    async fn commit_permit(&self, id: RepositoryId) -> Option<CommitPermit> {
        self.views.commit_permit(id, &self.compute).await
    }
}

/// States for a push that queues with the other pushes of this host, and releases its compute permit while it waits.
#[derive(Clone, Copy)]
pub struct QueuedStates<'a> {
    /// States of the repository.
    pub states: &'a dyn PushStates,
    /// Cache with the queues of pushes.
    pub views: &'a Views,
    /// Compute permit of the push.
    pub compute: &'a ComputePermit,
}

impl std::fmt::Debug for QueuedStates<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueuedStates").field("compute", self.compute).finish_non_exhaustive()
    }
}

#[async_trait]
impl PushStates for QueuedStates<'_> {
    async fn state(&self) -> Result<PushState> {
        self.states.state().await
    }

    async fn commit_permit(&self, id: RepositoryId) -> Option<CommitPermit> {
        self.views.commit_permit(id, self.compute).await
    }
}

/// Returns true if fetches may not see a ref.
fn is_hidden_from_readers(name: &[u8], hidden: Option<&RefPatterns>) -> bool {
    match hidden {
        None => is_transit_ref(name),
        Some(hidden) => is_own(name) || hidden.matches(name.as_bstr()),
    }
}

fn forget_older(recent: &mut RecentTips, since: Timestamp) {
    while recent.first_time().is_some_and(|time| time < since) || recent.len() > MAX_RECENT_TIPS {
        recent.forget_first();
    }
}

fn note_replaced(recent: &mut RecentTips, hidden: Option<&RefPatterns>, time: Timestamp, edit: &RefEdit) {
    if let Some(RefValue::Object(old)) = &edit.old
        && !is_hidden_from_readers(edit.name.as_bytes(), hidden)
    {
        recent.push(time, *old);
    }
}
