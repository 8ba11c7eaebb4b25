//! Creation of a repository by its first push: the change of the push is the first change of the repository.

use std::sync::Arc;

use async_trait::async_trait;
use gix::hash::Kind as Format;

use super::{PushState, PushStates};
use crate::ledger::head::{HeadItem, Role};
use crate::region::commit::{Subject, blank_head};
use crate::region::manifest::Manifest;
use crate::region::{Region, Result};
use gitferry_git::pack::PackSet;
use gitferry_git::view::{RefTable, View};

/// State of a repository that does not exist yet.
#[derive(Clone, Debug)]
pub struct Unborn {
    state: PushState,
}

impl Region {
    /// Prepares an empty repository under a fresh id. Nothing is written before a push commits.
    ///
    /// # Errors
    /// [`crate::region::RegionError::Name`] if no repository may have this name.
    pub async fn unborn(&self, name: &str, format: Format) -> Result<Unborn> {
        let id = self.new_subject(name, format)?.id();
        let head = blank_head(name.into(), format, Role::Primary, self.name.clone(), self.clock.now());
        let refs = Arc::new(RefTable::empty(format));
        let view = View {
            format,
            head: head.head.clone(),
            refs: refs.clone(),
            packs: Arc::new(PackSet::new(format)),
            recent_tips: Default::default(),
        };
        let local = Arc::new(self.local_packs(&[]).await?);
        let item = HeadItem { id, head, revision: UNBORN };
        let state = PushState { item, manifest: Manifest::default(), refs, view, local };
        Ok(Unborn { state })
    }
}

/// Revision of a head without a row.
const UNBORN: u64 = 0;

impl Unborn {
    /// Returns the empty state.
    pub fn state(&self) -> &PushState {
        &self.state
    }
}

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

/// The state is constant: a commit that comes second finds the name taken, and is not decided again.
#[async_trait]
impl PushStates for Unborn {
    async fn state(&self) -> Result<PushState> {
        Ok(self.state.clone())
    }
}
