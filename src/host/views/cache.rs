//! The open repositories of a host in memory; the least recently used one is evicted first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::open_repository::OpenRepository;
use gitferry_engine::ledger::head::RepositoryId;

/// Most repositories in the cache.
const MAX_VIEWS: usize = 1_000;

/// Open repositories by id, and the ids of names as they were when last seen.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    ids: HashMap<String, RepositoryId>,
    /// Open repositories, with the time of their last use by `clock`.
    open: HashMap<RepositoryId, (u64, Arc<OpenRepository>)>,
    clock: u64,
}

impl Cache {
    /// The repository that a name denoted when it was last opened.
    pub fn id_of(&self, name: &str) -> Option<RepositoryId> {
        self.entries().ids.get(name).copied()
    }

    /// Records the repository that a name denotes.
    pub fn remember(&self, name: &str, id: RepositoryId) {
        self.entries().ids.insert(name.into(), id);
    }

    /// A repository in the state in which it was last opened.
    pub fn get(&self, id: RepositoryId) -> Option<Arc<OpenRepository>> {
        let mut cache = self.entries();
        cache.clock += 1;
        let now = cache.clock;
        let (used, opened) = cache.open.get_mut(&id)?;
        *used = now;
        Some(opened.clone())
    }

    /// Adds a repository, unless a newer state of it is held. Evicts one if there are too many, or if their packs fill
    /// the pack cache, which cannot evict those of an open repository.
    pub fn insert(&self, opened: Arc<OpenRepository>, pack_cache_is_full: impl FnOnce() -> bool) {
        let mut cache = self.entries();
        cache.clock += 1;
        let now = cache.clock;
        let id = opened.state().item.id;
        let newer = |(_, held): &(u64, Arc<OpenRepository>)| held.state().item.revision > opened.state().item.revision;
        if !cache.open.get(&id).is_some_and(newer) {
            cache.open.insert(id, (now, opened));
        }
        let crowded = cache.open.len() > 1 && pack_cache_is_full();
        if (cache.open.len() > MAX_VIEWS || crowded)
            && let Some(oldest) = cache.open.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        {
            cache.open.remove(&oldest);
            cache.ids.retain(|_, id| *id != oldest);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
