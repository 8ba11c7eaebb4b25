//! Entities of an account: values without behaviour beyond what they say about themselves.
//!
//! A *record* is the content of one document; an entity puts together what the documents of one folder say.

mod credentials;
mod entities;
mod policies;
mod quotas;
mod records;

pub use credentials::{AccessKey, GIT_SERVICE, GitCredential, SshKey, Status};
pub use entities::{Group, Role, User};
pub use policies::{InlinePolicy, Policy, PolicyVersion};
pub(crate) use policies::{InlineRecord, VersionRecord};
pub use quotas::{NO_LIMIT, Quota, Quotas};
pub use records::{
    DEFAULT_SESSION_SECONDS, DataKeyRecord, Format, GroupRecord, MAX_SESSION_SECONDS, MIN_SESSION_SECONDS,
    OidcProvider, PolicyRecord, RoleRecord, Settings, UserRecord,
};

/// Kind of an entity with a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// A person or a program with credentials of its own.
    User,
    /// Users that share policies.
    Group,
    /// A set of rights that others assume for a time.
    Role,
    /// A customer managed policy.
    Policy,
}

impl EntityKind {
    /// Word in ARNs and messages.
    pub fn word(self) -> &'static str {
        match self {
            EntityKind::User => "user",
            EntityKind::Group => "group",
            EntityKind::Role => "role",
            EntityKind::Policy => "policy",
        }
    }
}
