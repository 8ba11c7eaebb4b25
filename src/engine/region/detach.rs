//! Detaching a region from the account of another one.

use super::commit::MAX_COMMIT_ATTEMPTS;
use super::repositories::Repositories;
use super::reserved::ACCOUNT;
use super::{RegionError, Result};
use crate::ledger::LedgerError;
use crate::ledger::advance::{Advance, advance_head};
use crate::ledger::head::{Head, HeadItem, Role};

impl Repositories<'_> {
    /// Takes its name from the replica of the account, so that the region has no account. The replica's ledger and packs
    /// stay under its id: the next delivery of a link that carries the account gives it the name again.
    ///
    /// # Errors
    /// [`RegionError::NoRepository`] if the region has no account, [`RegionError::Refused`] if the account was founded
    /// here. Nothing was changed.
    pub async fn detach_account(self) -> Result<HeadItem> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let item = self.get(ACCOUNT).await?;
            if item.head.role != Role::Replica {
                let region = self.region.name();
                let reason = format!("the account was founded in {region}: it is no replica that could be detached");
                return Err(RegionError::Refused { repository: ACCOUNT.into(), reason });
            }
            let after = Head { named: false, fed_by: None, ..item.head.clone() };
            let step = Advance { id: item.id, before: Some(item), after, manifest: None, with: Vec::new() };
            match advance_head(self.region.table(), step).await {
                // A delivery came first.
                Err(LedgerError::Lost { .. }) => {}
                result => return Ok(result?),
            }
        }
        Err(RegionError::Moved { repository: ACCOUNT.into() })
    }
}
