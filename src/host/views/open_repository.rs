//! A repository in memory, in one exact state.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::refs::{Refs, forget_older};
use gitferry_engine::region::Result;
use gitferry_engine::region::push::{PushState, is_hidden, without};
use gitferry_git::local::RefPatterns;
use gitferry_git::view::RefTable;

/// Age at which a manifest is read again. Far shorter than the time for which replaced packs are kept.
const MANIFEST_MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// An open repository.
#[derive(Clone, Debug)]
pub struct OpenRepository {
    state: PushState,
    /// Refs as links see them that push here; set by the first such push.
    for_links: OnceLock<Arc<RefTable>>,
    manifest_read: ReadTime,
}

/// Time at which a manifest was read.
#[derive(Clone, Copy, Debug)]
pub struct ReadTime {
    at: Instant,
    /// Consolidations that this host had done by then.
    consolidations: u64,
}

impl ReadTime {
    /// The present, in a host that has done this many consolidations.
    pub fn now(consolidations: u64) -> Self {
        ReadTime { at: Instant::now(), consolidations }
    }

    /// Returns true if a manifest that was read then still counts as current in a host that has done this many
    /// consolidations by now.
    pub fn is_fresh(self, consolidations: u64) -> bool {
        self.at.elapsed() < MANIFEST_MAX_AGE && self.consolidations == consolidations
    }
}

impl OpenRepository {
    /// A repository whose refs for links are known already, or are derived by the first push of a link.
    pub fn new(state: PushState, for_links: OnceLock<Arc<RefTable>>, manifest_read: ReadTime) -> Self {
        OpenRepository { state, for_links, manifest_read }
    }

    /// One exact state, on which the protocols work.
    pub fn state(&self) -> &PushState {
        &self.state
    }

    /// Time at which the manifest of this state was read.
    pub fn manifest_read(&self) -> ReadTime {
        self.manifest_read
    }

    /// The refs of this state.
    pub fn refs(&self) -> Refs {
        Refs {
            all: self.state.refs.clone(),
            visible: self.state.view.refs.clone(),
            for_links: self.for_links.clone(),
            recent: self.state.view.recent_tips.clone(),
        }
    }

    /// The same state without the values that were replaced before `since`.
    pub fn without_older_tips(&self, since: Timestamp) -> OpenRepository {
        let mut opened = self.clone();
        forget_older(&mut opened.state.view.recent_tips, since);
        opened
    }

    /// Refs as links see them that push here.
    pub fn for_links(&self, hidden: Option<&RefPatterns>) -> Result<Arc<RefTable>> {
        if let Some(refs) = self.for_links.get() {
            return Ok(refs.clone());
        }
        let refs = without(&self.state.refs, |name| is_hidden(name, hidden, true))?;
        let refs = refs.map_or_else(|| self.state.refs.clone(), Arc::new);
        Ok(self.for_links.get_or_init(|| refs).clone())
    }
}
