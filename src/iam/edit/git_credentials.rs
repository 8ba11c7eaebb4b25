//! Git credentials of users: service-specific credentials for `codecommit.amazonaws.com`.

use crate::documents::paths;
use crate::edit::{Edit, Editor, shown};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::model::{Format, GIT_SERVICE, GitCredential, Quota, Status};
use crate::secret::{PasswordHash, SecretText};

/// Git credential that was made or reset. Its password is told once, here.
#[derive(Clone, Debug)]
pub struct NewGitCredential {
    /// Id, `ACCA…`.
    pub id: String,
    /// User name for Git.
    pub user_name: String,
    /// Password for Git, 44 characters.
    pub password: SecretText,
}

impl Editor<'_> {
    /// `CreateServiceSpecificCredential`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `NotSupportedService`, `LimitExceeded`.
    pub fn create_git_credential(&self, user: &str, service: &str) -> Result<(Edit, NewGitCredential)> {
        let owner = self.user(user)?;
        if service != GIT_SERVICE {
            return Err(IamError::not_supported_service(format!(
                "The service is {GIT_SERVICE}, not {}.",
                shown(service)
            )));
        }
        self.account.settings().quotas.check(Quota::GitCredentialsPerUser, owner.git_credentials.len() + 1)?;
        let id = IdKind::ServiceCredential.fresh(self.random)?;
        let (password, hash) = PasswordHash::generate(self.random)?;
        let user_name = self.free_git_user_name(user);
        let record = GitCredential {
            format: Format,
            created: self.now,
            status: Status::Active,
            user_name: user_name.clone(),
            password: hash,
        };
        let edit = Edit::new(format!("Create Git credential {id} of user {user}"));
        Ok((edit.put(paths::git_credential(user, &id), &record)?, NewGitCredential { id, user_name, password }))
    }

    /// `NAME-at-ACCOUNT`, then `NAME+1-at-ACCOUNT` and so on.
    fn free_git_user_name(&self, user: &str) -> String {
        let account = self.account.id();
        let numbered = (1_u64..).map(|number| format!("{user}+{number}-at-{account}"));
        let mut names = std::iter::once(format!("{user}-at-{account}")).chain(numbered);
        names.find(|name| !self.account.has_git_user(name)).unwrap_or_default()
    }

    /// `ResetServiceSpecificCredential`: a new password; the old one is refused from now on.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn reset_git_credential(&self, user: &str, id: &str) -> Result<(Edit, NewGitCredential)> {
        let old = self.user(user)?.git_credentials.get(id).ok_or_else(|| no_such_credential(id))?;
        let (password, hash) = PasswordHash::generate(self.random)?;
        let record = GitCredential { password: hash, ..(**old).clone() };
        let made = NewGitCredential { id: id.to_owned(), user_name: record.user_name.clone(), password };
        let edit = Edit::new(format!("Reset Git credential {id} of user {user}"));
        Ok((edit.put(paths::git_credential(user, id), &record)?, made))
    }

    /// `UpdateServiceSpecificCredential`: activates or deactivates a credential.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn update_git_credential(&self, user: &str, id: &str, status: Status) -> Result<Edit> {
        let old = self.user(user)?.git_credentials.get(id).ok_or_else(|| no_such_credential(id))?;
        let edit = Edit::new(format!("Set Git credential {id} of user {user} to {}", status.as_str()));
        edit.put(paths::git_credential(user, id), &GitCredential { status, ..(**old).clone() })
    }

    /// `DeleteServiceSpecificCredential`.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn delete_git_credential(&self, user: &str, id: &str) -> Result<Edit> {
        let path = self.credential_path(self.user(user)?, IdKind::ServiceCredential, id);
        let path = path.ok_or_else(|| no_such_credential(id))?;
        Ok(Edit::new(format!("Delete Git credential {id} of user {user}")).remove(path))
    }
}

fn no_such_credential(id: &str) -> IamError {
    IamError::no_such_entity(format!("The service specific credential with id {} cannot be found.", shown(id)))
}
