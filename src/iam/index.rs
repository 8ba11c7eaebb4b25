//! Who has which credential, by the name under which a client presents it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Role, User};

/// Names of the entities that have a key. More than one owner comes only from a commit by hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners(HashMap<Arc<str>, Vec<Arc<str>>>);

impl Owners {
    /// The one owner of a key; `None` if it has none or several.
    pub(crate) fn sole(&self, key: &str) -> Option<&str> {
        match self.all(key) {
            [owner] => Some(owner),
            _ => None,
        }
    }

    pub(crate) fn all(&self, key: &str) -> &[Arc<str>] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, key: &str, owner: &Arc<str>) {
        self.0.entry(key.into()).or_default().push(owner.clone());
    }

    fn remove(&mut self, key: &str, owner: &str) {
        if let Some(owners) = self.0.get_mut(key) {
            owners.retain(|other| &**other != owner);
            if owners.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

/// Indexes of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) user_ids: Owners,
    pub(crate) role_ids: Owners,
    pub(crate) access_keys: Owners,
    pub(crate) git_users: Owners,
    pub(crate) ssh_keys: Owners,
    pub(crate) fingerprints: Owners,
}

impl Index {
    pub(crate) fn add_user(&mut self, user: &User) {
        let owner: Arc<str> = Arc::from(user.name.as_str());
        self.for_each_key(user, |owners, key| owners.add(key, &owner));
    }

    pub(crate) fn remove_user(&mut self, user: &User) {
        self.for_each_key(user, |owners, key| owners.remove(key, &user.name));
    }

    fn for_each_key(&mut self, user: &User, mut apply: impl FnMut(&mut Owners, &str)) {
        apply(&mut self.user_ids, &user.record.id);
        user.access_keys.keys().for_each(|id| apply(&mut self.access_keys, id));
        user.git_credentials.values().for_each(|credential| apply(&mut self.git_users, &credential.user_name));
        for (id, key) in &user.ssh_keys {
            apply(&mut self.ssh_keys, id);
            apply(&mut self.fingerprints, &key.fingerprint);
        }
    }

    pub(crate) fn add_role(&mut self, role: &Role) {
        self.role_ids.add(&role.record.id, &Arc::from(role.name.as_str()));
    }

    pub(crate) fn remove_role(&mut self, role: &Role) {
        self.role_ids.remove(&role.record.id, &role.name);
    }
}
