//! Roles: create, change, delete.

use gitferry_policy::DocumentKind;

use crate::documents::paths;
use crate::edit::{Edit, Editor, conflict};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::model::{
    DEFAULT_SESSION_SECONDS, EntityKind, Format, MAX_SESSION_SECONDS, MIN_SESSION_SECONDS, Quota, RoleRecord,
};
use crate::names::{MAX_ROLE_NAME, check_description, check_name, check_path, check_tags};

/// Shortest longest session of a role, in seconds.
const MIN_ROLE_SESSION_SECONDS: u32 = 3_600;

/// Role to be created.
#[derive(Clone, Debug, Default)]
pub struct NewRole {
    /// Name.
    pub name: String,
    /// Path; `/` by default.
    pub path: Option<String>,
    /// Trust policy: who may assume the role.
    pub trust_policy: String,
    /// Description for people.
    pub description: Option<String>,
    /// Longest session, in seconds; an hour by default.
    pub max_session_seconds: Option<u32>,
    /// ARN of the permissions boundary.
    pub permissions_boundary: Option<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

fn check_session(seconds: u32) -> Result<u32> {
    const { assert!(MIN_SESSION_SECONDS <= MIN_ROLE_SESSION_SECONDS) };
    if (MIN_ROLE_SESSION_SECONDS..=MAX_SESSION_SECONDS).contains(&seconds) {
        return Ok(seconds);
    }
    let text =
        format!("The longest session of a role has {MIN_ROLE_SESSION_SECONDS} to {MAX_SESSION_SECONDS} seconds.");
    Err(IamError::validation(text))
}

impl Editor<'_> {
    /// `CreateRole`.
    ///
    /// # Errors
    /// `ValidationError`, `EntityAlreadyExists`, `LimitExceeded`, `MalformedPolicyDocument`, `NoSuchEntity` (of the
    /// boundary).
    pub fn create_role(&self, new: NewRole) -> Result<Edit> {
        check_name("roleName", &new.name, MAX_ROLE_NAME)?;
        let path = new.path.unwrap_or_else(|| "/".to_owned());
        check_path(&path)?;
        self.check_free(EntityKind::Role, &new.name, Quota::Roles)?;
        if let Some(description) = &new.description {
            check_description(description)?;
        }
        if let Some(boundary) = &new.permissions_boundary {
            self.check_attachable(boundary)?;
        }
        self.check_policy(&new.trust_policy, DocumentKind::Trust, Quota::TrustPolicySize)?;
        let record = RoleRecord {
            format: Format,
            id: IdKind::Role.fresh(self.random)?,
            path,
            created: self.now,
            description: new.description.filter(|text| !text.is_empty()),
            max_session_seconds: check_session(new.max_session_seconds.unwrap_or(DEFAULT_SESSION_SECONDS))?,
            trusted: self.trusted(&new.trust_policy)?,
            trust_policy: new.trust_policy,
            permissions_boundary: new.permissions_boundary,
            attached_policies: Default::default(),
            tags: check_tags(new.tags)?,
        };
        let edit = Edit::new(format!("Create role {}", new.name));
        edit.put(paths::entity(EntityKind::Role, &new.name), &record)
    }

    /// `UpdateRole`: description and longest session. `None` leaves a value.
    ///
    /// # Errors
    /// `NoSuchEntity`, `ValidationError`.
    pub fn update_role(&self, name: &str, description: Option<&str>, max_session: Option<u32>) -> Result<Edit> {
        let mut record = (*self.role(name)?.record).clone();
        if let Some(text) = description {
            check_description(text)?;
            record.description = Some(text.to_owned()).filter(|text| !text.is_empty());
        }
        if let Some(seconds) = max_session {
            record.max_session_seconds = check_session(seconds)?;
        }
        let edit = Edit::new(format!("Update role {name}"));
        edit.put(paths::entity(EntityKind::Role, name), &record)
    }

    /// `UpdateAssumeRolePolicy`. Sessions that exist go on.
    ///
    /// # Errors
    /// `NoSuchEntity`, `MalformedPolicyDocument`, `LimitExceeded`.
    pub fn update_trust_policy(&self, name: &str, text: &str) -> Result<Edit> {
        let mut record = (*self.role(name)?.record).clone();
        self.check_policy(text, DocumentKind::Trust, Quota::TrustPolicySize)?;
        record.trusted = self.trusted(text)?;
        record.trust_policy = text.to_owned();
        let edit = Edit::new(format!("Change who may assume role {name}"));
        edit.put(paths::entity(EntityKind::Role, name), &record)
    }

    /// `DeleteRole`. Its sessions end at once.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict` while the role has policies.
    pub fn delete_role(&self, name: &str) -> Result<Edit> {
        let role = self.role(name)?;
        if !role.inline.is_empty() {
            return Err(conflict("delete policies"));
        }
        if !role.record.attached_policies.is_empty() {
            return Err(conflict("detach all policies"));
        }
        self.remove_alone(EntityKind::Role, name, format!("Delete role {name}"))
    }
}
