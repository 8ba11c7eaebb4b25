//! The host as the API sees it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::Result;
use gitferry_engine::region::push::{PushState, Pushed};
use gitferry_git::receive_pack::Command;
use gitferry_git::view::RefTable;

/// Reason for which a host creates no repository of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCreation {
    /// The repository is to be replicated into this region from another one, whose name this is.
    Replicated(String),
    /// A quota is used up. The text is for the client.
    Quota(String),
}

/// Permit to compute, until it is dropped.
pub type ComputePermit = Box<dyn Send>;

/// Repositories at work on a host: its cache of open ones, the rules for pushes, and the code that acts on changes.
#[async_trait]
pub trait Repositories: Send + Sync + fmt::Debug {
    /// Head of the visible repository of a name, which may be an id.
    ///
    /// # Errors
    /// The region cannot be read.
    async fn find(&self, name: &str) -> Result<Option<HeadItem>>;

    /// Refs that clients see, in the state of a head that was just read, or in a newer one.
    ///
    /// # Errors
    /// The region cannot be read. [`gitferry_engine::region::RegionError::Replaced`] if the name denotes another repository
    /// by now.
    async fn refs(&self, item: &HeadItem) -> Result<Arc<RefTable>>;

    /// The state of a head that was just read, or a newer one, with its packs and the refs that clients see.
    ///
    /// # Errors
    /// As of [`Repositories::refs`].
    async fn state(&self, item: &HeadItem) -> Result<PushState>;

    /// Changes refs by commands, which all apply or none, under the rules for pushes to the repository. `pack` has the
    /// objects that come with them; `None` for commands without objects of their own. Rights on single refs are not asked
    /// for: the API has decided on its own action.
    ///
    /// # Errors
    /// The commands failed as a whole.
    async fn push(&self, item: &HeadItem, commands: Vec<Command>, pack: Option<Vec<u8>>, actor: &str)
    -> Result<Pushed>;

    /// Waits for a permit to compute, in fair shares between clients; `None` if the host has too many requests.
    async fn begin_compute(&self) -> Option<ComputePermit>;

    /// Announces a change that was committed without [`Repositories::push`].
    fn committed(&self, item: &HeadItem);

    /// Checks that this region may create a repository.
    ///
    /// # Errors
    /// The reason for which it may not.
    fn check_creation(&self, name: &str) -> std::result::Result<(), NoCreation>;
}
