//! The query API of IAM: a table of operations. An operation is the type of its input (`operation.rs`), declared in the
//! file of its entity.

mod absent;
mod access_keys;
mod account;
mod attachments;
mod boundaries;
mod describe;
mod git_credentials;
mod groups;
mod managed;
pub mod operation;
mod positions;
mod providers;
mod roles;
mod simulate;
mod ssh_keys;
mod tags;
mod users;

use std::sync::LazyLock;

pub use describe::time;

use crate::error::Result;
use crate::protocol::parameters::Parameters;
use operation::{Change, Read};

/// Work of a request.
pub enum Work {
    /// Reads the account.
    Read(Box<dyn Read>),
    /// Changes the account.
    Change(Box<dyn Change>),
}

/// Operation of the table.
pub struct Operation {
    /// Name, such as `CreateUser`.
    pub name: &'static str,
    /// True if the operation changes nothing.
    pub reads_only: bool,
    parse: fn(&Parameters) -> Result<Work>,
}

impl Operation {
    /// Work of a request with these parameters.
    ///
    /// # Errors
    /// `ValidationError`.
    pub fn parse(&self, parameters: &Parameters) -> Result<Work> {
        (self.parse)(parameters)
    }
}

macro_rules! table {
    (read { $($read:ident::$read_name:ident,)* } change { $($change:ident::$change_name:ident,)* }) => {
        const TABLE: &[Operation] = &[
            $(Operation {
                name: stringify!($read_name),
                reads_only: true,
                parse: |parameters| Ok(Work::Read(Box::new(parameters.input::<$read::$read_name>()?))),
            },)*
            $(Operation {
                name: stringify!($change_name),
                reads_only: false,
                parse: |parameters| Ok(Work::Change(Box::new(parameters.input::<$change::$change_name>()?))),
            },)*
        ];
    };
}

table! {
    read {
        absent::DeleteLoginProfile,
        absent::GetAccountPasswordPolicy,
        absent::GetLoginProfile,
        absent::ListInstanceProfiles,
        absent::ListInstanceProfilesForRole,
        absent::ListMFADevices,
        absent::ListSigningCertificates,
        absent::ListVirtualMFADevices,
        access_keys::GetAccessKeyLastUsed,
        access_keys::ListAccessKeys,
        account::GetAccountAuthorizationDetails,
        account::GetAccountSummary,
        account::ListAccountAliases,
        attachments::GetGroupPolicy,
        attachments::GetRolePolicy,
        attachments::GetUserPolicy,
        attachments::ListAttachedGroupPolicies,
        attachments::ListAttachedRolePolicies,
        attachments::ListAttachedUserPolicies,
        attachments::ListGroupPolicies,
        attachments::ListRolePolicies,
        attachments::ListUserPolicies,
        git_credentials::ListServiceSpecificCredentials,
        groups::GetGroup,
        groups::ListGroups,
        managed::GetPolicy,
        managed::GetPolicyVersion,
        managed::ListEntitiesForPolicy,
        managed::ListPolicies,
        managed::ListPolicyVersions,
        providers::GetOpenIDConnectProvider,
        providers::ListOpenIDConnectProviders,
        roles::GetRole,
        roles::ListRoles,
        simulate::GetContextKeysForCustomPolicy,
        simulate::GetContextKeysForPrincipalPolicy,
        simulate::SimulateCustomPolicy,
        simulate::SimulatePrincipalPolicy,
        ssh_keys::GetSSHPublicKey,
        ssh_keys::ListSSHPublicKeys,
        tags::ListOpenIDConnectProviderTags,
        tags::ListPolicyTags,
        tags::ListRoleTags,
        tags::ListUserTags,
        users::GetUser,
        users::ListGroupsForUser,
        users::ListUsers,
    }
    change {
        access_keys::CreateAccessKey,
        access_keys::DeleteAccessKey,
        access_keys::UpdateAccessKey,
        account::CreateAccountAlias,
        account::DeleteAccountAlias,
        attachments::AttachGroupPolicy,
        attachments::AttachRolePolicy,
        attachments::AttachUserPolicy,
        attachments::DeleteGroupPolicy,
        attachments::DeleteRolePolicy,
        attachments::DeleteUserPolicy,
        attachments::DetachGroupPolicy,
        attachments::DetachRolePolicy,
        attachments::DetachUserPolicy,
        attachments::PutGroupPolicy,
        attachments::PutRolePolicy,
        attachments::PutUserPolicy,
        boundaries::DeleteRolePermissionsBoundary,
        boundaries::DeleteUserPermissionsBoundary,
        boundaries::PutRolePermissionsBoundary,
        boundaries::PutUserPermissionsBoundary,
        git_credentials::CreateServiceSpecificCredential,
        git_credentials::DeleteServiceSpecificCredential,
        git_credentials::ResetServiceSpecificCredential,
        git_credentials::UpdateServiceSpecificCredential,
        groups::AddUserToGroup,
        groups::CreateGroup,
        groups::DeleteGroup,
        groups::RemoveUserFromGroup,
        groups::UpdateGroup,
        managed::CreatePolicy,
        managed::CreatePolicyVersion,
        managed::DeletePolicy,
        managed::DeletePolicyVersion,
        managed::SetDefaultPolicyVersion,
        providers::AddClientIDToOpenIDConnectProvider,
        providers::CreateOpenIDConnectProvider,
        providers::DeleteOpenIDConnectProvider,
        providers::RemoveClientIDFromOpenIDConnectProvider,
        providers::UpdateOpenIDConnectProviderThumbprint,
        roles::CreateRole,
        roles::DeleteRole,
        roles::UpdateAssumeRolePolicy,
        roles::UpdateRole,
        roles::UpdateRoleDescription,
        ssh_keys::DeleteSSHPublicKey,
        ssh_keys::UpdateSSHPublicKey,
        ssh_keys::UploadSSHPublicKey,
        tags::TagOpenIDConnectProvider,
        tags::TagPolicy,
        tags::TagRole,
        tags::TagUser,
        tags::UntagOpenIDConnectProvider,
        tags::UntagPolicy,
        tags::UntagRole,
        tags::UntagUser,
        users::CreateUser,
        users::DeleteUser,
        users::UpdateUser,
    }
}

/// Operations by name.
static BY_NAME: LazyLock<std::collections::BTreeMap<&str, &Operation>> =
    LazyLock::new(|| TABLE.iter().map(|operation| (operation.name, operation)).collect());

/// Operation of a name.
pub fn find(name: &str) -> Option<&'static Operation> {
    BY_NAME.get(name).copied()
}

/// Names of all operations, in their order.
pub fn operations() -> impl Iterator<Item = &'static str> {
    BY_NAME.keys().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_once_in_the_table() {
        assert_eq!(operations().count(), TABLE.len());
        assert!(find("CreateUser").is_some_and(|operation| !operation.reads_only));
        assert!(find("createuser").is_none());
    }

    /// The table of docs/identity.md has the operations of IAM and STS, and no others.
    #[test]
    fn the_documentation_lists_the_operations() {
        let text = include_str!("../../../docs/identity.md");
        let section = text.split("## APIs").nth(1).unwrap().split("### ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
        let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
        let mut listed: Vec<&str> = names.collect();
        listed.sort_unstable();
        let mut offered: Vec<&str> = operations().chain(crate::sts::OPERATIONS).collect();
        offered.sort_unstable();
        assert_eq!(listed, offered);
    }
}
