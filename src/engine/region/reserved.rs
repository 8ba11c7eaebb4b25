//! Repositories that are gitferry's own. Clients neither see nor change them.

use super::{RegionError, Result};

/// Name of the repository with the documents of the account: users, groups, roles, policies, keys and settings.
pub const ACCOUNT: &str = "gitferry/account";

/// Returns true for the name of the account's repository.
pub fn is_account(name: &str) -> bool {
    name == ACCOUNT
}

/// Refuses to create, rename or delete the account's repository, or to give its name to another one.
pub(super) fn refuse_account(name: &str) -> Result<()> {
    if is_account(name) {
        let reason = "this repository holds the region's account: it is created by `gitferry iam init`, changed by \
                      `gitferry iam`, and neither renamed nor deleted";
        return Err(RegionError::Refused { repository: name.into(), reason: reason.into() });
    }
    Ok(())
}
