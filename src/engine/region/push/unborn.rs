//! A repository that its first push makes: the push's own change is the repository's first.

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

/// The state of a repository that does not exist yet.
#[derive(Clone, Debug)]
pub struct Unborn {
    state: PushState,
}

impl Region {
    /// An empty repository under a fresh id, of which nothing is written before a push to it is committed.
    ///
    /// # Errors
    /// A name that no repository may have.
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

/// The revision of a head that has no row.
const UNBORN: u64 = 0;

impl Unborn {
    /// The empty state.
    pub fn state(&self) -> &PushState {
        &self.state
    }
}

impl PushState {
    /// What a change on top of this state is committed to.
    pub(super) fn subject(&self) -> Subject {
        let HeadItem { id, head, revision } = &self.item;
        match *revision {
            UNBORN => Subject::New { id: *id, name: head.name.clone(), format: head.format },
            _ => Subject::Existing(Box::new(self.item.clone())),
        }
    }
}

/// The state stays: a commit that comes second finds the name taken, and is not decided again.
#[async_trait]
impl PushStates for Unborn {
    async fn state(&self) -> Result<PushState> {
        Ok(self.state.clone())
    }
}
