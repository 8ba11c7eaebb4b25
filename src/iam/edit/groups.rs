//! Groups and their members.

use crate::documents::paths;
use crate::edit::{Edit, Editor, already_exists, conflict, shown};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::model::{EntityKind, Format, GroupRecord, Quota};
use crate::names::{MAX_NAME, check_name, check_path};

/// Group to be created.
#[derive(Clone, Debug, Default)]
pub struct NewGroup {
    /// Name.
    pub name: String,
    /// Path; `/` by default.
    pub path: Option<String>,
}

impl Editor<'_> {
    /// `CreateGroup`.
    ///
    /// # Errors
    /// `ValidationError`, `EntityAlreadyExists`, `LimitExceeded`.
    pub fn create_group(&self, new: NewGroup) -> Result<Edit> {
        check_name("groupName", &new.name, MAX_NAME)?;
        let path = new.path.unwrap_or_else(|| "/".to_owned());
        check_path(&path)?;
        self.check_free(EntityKind::Group, &new.name, Quota::Groups)?;
        let record = GroupRecord {
            format: Format,
            id: IdKind::Group.fresh(self.random)?,
            path,
            created: self.now,
            attached_policies: Default::default(),
        };
        let edit = Edit::new(format!("Create group {}", new.name));
        edit.put(paths::entity(EntityKind::Group, &new.name), &record)
    }

    /// `UpdateGroup`: another name, another path. Members stay.
    ///
    /// # Errors
    /// `ValidationError`, `NoSuchEntity`, `EntityAlreadyExists`, `InvalidInput` if a document of the group is damaged.
    pub fn update_group(&self, name: &str, new_name: Option<&str>, new_path: Option<&str>) -> Result<Edit> {
        let group = self.group(name)?;
        let mut record = (*group.record).clone();
        if let Some(path) = new_path {
            check_path(path)?;
            record.path = path.to_owned();
        }
        let to = new_name.unwrap_or(name);
        if to == name {
            let edit = Edit::new(format!("Move group {name} to path {}", record.path));
            return edit.put(paths::entity(EntityKind::Group, name), &record);
        }
        check_name("newGroupName", to, MAX_NAME)?;
        let taken = self.account.names(EntityKind::Group);
        if taken.iter().any(|taken| taken != name && taken.eq_ignore_ascii_case(to)) {
            return Err(already_exists(EntityKind::Group, to));
        }
        let mut edit =
            self.move_folder(EntityKind::Group, name, to, Edit::new(format!("Rename group {name} to {to}")))?;
        for member in self.account.members(name) {
            let mut record = (*member.record).clone();
            record.groups.remove(name);
            record.groups.insert(to.to_owned());
            edit = edit.put(paths::entity(EntityKind::User, &member.name), &record)?;
        }
        edit.put(paths::entity(EntityKind::Group, to), &record)
    }

    /// `DeleteGroup`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict` while the group has members or policies.
    pub fn delete_group(&self, name: &str) -> Result<Edit> {
        let group = self.group(name)?;
        if self.account.members(name).next().is_some() {
            return Err(conflict("remove users from group"));
        }
        if !group.inline.is_empty() {
            return Err(conflict("delete policies"));
        }
        if !group.record.attached_policies.is_empty() {
            return Err(conflict("detach all policies"));
        }
        self.remove_alone(EntityKind::Group, name, format!("Delete group {name}"))
    }

    /// `AddUserToGroup`. Nothing changes for a member.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded`.
    pub fn add_user_to_group(&self, user: &str, group: &str) -> Result<Edit> {
        self.group(group)?;
        let mut record = (*self.user(user)?.record).clone();
        if !record.groups.insert(group.to_owned()) {
            return Ok(Edit::default());
        }
        self.account.settings().quotas.check(Quota::GroupsPerUser, record.groups.len())?;
        let edit = Edit::new(format!("Add user {user} to group {group}"));
        edit.put(paths::entity(EntityKind::User, user), &record)
    }

    /// `RemoveUserFromGroup`.
    ///
    /// # Errors
    /// `NoSuchEntity`, also for a user who is not a member.
    pub fn remove_user_from_group(&self, user: &str, group: &str) -> Result<Edit> {
        let mut record = (*self.user(user)?.record).clone();
        if !record.groups.remove(group) {
            let text = format!("User {} is not a member of group {}.", shown(user), shown(group));
            return Err(IamError::no_such_entity(text));
        }
        let edit = Edit::new(format!("Remove user {user} from group {group}"));
        edit.put(paths::entity(EntityKind::User, user), &record)
    }
}
