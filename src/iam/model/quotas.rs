//! Quotas with the values of AWS, which settings of the account may raise or lower.
//!
//! Source: "IAM and AWS STS quotas" in the IAM user guide. Names are those of `GetAccountSummary` where it has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{IamError, Result};

/// Limit that no count reaches.
pub const NO_LIMIT: u64 = u64::MAX;

macro_rules! quotas {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $default:expr, $what:literal;)*) => {
        /// Quota of an account.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Quota { $($(#[$doc])* #[serde(rename = $wire)] $name,)* }

        impl Quota {
            /// All quotas.
            pub const ALL: &'static [Quota] = &[$(Quota::$name,)*];

            /// Name in settings and in `GetAccountSummary`.
            pub fn as_str(self) -> &'static str {
                match self { $(Quota::$name => $wire,)* }
            }

            /// Value of AWS; [`NO_LIMIT`] for quotas that AWS does not have.
            pub fn default_limit(self) -> u64 {
                match self { $(Quota::$name => $default,)* }
            }

            fn what(self) -> &'static str {
                match self { $(Quota::$name => $what,)* }
            }
        }
    };
}

quotas! {
    /// Users of the account.
    Users = "UsersQuota", 5_000, "users in the account";
    /// Groups of the account.
    Groups = "GroupsQuota", 300, "groups in the account";
    /// Roles of the account.
    Roles = "RolesQuota", 1_000, "roles in the account";
    /// Customer managed policies of the account.
    Policies = "PoliciesQuota", 1_500, "customer managed policies in the account";
    /// OpenID Connect providers of the account.
    OidcProviders = "OpenIDConnectProvidersQuota", 100, "OpenID Connect providers in the account";
    /// Groups of one user.
    GroupsPerUser = "GroupsPerUserQuota", 10, "groups of a user";
    /// Access keys of one user.
    AccessKeysPerUser = "AccessKeysPerUserQuota", 2, "access keys of a user";
    /// SSH public keys of one user.
    SshKeysPerUser = "SSHPublicKeysPerUserQuota", 5, "SSH public keys of a user";
    /// Git credentials of one user.
    GitCredentialsPerUser = "ServiceSpecificCredentialsPerUserQuota", 2, "service-specific credentials of a user";
    /// Managed policies attached to one user.
    AttachedPoliciesPerUser = "AttachedPoliciesPerUserQuota", 10, "managed policies attached to a user";
    /// Managed policies attached to one group.
    AttachedPoliciesPerGroup = "AttachedPoliciesPerGroupQuota", 10, "managed policies attached to a group";
    /// Managed policies attached to one role.
    AttachedPoliciesPerRole = "AttachedPoliciesPerRoleQuota", 10, "managed policies attached to a role";
    /// Versions of one customer managed policy.
    VersionsPerPolicy = "VersionsPerPolicyQuota", 5, "versions of a policy";
    /// Characters of a managed policy, white space not counted.
    PolicySize = "PolicySizeQuota", 6_144, "characters of a managed policy";
    /// Characters of all inline policies of one user, white space not counted.
    UserPolicySize = "UserPolicySizeQuota", 2_048, "characters of all inline policies of a user";
    /// Characters of all inline policies of one group, white space not counted.
    GroupPolicySize = "GroupPolicySizeQuota", 5_120, "characters of all inline policies of a group";
    /// Characters of all inline policies of one role, white space not counted.
    RolePolicySize = "RolePolicySizeQuota", 10_240, "characters of all inline policies of a role";
    /// Characters of a trust policy, white space not counted.
    TrustPolicySize = "AssumeRolePolicySizeQuota", 2_048, "characters of a trust policy";
    /// Audiences of one OpenID Connect provider.
    ClientIdsPerProvider = "ClientIdsPerOpenIDConnectProviderQuota", 100, "audiences of an OpenID Connect provider";
    /// Repositories of a region. CodeCommit has 5,000.
    Repositories = "RepositoriesQuota", NO_LIMIT, "repositories in a region";
    /// Bytes of the packs of one repository.
    RepositoryBytes = "RepositoryBytesQuota", NO_LIMIT, "bytes of Git objects in a repository";
    /// Bytes of the packs of all repositories of a region.
    AccountBytes = "AccountBytesQuota", NO_LIMIT, "bytes of Git objects in a region";
    /// Bytes of the LFS objects of one repository.
    RepositoryLfsBytes = "RepositoryLfsBytesQuota", NO_LIMIT, "bytes of LFS objects in a repository";
    /// Bytes of the LFS objects of all repositories of a region.
    AccountLfsBytes = "AccountLfsBytesQuota", NO_LIMIT, "bytes of LFS objects in a region";
    /// Requests a minute of one principal to one host.
    RequestsPerMinute = "RequestsPerMinuteQuota", NO_LIMIT, "requests a minute of a principal";
}

impl Quota {
    /// Finds a quota by its name in settings.
    pub fn from_name(name: &str) -> Option<Quota> {
        Quota::ALL.iter().copied().find(|quota| quota.as_str() == name)
    }

    /// Returns true for the quotas that hosts keep on repositories and requests. The others are those of IAM.
    pub fn is_of_hosts(self) -> bool {
        self.default_limit() == NO_LIMIT
    }
}

/// Quotas of an account that differ from those of AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quotas(BTreeMap<Quota, u64>);

impl Quotas {
    /// Limit in force.
    pub fn limit(&self, quota: Quota) -> u64 {
        self.0.get(&quota).copied().unwrap_or_else(|| quota.default_limit())
    }

    /// Limit that the settings of the account set; `None` if they leave the quota as it is.
    pub fn set(&self, quota: Quota) -> Option<u64> {
        self.0.get(&quota).copied()
    }

    /// The same quotas with one limit changed.
    pub fn with(&self, quota: Quota, limit: u64) -> Self {
        let mut quotas = self.clone();
        quotas.0.insert(quota, limit);
        quotas
    }

    /// Returns true if all limits are those of AWS.
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that `count` things, new ones included, are within a quota.
    pub(crate) fn check(&self, quota: Quota, count: usize) -> Result<()> {
        let limit = self.limit(quota);
        if count as u64 <= limit {
            return Ok(());
        }
        let name = quota.as_str();
        let what = quota.what();
        Err(IamError::limit_exceeded(format!("Cannot exceed quota for {name}: {limit} {what}.")))
    }
}
