//! Warm repositories: one exact state of each, kept in memory as long as its head does not move.
//!
//! A request reads the head once. If that has moved, only the newer changes are read, and the table of refs shares all
//! that they leave as it was. Where the manifest has changed, only packs that are new are opened. Consolidation changes
//! it without the head, so it is read again after some minutes, too.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gix::bstr::ByteSlice;
use jiff::{SignedDuration, Timestamp};

use super::gate::Work;
use super::maintenance::Maintenance;
use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::change::RefEdit;
use gitferry_engine::ledger::head::{Head, HeadItem, RepositoryId};
use gitferry_engine::ledger::log::{ChangeRow, read_chain, read_chain_above};
use gitferry_engine::region::local::LocalPacks;
use gitferry_engine::region::manifest::Manifest;
use gitferry_engine::region::push::{PushState, PushStates, Turn, is_hidden, without};
use gitferry_engine::region::{Region, RegionError, Result, blocking, is_visible};
use gitferry_git::local::RefPatterns;
use gitferry_git::own_refs::{OWN_PREFIX, is_own, is_passing};
use gitferry_git::pack::PackSet;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RecentTips, RefTable, View};

/// Repositories that are kept; the one that was asked for least recently goes first.
const MAX_VIEWS: usize = 1_000;
/// How often head and manifest are read again when somebody commits between the two.
const MAX_READS: usize = 64;
/// A value that a ref had may still be asked for during this time: a client that was told of it is honest.
const RECENT: SignedDuration = SignedDuration::from_mins(10);
/// Most changes that are looked through for such values when a repository is opened cold.
const MAX_RECENT_CHANGES: u64 = 1_000;
/// A manifest is read again after this time: far less than packs that were replaced stay.
const MANIFEST_FRESH: Duration = Duration::from_secs(10 * 60);
/// The longest wait of a push for those before it. Without its turn it competes with them.
const MAX_TURN_WAIT: Duration = Duration::from_secs(10);
/// Most such values of one repository.
const MAX_RECENT_TIPS: usize = 100_000;

/// A repository, open.
#[derive(Clone, Debug)]
pub struct Opened {
    /// One exact state of it: what protocols work on.
    pub state: PushState,
    /// What links see that push here, once one has.
    for_links: OnceLock<Arc<RefTable>>,
    /// The moment when the manifest was read.
    manifest_read: Moment,
}

/// A moment in the life of a host.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    /// Consolidations that the host had done by then.
    consolidations: u64,
}

impl Opened {
    /// The same state, with what was replaced before a moment forgotten.
    fn without_older(&self, since: Timestamp) -> Opened {
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
    /// What readers see of them.
    visible: Arc<RefTable>,
    for_links: OnceLock<Arc<RefTable>>,
    /// What newer changes replaced.
    recent: RecentTips,
}

/// The open repositories of a region.
#[derive(Debug)]
pub struct Views {
    region: Region,
    hidden: Option<RefPatterns>,
    cache: Mutex<Cache>,
    maintenance: Arc<Maintenance>,
    /// Who commits a push to a repository; the others of this host wait.
    turns: Mutex<HashMap<RepositoryId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Cache {
    ids: HashMap<String, RepositoryId>,
    open: HashMap<RepositoryId, (u64, Arc<Opened>)>,
    clock: u64,
}

impl Views {
    /// No repository is open yet. Refs that `hidden` takes are shown to nobody, and gitferry's own neither then: what
    /// they keep may be what is hidden. What is on its way is shown to links alone.
    pub fn new(region: Region, hidden: Option<RefPatterns>) -> Self {
        let maintenance = Maintenance::new(region.clone());
        Views { region, hidden, cache: Mutex::default(), maintenance, turns: Mutex::default() }
    }

    /// A repository in the state that it has now. One read of the table when it is warm.
    pub async fn open(&self, name: &str) -> Result<Arc<Opened>> {
        for _ in 0..MAX_READS {
            let item = self.head(name).await?;
            match self.open_at(item).await {
                Err(RegionError::Moved { .. }) => {}
                Ok(opened) => {
                    self.maintenance.note(&opened.state.item, opened.state.manifest.packs.len());
                    self.remember(name, opened.state.item.id);
                    return Ok(opened);
                }
                Err(error) => return Err(error),
            }
        }
        Err(RegionError::Moved { repository: name.into() })
    }

    /// [`Views::open`] for a request that began with the repository `id`.
    ///
    /// # Errors
    /// [`RegionError::Replaced`] when the name means another repository by now, or none.
    pub async fn open_same(&self, name: &str, id: RepositoryId) -> Result<Arc<Opened>> {
        let replaced = || RegionError::Replaced { name: name.into(), region: self.region.name.clone(), id };
        match self.open(name).await {
            Ok(opened) if opened.state.item.id == id => Ok(opened),
            Ok(_) | Err(RegionError::NoRepository { .. }) => Err(replaced()),
            Err(error) => Err(error),
        }
    }

    /// Starts the maintenance that a push has made necessary: no later request need come. Within a runtime.
    pub fn committed(&self, item: &HeadItem, packs: usize) {
        self.maintenance.note(item, packs);
    }

    /// The state that a push is decided on. Links (`mirror`) also see what they keep.
    pub async fn for_push(&self, opened: &Arc<Opened>, mirror: bool) -> Result<PushState> {
        let mut state = opened.state.clone();
        if mirror && !state.refs.with_prefix(OWN_PREFIX.as_bytes()).is_empty() {
            let (opened, hidden) = (opened.clone(), self.hidden.clone());
            state.view.refs = blocking(move || opened.for_links(hidden.as_ref())).await?;
        }
        Ok(state)
    }

    async fn open_at(&self, item: HeadItem) -> Result<Arc<Opened>> {
        let known = self.cached(item.id);
        if let Some(known) = &known
            && known.state.item.revision == item.revision
            && self.is_fresh(known.manifest_read)
        {
            let since = self.recent_since();
            if known.state.view.recent_tips.first_time().is_none_or(|time| time >= since) {
                return Ok(known.clone());
            }
            // Nothing has changed, but what was replaced a short while ago no longer was.
            let opened = Arc::new(known.without_older(since));
            self.keep(opened.clone());
            return Ok(opened);
        }
        let opened = Arc::new(self.refresh(item, known.as_deref()).await?);
        self.keep(opened.clone());
        Ok(opened)
    }

    /// The head of a repository.
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

    fn cached(&self, id: RepositoryId) -> Option<Arc<Opened>> {
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

    fn keep(&self, opened: Arc<Opened>) {
        let Ok(mut cache) = self.cache.lock() else { return };
        cache.clock += 1;
        let now = cache.clock;
        let id = opened.state.item.id;
        let newer = |(_, held): &(u64, Arc<Opened>)| held.state.item.revision > opened.state.item.revision;
        if !cache.open.get(&id).is_some_and(newer) {
            cache.open.insert(id, (now, opened));
        }
        // Open repositories hold their packs in the cache.
        let crowded = cache.open.len() > 1 && self.region.cache.is_full();
        if (cache.open.len() > MAX_VIEWS || crowded)
            && let Some(oldest) = cache.open.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        {
            cache.open.remove(&oldest);
            cache.ids.retain(|_, id| *id != oldest);
        }
    }

    /// What was replaced before this moment may no longer be asked for.
    fn recent_since(&self) -> Timestamp {
        self.region.clock.now().checked_sub(RECENT).unwrap_or(Timestamp::MIN)
    }

    fn now(&self) -> Moment {
        Moment { at: Instant::now(), consolidations: self.maintenance.consolidations() }
    }

    fn is_fresh(&self, read: Moment) -> bool {
        read.at.elapsed() < MANIFEST_FRESH && read.consolidations == self.maintenance.consolidations()
    }

    async fn refresh(&self, item: HeadItem, known: Option<&Opened>) -> Result<Opened> {
        let mut refs = match known {
            Some(known) => match self.follow(&item, known).await {
                // Moved back, as after a promotion elsewhere: nothing of what is known need hold.
                Err(RegionError::Ledger(LedgerError::Fork { .. })) => self.load(&item).await?,
                followed => followed?,
            },
            None => self.load(&item).await?,
        };
        forget_older(&mut refs.recent, self.recent_since());
        let same = |known: &&Opened| {
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
        Ok(Opened { state, for_links, manifest_read })
    }

    /// The live packs; those that are open already stay so.
    async fn open_packs(
        &self,
        item: &HeadItem,
        known: Option<&Opened>,
    ) -> Result<(Manifest, Arc<LocalPacks>, Arc<PackSet>, Moment)> {
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

    /// All refs from snapshot and log, and the values that the newest changes replaced.
    async fn load(&self, item: &HeadItem) -> Result<Refs> {
        let refs = self.region.refs(item).await?;
        let from = item.head.frontier.seq.saturating_sub(MAX_RECENT_CHANGES).max(item.head.floor);
        let rows = read_chain_above(&*self.region.table, item.id, from, item.head.frontier).await?;
        let (log, id, format, hidden) = (self.region.log(), item.id, item.head.format, self.hidden.clone());
        let since = self.recent_since();
        blocking(move || {
            let mut table = RefTable::empty(format);
            for entry in refs.open()? {
                let (name, value) = entry?;
                table.push(name, value).map_err(|error| LedgerError::Corrupt(error.to_string()))?;
            }
            let mut recent = RecentTips::default();
            for row in rows.iter().filter(|row| row.facts.time >= since) {
                log.read(id, row, |header, edit| note_old(&mut recent, hidden.as_ref(), header.time, &edit))?;
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

    /// The refs of a state that follows a known one: its tables with the newer changes merged in.
    async fn follow(&self, item: &HeadItem, known: &Opened) -> Result<Refs> {
        let from = known.state.item.head.frontier;
        let rows: Vec<ChangeRow> = read_chain(&*self.region.table, item.id, from, item.head.frontier).await?;
        let (log, id, hidden) = (self.region.log(), item.id, self.hidden.clone());
        let (old, mut recent) = (known.state.refs.clone(), known.state.view.recent_tips.clone());
        let (shown, linked) = (known.state.view.refs.clone(), known.for_links.get().cloned());
        blocking(move || {
            let mut edits: Edits = BTreeMap::new();
            for row in &rows {
                log.read(id, row, |header, edit| {
                    note_old(&mut recent, hidden.as_ref(), header.time, &edit);
                    edits.insert(edit.name, edit.new);
                })?;
            }
            let all = match edits.is_empty() {
                true => old.clone(),
                false => Arc::new(edited(&old, edits.clone())?),
            };
            let whole = (&old, &all);
            let visible = part_after(&shown, whole, &edits, |name| is_hidden_from_readers(name, hidden.as_ref()))?;
            let for_links = OnceLock::new();
            if let Some(linked) = linked {
                let _ =
                    for_links.set(part_after(&linked, whole, &edits, |name| is_hidden(name, hidden.as_ref(), true))?);
            }
            Ok(Refs { all, visible, for_links, recent })
        })
        .await
    }

    /// Waits for the pushes to a repository that came before; `None` after [`MAX_TURN_WAIT`].
    async fn turn(&self, id: RepositoryId, work: &Work) -> Option<Turn> {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that no push holds or waits for are only in the map.
            turns.retain(|other, lock| *other == id || Arc::strong_count(lock) > 1);
            turns.entry(id).or_default().clone()
        };
        if let Ok(turn) = lock.clone().try_lock_owned() {
            return Some(Turn::new(turn));
        }
        let turn = work.pause_async(tokio::time::timeout(MAX_TURN_WAIT, lock.lock_owned())).await;
        turn.ok().map(Turn::new)
    }
}

/// New values of refs; none where a ref goes.
type Edits = BTreeMap<RefName, Option<RefValue>>;

fn edited(table: &RefTable, edits: Edits) -> Result<RefTable> {
    Ok(table.with_edits(edits).map_err(|error| LedgerError::Corrupt(error.to_string()))?)
}

/// What is shown of a table after some edits, made of what was shown before; `whole` is the table before and after.
fn part_after(
    part: &Arc<RefTable>,
    whole: (&Arc<RefTable>, &Arc<RefTable>),
    edits: &Edits,
    is_left_out: impl Fn(&[u8]) -> bool,
) -> Result<Arc<RefTable>> {
    let shown = |name: &&RefName| !is_left_out(name.as_bytes());
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

/// The states of one repository, for a push that may have to be decided several times.
#[derive(Debug)]
pub struct StatesOf {
    /// Where they are kept.
    pub views: Arc<Views>,
    /// The repository's name.
    pub name: String,
    /// Its id: a push that began with it goes to no other, whatever the name means meanwhile.
    pub id: RepositoryId,
    /// Whether links push to it.
    pub mirror: bool,
    /// The right to compute of the push, which it gives back while it waits.
    pub work: Arc<Work>,
}

#[async_trait]
impl PushStates for StatesOf {
    async fn state(&self) -> Result<PushState> {
        self.views.for_push(&self.views.open_same(&self.name, self.id).await?, self.mirror).await
    }

    async fn turn(&self, id: RepositoryId) -> Option<Turn> {
        self.views.turn(id, &self.work).await
    }
}

/// States for a push that commits in its turn among those of this host, and lets others compute while it waits.
#[derive(Clone, Copy)]
pub struct InTurn<'a> {
    /// The states.
    pub states: &'a dyn PushStates,
    /// The queue.
    pub views: &'a Views,
    /// The right to compute of the push.
    pub work: &'a Work,
}

impl std::fmt::Debug for InTurn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InTurn").field("work", self.work).finish_non_exhaustive()
    }
}

#[async_trait]
impl PushStates for InTurn<'_> {
    async fn state(&self) -> Result<PushState> {
        self.states.state().await
    }

    async fn turn(&self, id: RepositoryId) -> Option<Turn> {
        self.views.turn(id, self.work).await
    }
}

/// Whether those who fetch may not see a ref.
fn is_hidden_from_readers(name: &[u8], hidden: Option<&RefPatterns>) -> bool {
    match hidden {
        None => is_passing(name),
        Some(hidden) => is_own(name) || hidden.matches(name.as_bstr()),
    }
}

fn forget_older(recent: &mut RecentTips, since: Timestamp) {
    while recent.first_time().is_some_and(|time| time < since) || recent.len() > MAX_RECENT_TIPS {
        recent.forget_first();
    }
}

fn note_old(recent: &mut RecentTips, hidden: Option<&RefPatterns>, time: Timestamp, edit: &RefEdit) {
    if let Some(RefValue::Object(old)) = &edit.old
        && !is_hidden_from_readers(edit.name.as_bytes(), hidden)
    {
        recent.push(time, *old);
    }
}
