//! Creation of a repository by its first push: the change of the push is the first change of the repository.

use std::sync::Arc;

use async_trait::async_trait;
use gix::hash::Kind as Format;

use super::receive::Receiver;
use super::state::{PushState, PushStates, UNBORN};
use crate::ledger::head::{HeadItem, Role};
use crate::region::Result;
use crate::region::commit::blank_head;
use crate::region::manifest::Manifest;
use gitferry_git::pack::PackSet;
use gitferry_git::view::{RefTable, View};

/// State of a repository that does not exist yet.
#[derive(Clone, Debug)]
pub struct Unborn {
    state: PushState,
}

impl Receiver<'_> {
    /// Prepares an empty repository under a fresh id. Nothing is written before a push commits.
    ///
    /// # Errors
    /// [`crate::region::RegionError::Name`] if no repository may have this name.
    pub async fn unborn(self, name: &str, format: Format) -> Result<Unborn> {
        let id = self.region.committer().new_subject(name, format)?.id();
        let head =
            blank_head(name.into(), format, Role::Primary, self.region.name().to_owned(), self.region.clock().now());
        let refs = Arc::new(RefTable::empty(format));
        let view = View {
            format,
            head: head.head.clone(),
            refs: refs.clone(),
            packs: Arc::new(PackSet::new(format)),
            recent_tips: Default::default(),
        };
        let local = Arc::new(self.region.packs().local(&[]).await?);
        let item = HeadItem { id, head, revision: UNBORN };
        let state = PushState { item, manifest: Manifest::default(), refs, view, local };
        Ok(Unborn { state })
    }
}

impl Unborn {
    /// Returns the empty state.
    pub fn state(&self) -> &PushState {
        &self.state
    }
}

/// The state is constant: a commit that comes second finds the name taken, and is not decided again.
#[async_trait]
impl PushStates for Unborn {
    async fn state(&self) -> Result<PushState> {
        Ok(self.state.clone())
    }
}
