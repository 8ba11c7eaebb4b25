//! Policies of users, groups and roles: managed ones attached, inline ones put, boundaries.

use std::collections::BTreeSet;

use gitferry_policy::DocumentKind;

use crate::documents::paths;
use crate::edit::policies::size;
use crate::edit::{Edit, Editor, no_such, shown};
use crate::error::{IamError, Result};
use crate::model::{EntityKind, Format, InlinePolicy, InlineRecord, Quota};
use crate::names::{MAX_NAME, check_name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Managed policies that an entity has, and the quota on their number.
fn attached_quota(kind: EntityKind) -> Quota {
    match kind {
        EntityKind::User => Quota::AttachedPoliciesPerUser,
        EntityKind::Group => Quota::AttachedPoliciesPerGroup,
        EntityKind::Role => Quota::AttachedPoliciesPerRole,
        EntityKind::Policy => unreachable!("policies are not attached to policies"),
    }
}

impl Editor<'_> {
    /// `AttachUserPolicy`, `AttachGroupPolicy`, `AttachRolePolicy`. Nothing changes if the policy is attached.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded`.
    pub fn attach_policy(&self, kind: EntityKind, name: &str, arn: &str) -> Result<Edit> {
        self.change_attached(kind, name, format!("Attach policy {arn} to {} {name}", kind.word()), |attached| {
            self.check_attachable(arn)?;
            let added = attached.insert(arn.to_owned());
            self.account.settings().quotas.check(attached_quota(kind), attached.len())?;
            Ok(added)
        })
    }

    /// `DetachUserPolicy`, `DetachGroupPolicy`, `DetachRolePolicy`.
    ///
    /// # Errors
    /// `NoSuchEntity`, also for a policy that is not attached.
    pub fn detach_policy(&self, kind: EntityKind, name: &str, arn: &str) -> Result<Edit> {
        self.change_attached(
            kind,
            name,
            format!("Detach policy {} from {} {name}", shown(arn), kind.word()),
            |attached| {
                if attached.remove(arn) {
                    return Ok(true);
                }
                Err(IamError::no_such_entity(format!("Policy {} was not found.", shown(arn))))
            },
        )
    }

    fn change_attached(
        &self,
        kind: EntityKind,
        name: &str,
        message: String,
        change: impl FnOnce(&mut BTreeSet<String>) -> Result<bool>,
    ) -> Result<Edit> {
        let path = paths::entity(kind, name);
        let edit = Edit::new(message);
        match kind {
            EntityKind::User => {
                let mut record = (*self.user(name)?.record).clone();
                let changed = change(&mut record.attached_policies)?;
                if changed { edit.put(path, &record) } else { Ok(Edit::default()) }
            }
            EntityKind::Group => {
                let mut record = (*self.group(name)?.record).clone();
                let changed = change(&mut record.attached_policies)?;
                if changed { edit.put(path, &record) } else { Ok(Edit::default()) }
            }
            EntityKind::Role => {
                let mut record = (*self.role(name)?.record).clone();
                let changed = change(&mut record.attached_policies)?;
                if changed { edit.put(path, &record) } else { Ok(Edit::default()) }
            }
            EntityKind::Policy => Err(no_such(kind, name)),
        }
    }

    fn inline(&self, kind: EntityKind, name: &str) -> Result<(&BTreeMap<String, Arc<InlinePolicy>>, Quota)> {
        match kind {
            EntityKind::User => Ok((&self.user(name)?.inline, Quota::UserPolicySize)),
            EntityKind::Group => Ok((&self.group(name)?.inline, Quota::GroupPolicySize)),
            EntityKind::Role => Ok((&self.role(name)?.inline, Quota::RolePolicySize)),
            EntityKind::Policy => Err(no_such(kind, name)),
        }
    }

    /// `PutUserPolicy`, `PutGroupPolicy`, `PutRolePolicy`: an inline policy, in place of the one of its name.
    ///
    /// # Errors
    /// `NoSuchEntity`, `ValidationError`, `MalformedPolicyDocument`, `LimitExceeded`.
    pub fn put_policy(&self, kind: EntityKind, name: &str, policy: &str, document: &str) -> Result<Edit> {
        let (inline, quota) = self.inline(kind, name)?;
        check_name("policyName", policy, MAX_NAME)?;
        self.check_policy(document, DocumentKind::Identity, quota)?;
        let others = inline.iter().filter(|(other, _)| *other != policy).map(|(_, other)| size(&other.text));
        self.account.settings().quotas.check(quota, others.sum::<usize>() + size(document))?;
        let record = InlineRecord { format: Format, document: document.to_owned() };
        let edit = Edit::new(format!("Put policy {policy} on {} {name}", kind.word()));
        edit.put(paths::inline(kind, name, policy), &record)
    }

    /// `DeleteUserPolicy`, `DeleteGroupPolicy`, `DeleteRolePolicy`: an inline policy.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn delete_inline_policy(&self, kind: EntityKind, name: &str, policy: &str) -> Result<Edit> {
        self.inline(kind, name)?;
        let path = paths::inline(kind, name, policy);
        // A damaged policy may be deleted too: this is how an operator mends it.
        if check_name("policyName", policy, MAX_NAME).is_err() || !self.account.has_document(&path) {
            let word = kind.word();
            let text = format!("The {word} policy with name {} cannot be found.", shown(policy));
            return Err(IamError::no_such_entity(text));
        }
        Ok(Edit::new(format!("Delete policy {policy} of {} {name}", kind.word())).remove(path))
    }

    /// `PutUserPermissionsBoundary`, `PutRolePermissionsBoundary`; with `None` their `Delete…`.
    ///
    /// # Errors
    /// `NoSuchEntity`, also if the entity is a group, or has no boundary to delete.
    pub fn set_boundary(&self, kind: EntityKind, name: &str, arn: Option<&str>) -> Result<Edit> {
        let path = paths::entity(kind, name);
        let change = |boundary: &mut Option<String>| match arn {
            Some(arn) => {
                self.check_attachable(arn)?;
                *boundary = Some(arn.to_owned());
                Ok(())
            }
            None if boundary.take().is_some() => Ok(()),
            None => Err(IamError::no_such_entity(format!("The {} {name} has no permissions boundary.", kind.word()))),
        };
        let edit = Edit::new(match arn {
            Some(arn) => format!("Bound the rights of {} {name} by {}", kind.word(), shown(arn)),
            None => format!("Remove the permissions boundary of {} {name}", kind.word()),
        });
        match kind {
            EntityKind::User => {
                let mut record = (*self.user(name)?.record).clone();
                change(&mut record.permissions_boundary)?;
                edit.put(path, &record)
            }
            EntityKind::Role => {
                let mut record = (*self.role(name)?.record).clone();
                change(&mut record.permissions_boundary)?;
                edit.put(path, &record)
            }
            EntityKind::Group | EntityKind::Policy => Err(no_such(kind, name)),
        }
    }
}
