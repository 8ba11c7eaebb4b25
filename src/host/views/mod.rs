//! Cache of open repositories: one exact state of each, kept in memory until its head moves.
//!
//! A request reads the head once. If the head has moved, only the newer changes are read, and the new table of refs
//! shares its unchanged parts with the old one. If the manifest has changed, only new packs are opened. Consolidation
//! changes the manifest without moving the head, so the manifest is also read again after ten minutes.

mod cache;
pub mod maintenance;
mod open_repository;
mod refs;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use cache::Cache;
use maintenance::Maintenance;
pub use open_repository::OpenRepository;
use open_repository::ReadTime;
use refs::{Refs, forget_older};

use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::head::{Head, HeadItem, RepositoryId};
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::local::LocalPacks;
use gitferry_engine::region::manifest::Manifest;
use gitferry_engine::region::push::PushState;
use gitferry_engine::region::{Region, RegionError, Result, blocking, is_visible};
use gitferry_git::local::RefPatterns;
use gitferry_git::own_refs::OWN_PREFIX;
use gitferry_git::pack::PackSet;
use gitferry_git::view::{RefTable, View};

/// Most attempts to read head and manifest when a commit falls between the two reads.
const MAX_READS: usize = 64;
/// Most refs of a repository that are read for one request without opening its packs. A repository with more refs is
/// opened, and stays in the cache.
const FEW_REFS: u64 = 1_000;
/// Time for which the replaced value of a ref may still be wanted: it was in an advertisement shortly before.
const RECENT_TIPS_MAX_AGE: SignedDuration = SignedDuration::from_mins(10);

/// The open repositories of a region.
#[derive(Debug)]
pub struct Views {
    region: Region,
    hidden: Option<RefPatterns>,
    cache: Cache,
    maintenance: Arc<Maintenance>,
}

impl Views {
    /// Starts with an empty cache. Refs that match `hidden` are shown to no client. With `hidden`, gitferry's own refs
    /// are hidden, too, as they may keep hidden objects reachable. Refs of transfers in progress are shown to links
    /// alone.
    pub fn new(region: Region, hidden: Option<RefPatterns>) -> Self {
        let maintenance = Maintenance::new(region.clone());
        Views { region, hidden, cache: Cache::default(), maintenance }
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
                    self.maintenance.request(&opened.state().item, opened.state().manifest.packs.len());
                    self.cache.remember(name, opened.state().item.id);
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
        let replaced = || RegionError::Replaced { name: name.into(), region: self.region.name().to_owned(), id };
        match self.open(name).await {
            Ok(opened) if opened.state().item.id == id => Ok(opened),
            Ok(_) | Err(RegionError::NoRepository { .. }) => Err(replaced()),
            Err(error) => Err(error),
        }
    }

    /// Opens a repository in the state of a head that was just read, or in a newer one. Reads nothing if the cache is up to
    /// date.
    ///
    /// # Errors
    /// As of [`Views::open_by_id`].
    pub async fn open_read(&self, item: &HeadItem) -> Result<Arc<OpenRepository>> {
        match self.open_at(item.clone()).await {
            Err(RegionError::Moved { .. }) => self.open_by_id(&item.head.name, item.id).await,
            Err(error) => Err(error),
            Ok(opened) => {
                self.cache.remember(&item.head.name, item.id);
                Ok(opened)
            }
        }
    }

    /// Refs that clients see, in the state of a head that was just read, or in a newer one.
    ///
    /// # Errors
    /// As of [`Views::open_by_id`].
    pub async fn refs(&self, item: &HeadItem) -> Result<Arc<RefTable>> {
        if item.head.refs <= FEW_REFS && self.cache.get(item.id).is_none() {
            return Refs::load_visible(&self.region, self.hidden.as_ref(), item).await;
        }
        Ok(self.open_read(item).await?.state().view.refs.clone())
    }

    /// Starts the maintenance that a push has made necessary, without waiting for the next request. Call it within a
    /// runtime.
    pub fn committed(&self, item: &HeadItem, packs: usize) {
        self.maintenance.request(item, packs);
    }

    /// The state that a push is checked against. Links (`mirror`) also see the refs that gitferry keeps for them.
    pub async fn for_push(&self, opened: &Arc<OpenRepository>, mirror: bool) -> Result<PushState> {
        let mut state = opened.state().clone();
        if mirror && !state.refs.with_prefix(OWN_PREFIX.as_bytes()).is_empty() {
            let opened = opened.clone();
            let hidden = self.hidden.clone();
            state.view.refs = blocking(move || opened.for_links(hidden.as_ref())).await?;
        }
        Ok(state)
    }

    async fn open_at(&self, item: HeadItem) -> Result<Arc<OpenRepository>> {
        let known = self.cache.get(item.id);
        if let Some(known) = &known
            && known.state().item.revision == item.revision
            && self.is_fresh(known)
        {
            let since = self.recent_since();
            if known.state().view.recent_tips.first_time().is_none_or(|time| time >= since) {
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
    pub(crate) async fn head(&self, name: &str) -> Result<HeadItem> {
        if let Some(id) = self.cache.id_of(name)
            && let Some(item) = read_head(self.region.table(), id).await?
            && item.head.named
            && item.head.name == name
        {
            return Ok(item);
        }
        let found = self.region.repositories().find(name).await?.filter(|item| is_visible(&item.head));
        found.ok_or_else(|| RegionError::NoRepository { name: name.into(), region: self.region.name().to_owned() })
    }

    fn insert(&self, opened: Arc<OpenRepository>) {
        self.cache.insert(opened, || self.region.cache().is_full());
    }

    /// Values that were replaced before this time may no longer be wanted.
    fn recent_since(&self) -> Timestamp {
        self.region.clock().now().checked_sub(RECENT_TIPS_MAX_AGE).unwrap_or(Timestamp::MIN)
    }

    fn is_fresh(&self, known: &OpenRepository) -> bool {
        known.manifest_read().is_fresh(self.maintenance.consolidations())
    }

    async fn refresh(&self, item: HeadItem, known: Option<&OpenRepository>) -> Result<OpenRepository> {
        let mut refs = self.refs_of(&item, known).await?;
        forget_older(&mut refs.recent, self.recent_since());
        let same =
            |known: &&OpenRepository| known.state().item.head.manifest == item.head.manifest && self.is_fresh(known);
        let (manifest, local, packs, manifest_read) = match known.filter(same) {
            Some(known) => {
                let PushState { manifest, local, view, .. } = known.state();
                (manifest.clone(), local.clone(), view.packs.clone(), known.manifest_read())
            }
            None => self.open_packs(&item, known).await?,
        };
        let Refs { all, visible, for_links, recent: recent_tips } = refs;
        let Head { format, head, .. } = item.head.clone();
        let view = View { format, head, refs: visible, packs, recent_tips };
        let state = PushState { item, manifest, refs: all, view, local };
        Ok(OpenRepository::new(state, for_links, manifest_read))
    }

    /// The refs of a head: those of `known` with the changes since then, or all of them.
    async fn refs_of(&self, item: &HeadItem, known: Option<&OpenRepository>) -> Result<Refs> {
        let hidden = self.hidden.as_ref();
        if let Some(known) = known {
            match known.refs().follow(&self.region, hidden, known.state().item.head.frontier, item).await {
                // The ledger no longer contains the cached frontier, as after a promotion elsewhere: load everything.
                Err(RegionError::Ledger(LedgerError::Fork { .. })) => {}
                followed => return followed,
            }
        }
        Refs::load(&self.region, hidden, item, self.recent_since()).await
    }

    /// Opens the packs of the manifest. Packs that `known` has open are reused.
    async fn open_packs(
        &self,
        item: &HeadItem,
        known: Option<&OpenRepository>,
    ) -> Result<(Manifest, Arc<LocalPacks>, Arc<PackSet>, ReadTime)> {
        let now = ReadTime::now(self.maintenance.consolidations());
        let (manifest, _) = self.region.reader().manifest(item).await?;
        if let Some(known) = known.filter(|known| known.state().manifest.generation == manifest.generation) {
            return Ok((manifest, known.state().local.clone(), known.state().view.packs.clone(), now));
        }
        let held = known.map(|known| &*known.state().local);
        let local = Arc::new(self.region.packs().local_after(&manifest.packs, held).await?);
        let spool = self.region.spool_dir();
        let files = local.clone();
        let format = item.head.format;
        let open = known.map(|known| known.state().view.packs.clone());
        let opening = move || {
            let files = files.packs.iter().map(|pack| (pack.pack.as_path(), pack.index.as_path()));
            Ok::<_, RegionError>(PackSet::of(format, files, open.as_deref())?.with_spool(spool))
        };
        Ok((manifest, local, Arc::new(blocking(opening).await?), now))
    }
}
