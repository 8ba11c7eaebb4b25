//! The state of an account of AWS IAM, as its API lists it, and the documents of an account that are made of it.
//!
//! Source: "GetAccountAuthorizationDetails", "ListSSHPublicKeys" and "GetSSHPublicKey" in the IAM API reference.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::arn::AccountId;
use crate::documents::{SETTINGS, paths, to_json};
use crate::model::{
    DEFAULT_SESSION_SECONDS, EntityKind, Format, GroupRecord, InlineRecord, PolicyRecord, Quotas, RoleRecord, Settings,
    SshKey, Status, UserRecord, VersionRecord,
};
use crate::names::Tags;

/// User as AWS lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserDetail {
    /// Name.
    pub name: String,
    /// Unique id, `AIDA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Inline policies: names and texts.
    pub inline: Vec<(String, String)>,
    /// Names of groups.
    pub groups: Vec<String>,
    /// ARNs of attached managed policies.
    pub attached: Vec<String>,
    /// ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// Group as AWS lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDetail {
    /// Name.
    pub name: String,
    /// Unique id, `AGPA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Inline policies: names and texts.
    pub inline: Vec<(String, String)>,
    /// ARNs of attached managed policies.
    pub attached: Vec<String>,
}

/// Role as AWS lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleDetail {
    /// Name.
    pub name: String,
    /// Unique id, `AROA…`.
    pub id: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Trust policy.
    pub trust: String,
    /// Inline policies: names and texts.
    pub inline: Vec<(String, String)>,
    /// ARNs of attached managed policies.
    pub attached: Vec<String>,
    /// ARN of the permissions boundary.
    pub boundary: Option<String>,
    /// Tags.
    pub tags: Tags,
}

/// Managed policy as AWS lists it: of the account, or one of AWS's own that is attached in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDetail {
    /// Name.
    pub name: String,
    /// Unique id, `ANPA…`.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Path, with its slashes.
    pub path: String,
    /// Time of creation.
    pub created: Timestamp,
    /// Time of the last change.
    pub updated: Timestamp,
    /// Number of the version in force.
    pub version: u32,
    /// Text of that version.
    pub text: String,
}

/// SSH public key of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKeyDetail {
    /// Name of the user.
    pub user: String,
    /// Id, `APKA…`.
    pub id: String,
    /// Time of the upload.
    pub uploaded: Timestamp,
    /// State.
    pub status: Status,
    /// The key as an OpenSSH line.
    pub public_key: String,
}

/// State of an account of AWS IAM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationDetails {
    /// Users.
    pub users: Vec<UserDetail>,
    /// Groups.
    pub groups: Vec<GroupDetail>,
    /// Roles.
    pub roles: Vec<RoleDetail>,
    /// Managed policies of the account, and those of AWS that are attached in it.
    pub policies: Vec<PolicyDetail>,
    /// SSH public keys.
    pub ssh_keys: Vec<SshKeyDetail>,
}

impl AuthorizationDetails {
    /// Documents of an account with this state, whose secrets are sealed under the data key of an id: there are none.
    pub fn documents(&self, account: AccountId, data_key: &str) -> BTreeMap<String, Vec<u8>> {
        let mut documents = BTreeMap::new();
        let mut add = |path: String, bytes: Vec<u8>| drop(documents.insert(path, bytes));
        let settings = Settings {
            format: Format,
            account_id: account,
            alias: None,
            created: Timestamp::UNIX_EPOCH,
            data_key: data_key.to_owned(),
            quotas: Quotas::default(),
        };
        add(SETTINGS.to_owned(), to_json(&settings));
        for user in &self.users {
            add(paths::entity(EntityKind::User, &user.name), to_json(&user.record()));
            inline(EntityKind::User, &user.name, &user.inline, &mut add);
        }
        for group in &self.groups {
            add(paths::entity(EntityKind::Group, &group.name), to_json(&group.record()));
            inline(EntityKind::Group, &group.name, &group.inline, &mut add);
        }
        for role in &self.roles {
            add(paths::entity(EntityKind::Role, &role.name), to_json(&role.record()));
            inline(EntityKind::Role, &role.name, &role.inline, &mut add);
        }
        for policy in &self.policies {
            policy.add(&account, &mut add);
        }
        for key in &self.ssh_keys {
            let record = SshKey {
                format: Format,
                uploaded: key.uploaded,
                status: key.status,
                public_key: key.public_key.clone(),
                fingerprint: String::new(),
            };
            add(paths::ssh_key(&key.user, &key.id), to_json(&record));
        }
        documents
    }
}

fn inline(kind: EntityKind, name: &str, policies: &[(String, String)], add: &mut impl FnMut(String, Vec<u8>)) {
    for (policy, text) in policies {
        let record = InlineRecord { format: Format, document: text.clone() };
        add(paths::inline(kind, name, policy), to_json(&record));
    }
}

fn set(texts: &[String]) -> BTreeSet<String> {
    texts.iter().cloned().collect()
}

impl UserDetail {
    fn record(&self) -> UserRecord {
        UserRecord {
            format: Format,
            id: self.id.clone(),
            path: self.path.clone(),
            created: self.created,
            permissions_boundary: self.boundary.clone(),
            groups: set(&self.groups),
            attached_policies: set(&self.attached),
            tags: self.tags.clone(),
        }
    }
}

impl GroupDetail {
    fn record(&self) -> GroupRecord {
        GroupRecord {
            format: Format,
            id: self.id.clone(),
            path: self.path.clone(),
            created: self.created,
            attached_policies: set(&self.attached),
        }
    }
}

impl RoleDetail {
    fn record(&self) -> RoleRecord {
        RoleRecord {
            format: Format,
            id: self.id.clone(),
            path: self.path.clone(),
            created: self.created,
            description: None,
            max_session_seconds: DEFAULT_SESSION_SECONDS,
            trust_policy: self.trust.clone(),
            trusted: BTreeMap::new(),
            permissions_boundary: self.boundary.clone(),
            attached_policies: set(&self.attached),
            tags: self.tags.clone(),
        }
    }
}

impl PolicyDetail {
    fn add(&self, account: &AccountId, add: &mut impl FnMut(String, Vec<u8>)) {
        if self.arn != account.iam_arn("policy", &self.path, &self.name) {
            let record = InlineRecord { format: Format, document: self.text.clone() };
            add(paths::aws_policy(&self.arn), to_json(&record));
            return;
        }
        let record = PolicyRecord {
            format: Format,
            id: self.id.clone(),
            path: self.path.clone(),
            created: self.created,
            updated: self.updated,
            description: None,
            default_version: self.version,
            last_version: self.version,
            tags: Tags::default(),
        };
        add(paths::entity(EntityKind::Policy, &self.name), to_json(&record));
        let version = VersionRecord { format: Format, created: self.updated, document: self.text.clone() };
        add(paths::version(&self.name, self.version), to_json(&version));
    }
}
