//! Users: create, rename and move, delete.

use crate::documents::{Document, paths};
use crate::edit::{Edit, Editor, already_exists, conflict};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::model::{EntityKind, Format, Quota, UserRecord};
use crate::names::{MAX_USER_NAME, check_name, check_path, check_tags};

/// User to be created.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// Name.
    pub name: String,
    /// Path; `/` by default.
    pub path: Option<String>,
    /// ARN of the permissions boundary.
    pub permissions_boundary: Option<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

impl NewUser {
    /// User with a name and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        NewUser { name: name.into(), ..NewUser::default() }
    }
}

impl Editor<'_> {
    /// `CreateUser`.
    ///
    /// # Errors
    /// `ValidationError`, `EntityAlreadyExists`, `LimitExceeded`, `NoSuchEntity` (of the boundary).
    pub fn create_user(&self, new: NewUser) -> Result<Edit> {
        check_name("userName", &new.name, MAX_USER_NAME)?;
        let path = new.path.unwrap_or_else(|| "/".to_owned());
        check_path(&path)?;
        self.check_free(EntityKind::User, &new.name, Quota::Users)?;
        if let Some(boundary) = &new.permissions_boundary {
            self.check_attachable(boundary)?;
        }
        let record = UserRecord {
            format: Format,
            id: IdKind::User.fresh(self.random)?,
            path,
            created: self.now,
            permissions_boundary: new.permissions_boundary,
            groups: Default::default(),
            attached_policies: Default::default(),
            tags: check_tags(new.tags)?,
        };
        let edit = Edit::new(format!("Create user {}", new.name));
        edit.put(paths::entity(EntityKind::User, &new.name), &record)
    }

    /// `UpdateUser`: another name, another path. Credentials, sessions and memberships stay, as they hang on the
    /// unique id.
    ///
    /// # Errors
    /// `ValidationError`, `NoSuchEntity`, `EntityAlreadyExists`, `InvalidInput` if a document of the user is damaged.
    pub fn update_user(&self, name: &str, new_name: Option<&str>, new_path: Option<&str>) -> Result<Edit> {
        let user = self.user(name)?;
        let mut record = (*user.record).clone();
        if let Some(path) = new_path {
            check_path(path)?;
            record.path = path.to_owned();
        }
        let to = new_name.unwrap_or(name);
        if to == name {
            let edit = Edit::new(format!("Move user {name} to path {}", record.path));
            return edit.put(paths::entity(EntityKind::User, name), &record);
        }
        check_name("newUserName", to, MAX_USER_NAME)?;
        let taken = self.account.names(EntityKind::User);
        if taken.iter().any(|taken| taken != name && taken.eq_ignore_ascii_case(to)) {
            return Err(already_exists(EntityKind::User, to));
        }
        let edit = self.move_folder(EntityKind::User, name, to, Edit::new(format!("Rename user {name} to {to}")))?;
        edit.put(paths::entity(EntityKind::User, to), &record)
    }

    /// Writes all documents of a folder under another name.
    pub(super) fn move_folder(&self, kind: EntityKind, from: &str, to: &str, mut edit: Edit) -> Result<Edit> {
        let folder = paths::folder(kind, from);
        let target = paths::folder(kind, to);
        for (path, document) in self.account.documents_in(&folder) {
            let kept = document.to_bytes();
            let kept = kept.ok_or_else(|| {
                IamError::invalid_input(format!("The document {path} cannot be read: mend it first."))
            })?;
            let file = path.strip_prefix(folder.as_str()).unwrap_or(path);
            edit.documents.insert(path.to_owned(), None);
            edit.documents.insert(format!("{target}{file}"), Some(kept));
        }
        Ok(edit)
    }

    /// `DeleteUser`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict` while the user has credentials, policies or groups.
    pub fn delete_user(&self, name: &str) -> Result<Edit> {
        let user = self.user(name)?;
        let parts = [
            (user.access_keys.is_empty(), "delete access keys"),
            (user.ssh_keys.is_empty(), "delete SSH public keys"),
            (user.git_credentials.is_empty(), "delete service-specific credentials"),
            (user.inline.is_empty(), "delete policies"),
            (user.record.attached_policies.is_empty(), "detach all policies"),
            (user.record.groups.is_empty(), "remove user from all groups"),
        ];
        if let Some((_, first)) = parts.iter().find(|(gone, _)| !gone) {
            return Err(conflict(first));
        }
        self.remove_alone(EntityKind::User, name, format!("Delete user {name}"))
    }
}

impl Document {
    /// Bytes of a document of an entity, as they were written; `None` if it is damaged.
    fn to_bytes(&self) -> Option<Vec<u8>> {
        use crate::documents::to_json;
        use crate::model::{InlineRecord, VersionRecord};
        Some(match self {
            Document::User(record) => to_json(record.as_ref()),
            Document::Group(record) => to_json(record.as_ref()),
            Document::Role(record, _) => to_json(record.as_ref()),
            Document::Policy(record) => to_json(record.as_ref()),
            Document::AccessKey(key) => to_json(key.as_ref()),
            Document::SshKey(key) => to_json(key.as_ref()),
            Document::GitCredential(credential) => to_json(credential.as_ref()),
            Document::Inline(policy) => to_json(&InlineRecord { format: Format, document: policy.text.clone() }),
            Document::Version(version) => {
                to_json(&VersionRecord { format: Format, created: version.created, document: version.text.clone() })
            }
            Document::Settings(settings) => to_json(settings.as_ref()),
            Document::DataKey(key) => to_json(key.as_ref()),
            Document::OidcProvider(provider) => to_json(provider.as_ref()),
            Document::Damaged(_) => return None,
        })
    }
}
