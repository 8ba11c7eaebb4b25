//! Access keys of users.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::documents::paths;
use crate::edit::{Edit, Editor, shown};
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::key_ring::KeyRing;
use crate::model::{AccessKey, Format, Quota, Status};
use crate::random::bytes;
use crate::secret::SecretText;

/// Access key that was made. Its secret is told once, here.
#[derive(Clone, Debug)]
pub struct NewAccessKey {
    /// Access key id, `AKIA…`.
    pub id: String,
    /// Secret access key, 40 characters.
    pub secret: SecretText,
}

impl Editor<'_> {
    /// `CreateAccessKey`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `LimitExceeded`, `ServiceFailure` without a data key.
    pub fn create_access_key(&self, user: &str, keys: &KeyRing) -> Result<(Edit, NewAccessKey)> {
        let owner = self.user(user)?;
        self.account.settings().quotas.check(Quota::AccessKeysPerUser, owner.access_keys.len() + 1)?;
        self.check_data_key(keys)?;
        let id = IdKind::AccessKey.fresh(self.random)?;
        let secret = SecretText::new(STANDARD.encode(Zeroizing::new(bytes::<30>(self.random)?)));
        let sealed = keys.seal_access_key(&self.account.id(), &owner.record.id, &id, &secret, self.random)?;
        let record = AccessKey { format: Format, created: self.now, status: Status::Active, secret: sealed };
        let edit = Edit::new(format!("Create access key {id} of user {user}"));
        Ok((edit.put(paths::access_key(user, &id), &record)?, NewAccessKey { id, secret }))
    }

    /// `UpdateAccessKey`: activates or deactivates a key.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn update_access_key(&self, user: &str, id: &str, status: Status) -> Result<Edit> {
        let key = self.user(user)?.access_keys.get(id).ok_or_else(|| no_such_key(id))?;
        let edit = Edit::new(format!("Set access key {id} of user {user} to {}", status.as_str()));
        edit.put(paths::access_key(user, id), &AccessKey { status, ..(**key).clone() })
    }

    /// `DeleteAccessKey`.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn delete_access_key(&self, user: &str, id: &str) -> Result<Edit> {
        let path = self.credential_path(self.user(user)?, IdKind::AccessKey, id).ok_or_else(|| no_such_key(id))?;
        Ok(Edit::new(format!("Delete access key {id} of user {user}")).remove(path))
    }
}

fn no_such_key(id: &str) -> IamError {
    IamError::no_such_entity(format!("The Access Key with id {} cannot be found.", shown(id)))
}
