//! What operations work with: the repositories of a region, and the settings of the API.

use std::sync::Arc;

use gitferry_api::{ApiError, Result};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::ledger::metadata::MetadataEdit;
use gitferry_engine::region::push::PushState;
use gitferry_engine::region::reserved::is_account;
use gitferry_engine::region::{Region, RegionError, is_visible};
use gitferry_git::view::RefTable;
use gitferry_iam::Authenticated;

use crate::failure::of_region;
use crate::ports::Repositories;
use crate::settings::Settings;

/// The repositories of a region with the settings of the API.
#[derive(Debug)]
pub struct Workshop {
    pub region: Region,
    pub repositories: Arc<dyn Repositories>,
    pub settings: Settings,
}

impl Workshop {
    /// The visible repository of a name. A name that is an id, and the account's, denote none.
    ///
    /// # Errors
    /// The region cannot be read.
    pub async fn find(&self, name: &str) -> Result<Option<HeadItem>> {
        let found = self.repositories.find(name).await.map_err(|error| self.failed(name, &error))?;
        Ok(found.filter(|item| item.head.name == name && is_shown(item)))
    }

    /// Refs of a repository that clients see.
    ///
    /// # Errors
    /// The region cannot be read, or the name denotes another repository by now.
    pub async fn refs(&self, item: &HeadItem) -> Result<Arc<RefTable>> {
        self.repositories.refs(item).await.map_err(|error| self.failed(&item.head.name, &error))
    }

    /// State of a repository with its packs and the refs that clients see.
    ///
    /// # Errors
    /// As of [`Workshop::refs`].
    pub async fn state(&self, item: &HeadItem) -> Result<PushState> {
        self.repositories.state(item).await.map_err(|error| self.failed(&item.head.name, &error))
    }

    /// Refuses a change where the repository takes none.
    ///
    /// # Errors
    /// `OperationNotAllowedException`, at a replica with the place to go.
    pub fn check_writable(&self, item: &HeadItem) -> Result<()> {
        let checked = self.region.committer().check_writable(item);
        checked.map_err(|error| self.failed(&item.head.name, &error))
    }

    /// Edits description and tags in one change.
    ///
    /// # Errors
    /// Those of a change: a replica, a limit, a store.
    pub async fn edit_metadata(&self, item: &HeadItem, edit: &MetadataEdit, actor: &str) -> Result<()> {
        // By id: another repository may have the name meanwhile.
        let edited = self.region.repositories().edit_metadata(&item.id.to_string(), edit, actor).await;
        let edited = edited.map_err(|error| self.failed(&item.head.name, &error))?;
        self.repositories.committed(&edited);
        Ok(())
    }

    /// ARN of a repository.
    pub fn arn(&self, caller: &Authenticated, name: &str) -> String {
        format!("arn:aws:codecommit:{}:{}:{name}", self.region.name(), caller.account.id())
    }

    /// An error of the engine as the API has it.
    pub fn failed(&self, name: &str, error: &RegionError) -> ApiError {
        of_region(&self.settings, name, error)
    }
}

/// Returns true for a repository that the API shows.
pub fn is_shown(item: &HeadItem) -> bool {
    item.head.named && is_visible(&item.head) && !is_account(&item.head.name)
}
