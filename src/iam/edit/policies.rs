//! Customer managed policies and their versions.

use std::collections::BTreeSet;

use gitferry_policy::{DocumentKind, PolicyDocument};

use crate::documents::paths;
use crate::edit::{Edit, Editor, conflict, shown};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::model::{EntityKind, Format, Policy, PolicyRecord, Quota, VersionRecord};
use crate::names::{MAX_NAME, check_description, check_name, check_path, check_tags};

/// Managed policy to be created.
#[derive(Clone, Debug, Default)]
pub struct NewPolicy {
    /// Name.
    pub name: String,
    /// Path; `/` by default.
    pub path: Option<String>,
    /// Text of the first version.
    pub document: String,
    /// Description for people, which cannot be changed.
    pub description: Option<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

/// Characters of a policy as quotas count them: white space is not counted.
pub(super) fn size(text: &str) -> usize {
    text.chars().filter(|character| !character.is_whitespace()).count()
}

impl Editor<'_> {
    /// Checks the text of a policy.
    pub(super) fn check_policy(&self, text: &str, kind: DocumentKind, quota: Quota) -> Result<()> {
        self.account.settings().quotas.check(quota, size(text))?;
        let parsed = PolicyDocument::parse(text, kind);
        parsed.map(|_| ()).map_err(|error| IamError::malformed_policy(error.to_string()))
    }

    fn version(&self, document: &str) -> VersionRecord {
        VersionRecord { format: Format, created: self.now, document: document.to_owned() }
    }

    /// `CreatePolicy`.
    ///
    /// # Errors
    /// `ValidationError`, `EntityAlreadyExists`, `LimitExceeded`, `MalformedPolicyDocument`.
    pub fn create_policy(&self, new: NewPolicy) -> Result<Edit> {
        check_name("policyName", &new.name, MAX_NAME)?;
        let path = new.path.unwrap_or_else(|| "/".to_owned());
        check_path(&path)?;
        self.check_free(EntityKind::Policy, &new.name, Quota::Policies)?;
        if let Some(description) = &new.description {
            check_description(description)?;
        }
        self.check_policy(&new.document, DocumentKind::Identity, Quota::PolicySize)?;
        let record = PolicyRecord {
            format: Format,
            id: IdKind::Policy.fresh(self.random)?,
            path,
            created: self.now,
            updated: self.now,
            description: new.description.filter(|text| !text.is_empty()),
            default_version: 1,
            last_version: 1,
            tags: check_tags(new.tags)?,
        };
        let edit = Edit::new(format!("Create policy {}", new.name));
        let edit = edit.put(paths::entity(EntityKind::Policy, &new.name), &record)?;
        edit.put(paths::version(&new.name, 1), &self.version(&new.document))
    }

    /// `CreatePolicyVersion`: a new text, in force at once if `as_default`. Returns its number too.
    ///
    /// # Errors
    /// `NoSuchEntity`, `UnmodifiableEntity`, `LimitExceeded`, `MalformedPolicyDocument`.
    pub fn create_policy_version(&self, arn: &str, document: &str, as_default: bool) -> Result<(Edit, u32)> {
        let policy = self.policy(arn)?;
        self.check_policy(document, DocumentKind::Identity, Quota::PolicySize)?;
        self.account.settings().quotas.check(Quota::VersionsPerPolicy, policy.versions.len() + 1)?;
        let number = policy.record.last_version.saturating_add(1);
        let mut record = PolicyRecord { updated: self.now, last_version: number, ..(*policy.record).clone() };
        if as_default {
            record.default_version = number;
        }
        let edit = Edit::new(format!("Create version v{number} of policy {}", policy.name));
        let edit = edit.put(paths::entity(EntityKind::Policy, &policy.name), &record)?;
        Ok((edit.put(paths::version(&policy.name, number), &self.version(document))?, number))
    }

    /// `SetDefaultPolicyVersion`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `UnmodifiableEntity`.
    pub fn set_default_policy_version(&self, arn: &str, version: u32) -> Result<Edit> {
        let policy = self.policy(arn)?;
        check_version(policy, version)?;
        let record = PolicyRecord { updated: self.now, default_version: version, ..(*policy.record).clone() };
        let edit = Edit::new(format!("Put version v{version} of policy {} in force", policy.name));
        edit.put(paths::entity(EntityKind::Policy, &policy.name), &record)
    }

    /// `DeletePolicyVersion`, of a version that is not in force.
    ///
    /// # Errors
    /// `NoSuchEntity`, `UnmodifiableEntity`, `DeleteConflict`.
    pub fn delete_policy_version(&self, arn: &str, version: u32) -> Result<Edit> {
        let policy = self.policy(arn)?;
        check_version(policy, version)?;
        if policy.record.default_version == version {
            return Err(IamError::delete_conflict("Cannot delete the default version of a policy."));
        }
        let edit = Edit::new(format!("Delete version v{version} of policy {}", policy.name));
        Ok(edit.remove(paths::version(&policy.name, version)))
    }

    /// `DeletePolicy`, with its last version.
    ///
    /// # Errors
    /// `NoSuchEntity`, `UnmodifiableEntity`, `DeleteConflict` while the policy is attached, bounds rights or has several
    /// versions.
    pub fn delete_policy(&self, arn: &str) -> Result<Edit> {
        let policy = self.policy(arn)?;
        if self.account.is_attached(arn) {
            return Err(IamError::delete_conflict("Cannot delete a policy attached to entities."));
        }
        if policy.versions.len() > 1 {
            return Err(conflict("delete all versions but the default one"));
        }
        let folder = paths::folder(EntityKind::Policy, &policy.name);
        let edit = Edit::new(format!("Delete policy {}", policy.name));
        Ok(self.account.documents_in(&folder).fold(edit, |edit, (path, _)| edit.remove(path.to_owned())))
    }
}

fn check_version(policy: &Policy, version: u32) -> Result<()> {
    if policy.versions.contains_key(&version) {
        return Ok(());
    }
    let text = format!("Policy {} version v{version} does not exist or is not attachable.", policy.arn);
    Err(IamError::no_such_entity(text))
}

/// Use of managed policies.
impl crate::account::Account {
    /// Returns true if a managed policy is attached to an entity or bounds one.
    pub fn is_attached(&self, arn: &str) -> bool {
        self.attachments(arn) > 0 || self.boundary_uses(arn) > 0
    }

    /// Entities that a managed policy is attached to (`AttachmentCount`).
    pub fn attachments(&self, arn: &str) -> usize {
        let has = |attached: &BTreeSet<String>| attached.contains(arn);
        let users = self.users().filter(|user| has(&user.record.attached_policies)).count();
        let groups = self.groups().filter(|group| has(&group.record.attached_policies)).count();
        users + groups + self.roles().filter(|role| has(&role.record.attached_policies)).count()
    }

    /// Entities whose rights a managed policy bounds (`PermissionsBoundaryUsageCount`).
    pub fn boundary_uses(&self, arn: &str) -> usize {
        let is = |boundary: &Option<String>| boundary.as_deref() == Some(arn);
        let users = self.users().filter(|user| is(&user.record.permissions_boundary)).count();
        users + self.roles().filter(|role| is(&role.record.permissions_boundary)).count()
    }
}

impl Editor<'_> {
    /// Checks that a managed policy exists.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub(super) fn check_attachable(&self, arn: &str) -> Result<()> {
        if gitferry_policy::managed::find(arn).is_some() || self.account.policy_by_arn(arn).is_some() {
            return Ok(());
        }
        Err(IamError::no_such_entity(format!("Policy {} does not exist or is not attachable.", shown(arn))))
    }
}
