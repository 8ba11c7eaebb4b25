//! [`AccountGuard`]: no request reaches the account's repository, whatever its credentials grant.

use super::refusal::Refusal;
use crate::auth::{Cause, Denied};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::reserved::is_account;
use gitferry_engine::region::{Region, RegionError};

/// Refuses requests for the account's repository of a region.
#[derive(Debug)]
pub struct AccountGuard {
    region: Region,
}

impl AccountGuard {
    /// Guards the account of `region`.
    pub fn new(region: Region) -> Self {
        AccountGuard { region }
    }

    /// Refuses the repository that a request names if it is the account's. A name that is an id costs one read of a head.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] for the account's repository, whether it exists or not.
    pub async fn check(&self, repository: &str) -> Result<(), Refusal> {
        let named = match repository.parse::<RepositoryId>() {
            Ok(id) => read_head(self.region.table(), id).await.map_err(RegionError::from)?.map(|item| item.head.name),
            Err(_) => None,
        };
        if is_account(repository) || named.is_some_and(|name| is_account(&name)) {
            return Err(Refusal::Denied(Denied::Forbidden(Cause::Grant)));
        }
        Ok(())
    }
}
