//! SSH public keys of users.

use crate::documents::paths;
use crate::edit::{Edit, Editor, shown};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::model::{EntityKind, Format, Quota, SshKey, Status, User};
use crate::ssh_key::{PublicKey, Refused};

impl Editor<'_> {
    /// `UploadSSHPublicKey`. Returns the id of the key, which is the user name of SSH.
    ///
    /// # Errors
    /// `NoSuchEntity`, `UnrecognizedPublicKeyEncoding`, `InvalidPublicKey`, `DuplicateSSHPublicKey`, `LimitExceeded`.
    pub fn upload_ssh_key(&self, user: &str, public_key: &str) -> Result<(Edit, String)> {
        let owner = self.user(user)?;
        let key = PublicKey::parse(public_key).map_err(|refused| match refused {
            Refused::NotAKey => IamError::unrecognized_public_key(refused.to_string()),
            _ => IamError::invalid_public_key(refused.to_string()),
        })?;
        let fingerprint = key.fingerprint();
        if owner.ssh_keys.values().any(|other| other.fingerprint == fingerprint) {
            return Err(IamError::duplicate_ssh_key(format!("The user {user} has the key {fingerprint} already.")));
        }
        self.account.settings().quotas.check(Quota::SshKeysPerUser, owner.ssh_keys.len() + 1)?;
        let id = IdKind::SshKey.fresh(self.random)?;
        let public_key = public_key.trim().to_owned();
        let record = SshKey { format: Format, uploaded: self.now, status: Status::Active, public_key, fingerprint };
        let edit = Edit::new(format!("Upload SSH public key {id} of user {user}"));
        Ok((edit.put(paths::ssh_key(user, &id), &record)?, id))
    }

    /// `UpdateSSHPublicKey`: activates or deactivates a key.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn update_ssh_key(&self, user: &str, id: &str, status: Status) -> Result<Edit> {
        let key = self.user(user)?.ssh_keys.get(id).ok_or_else(|| no_such_key(id))?;
        let edit = Edit::new(format!("Set SSH public key {id} of user {user} to {}", status.as_str()));
        edit.put(paths::ssh_key(user, id), &SshKey { status, ..(**key).clone() })
    }

    /// `DeleteSSHPublicKey`.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn delete_ssh_key(&self, user: &str, id: &str) -> Result<Edit> {
        let path = self.credential_path(self.user(user)?, IdKind::SshKey, id).ok_or_else(|| no_such_key(id))?;
        Ok(Edit::new(format!("Delete SSH public key {id} of user {user}")).remove(path))
    }

    /// Path of a credential that exists, damaged or not.
    pub(super) fn credential_path(&self, user: &User, kind: IdKind, id: &str) -> Option<String> {
        let path = match kind {
            IdKind::AccessKey => paths::access_key(&user.name, id),
            IdKind::SshKey => paths::ssh_key(&user.name, id),
            IdKind::ServiceCredential => paths::git_credential(&user.name, id),
            _ => return None,
        };
        debug_assert!(path.starts_with(&paths::folder(EntityKind::User, &user.name)));
        (kind.is_kind_of(id) && self.account.has_document(&path)).then_some(path)
    }
}

fn no_such_key(id: &str) -> IamError {
    IamError::no_such_entity(format!("The Public Key with id {} cannot be found.", shown(id)))
}
