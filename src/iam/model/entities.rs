//! Users, groups and roles with their parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitferry_policy::PolicyDocument;

use crate::model::{AccessKey, GitCredential, GroupRecord, InlinePolicy, RoleRecord, SshKey, UserRecord};

/// Inline policies by name.
pub(crate) type Inline = BTreeMap<String, Arc<InlinePolicy>>;

/// User of the account.
#[derive(Debug)]
pub struct User {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Content of its document.
    pub record: Arc<UserRecord>,
    /// Access keys by id, two at most.
    pub access_keys: BTreeMap<String, Arc<AccessKey>>,
    /// SSH public keys by id, five at most.
    pub ssh_keys: BTreeMap<String, Arc<SshKey>>,
    /// Git credentials by id, two at most.
    pub git_credentials: BTreeMap<String, Arc<GitCredential>>,
    /// Inline policies by name.
    pub inline: Inline,
    /// First document of the user that cannot be read and may restrict rights: everything is denied to the user.
    pub unreadable: Option<String>,
}

/// Group of users.
#[derive(Debug)]
pub struct Group {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Content of its document.
    pub record: Arc<GroupRecord>,
    /// Inline policies by name.
    pub inline: Inline,
    /// First document of the group that cannot be read and may restrict rights: everything is denied to its members.
    pub unreadable: Option<String>,
}

/// Role of the account.
#[derive(Debug)]
pub struct Role {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Content of its document.
    pub record: Arc<RoleRecord>,
    /// The trust policy as it is evaluated.
    pub trust: Arc<PolicyDocument>,
    /// Inline policies by name.
    pub inline: Inline,
    /// First document of the role that cannot be read and may restrict rights: everything is denied to its sessions.
    pub unreadable: Option<String>,
}
