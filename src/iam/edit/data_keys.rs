//! Data keys: a new one for new secrets, secrets sealed again under it, and the end of keys that nothing uses.
//!
//! Each edit leaves everything readable, so a rotation may end after any of them: first a new data key, then the secrets
//! in batches, and old keys last.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::account::Account;
use crate::documents::{Document, Part, Place, SETTINGS, paths};
use crate::edit::{Edit, Editor};
use crate::error::{IamError, Result};
use crate::key_ring::KeyRing;
use crate::model::{AccessKey, DataKeyRecord, EntityKind, Settings};
use crate::sts::MAX_USER_SECONDS;

/// Most data keys of an account, those included that wait for the end of sessions.
pub const MAX_DATA_KEYS: usize = 16;
/// Most secrets that one commit seals again.
pub const MAX_RESEALED: usize = 500;
/// Time for which a replaced data key stays, in seconds: the longest session, and 12 hours for regions that go on to
/// seal sessions under it because they lag, or because of their clocks.
pub const RETIRE_AFTER_SECONDS: i64 = MAX_USER_SECONDS as i64 + 12 * 3_600;

/// Use of a data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeyUse {
    /// Id of the data key.
    pub id: String,
    /// Time of creation.
    pub created: Timestamp,
    /// True for the key that seals new secrets.
    pub is_current: bool,
    /// Ids of the key services' keys that have sealed it.
    pub services: Vec<String>,
    /// Number of access keys whose secrets it seals.
    pub secrets: usize,
    /// Time from which no session is sealed under it; `None` for the current key.
    pub unused_from: Option<Timestamp>,
}

/// Secrets that an edit seals again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Number of secrets that the edit seals under the current data key.
    pub resealed: usize,
    /// Number of secrets that are left for the next edit.
    pub left: usize,
    /// Ids of access keys whose secrets do not open. They stay as they are.
    pub unreadable: BTreeSet<String>,
}

/// Data keys of an account with their use, the current one first, then by age.
pub fn data_key_uses(account: &Account) -> Vec<DataKeyUse> {
    let mut secrets: BTreeMap<&str, usize> = BTreeMap::new();
    for key in sealed(account) {
        *secrets.entry(key.secret.data_key()).or_default() += 1;
    }
    let current = &account.settings().data_key;
    let times: Vec<Timestamp> = account.data_keys().map(|(_, record)| record.created).collect();
    let uses = account.data_keys().map(|(id, record)| DataKeyUse {
        id: id.to_owned(),
        created: record.created,
        is_current: id == current,
        services: record.wrapped.keys().cloned().collect(),
        secrets: secrets.get(id).copied().unwrap_or_default(),
        unused_from: if id == current { None } else { Some(unused_from(record.created, &times)) },
    });
    let mut uses: Vec<DataKeyUse> = uses.collect();
    uses.sort_by_key(|key| (!key.is_current, key.created));
    uses
}

/// Time from which no session is sealed under a key that another one has replaced, of keys made at `times`. A key is
/// replaced by the next younger one, in the commit that makes it.
fn unused_from(created: Timestamp, times: &[Timestamp]) -> Timestamp {
    // Of keys that commits by hand have made current again, or made in the same second, the youngest says least.
    let replaced = times.iter().filter(|time| **time > created).min().or_else(|| times.iter().max());
    let wait = SignedDuration::from_secs(RETIRE_AFTER_SECONDS);
    replaced.copied().unwrap_or(created).saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// All access keys that can be read, those in the folders of damaged users included.
fn sealed(account: &Account) -> impl Iterator<Item = &AccessKey> {
    account.documents_in("users/").filter_map(|(_, document)| match document {
        Document::AccessKey(key) => Some(&**key),
        _ => None,
    })
}

/// Returns true if an access key cannot be read: it may be sealed under any data key, and be mended.
fn has_damaged_access_key(account: &Account) -> bool {
    account.documents_in("users/").any(|(path, document)| {
        let is_key = matches!(Place::of(path), Place::Entity(EntityKind::User, _, Part::AccessKey(_)));
        is_key && document.damage().is_some()
    })
}

impl Editor<'_> {
    /// Refuses to seal under a data key that the account no longer has, as a ring that was opened long ago would.
    pub(crate) fn check_data_key(&self, keys: &KeyRing) -> Result<()> {
        let id = keys.current_id();
        if self.account.data_key(id).is_some() {
            return Ok(());
        }
        Err(IamError::service_failure(format!("The data key {id} is no longer one of the account. Try again.")))
    }

    /// Makes a data key, which key services have sealed, the one that seals new secrets. Older ones stay.
    ///
    /// # Errors
    /// `InvalidInput` if no key service has sealed it, `LimitExceeded` beyond [`MAX_DATA_KEYS`].
    pub fn replace_data_key(&self, id: &str, wrapped: BTreeMap<String, Vec<u8>>) -> Result<Edit> {
        if wrapped.is_empty() {
            return Err(IamError::invalid_input("A data key is sealed by one key service at least."));
        }
        let number = self.account.data_keys().count();
        if number >= MAX_DATA_KEYS {
            let text = format!("The account has {number} data keys, and the limit is {MAX_DATA_KEYS}.");
            return Err(IamError::limit_exceeded(text));
        }
        let old = self.account.settings();
        let settings = Settings { data_key: id.to_owned(), ..old.clone() };
        let edit = Edit::new(format!("Replace data key {} by {id}", old.data_key));
        let edit = edit.put(paths::data_key(id), &DataKeyRecord::new(self.now, wrapped))?;
        edit.put(SETTINGS.to_owned(), &settings)
    }

    /// Adds seals of key services to data keys, so that regions with those services open them. Data keys that the account
    /// no longer has are left out.
    ///
    /// # Errors
    /// `LimitExceeded` of a document.
    pub fn add_seals(&self, seals: &BTreeMap<String, BTreeMap<String, Vec<u8>>>) -> Result<Edit> {
        let names: BTreeSet<&str> = seals.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let mut edit = Edit::new(format!("Seal data keys under {}", names.join(", ")));
        for (id, wrapped) in seals {
            let Some(record) = self.account.data_key(id) else { continue };
            let mut record = (**record).clone();
            record.add_seals(wrapped.clone());
            edit = edit.put(paths::data_key(id), &record)?;
        }
        Ok(edit)
    }

    /// Seals secrets of access keys under the current data key, at most [`MAX_RESEALED`] of those under older ones.
    ///
    /// # Errors
    /// `ServiceFailure` if `keys` is not the ring of this state.
    pub fn reseal_access_keys(&self, keys: &KeyRing) -> Result<(Edit, Resealed)> {
        let account = self.account.id();
        let current = &self.account.settings().data_key;
        if keys.current_id() != current {
            let text = format!("The data key {current} has replaced {}. Try again.", keys.current_id());
            return Err(IamError::service_failure(text));
        }
        let mut edit = Edit::new(format!("Seal secrets under data key {current}"));
        let mut done = Resealed::default();
        for (user, id, key) in self.under_older_keys() {
            let Some(secret) = keys.open_access_key(&account, &user.record.id, id, &key.secret) else {
                done.unreadable.insert(id.to_owned());
                continue;
            };
            if done.resealed == MAX_RESEALED {
                done.left += 1;
                continue;
            }
            let secret = keys.seal_access_key(&account, &user.record.id, id, &secret, self.random)?;
            edit = edit.put(paths::access_key(&user.name, id), &AccessKey { secret, ..key.clone() })?;
            done.resealed += 1;
        }
        Ok((edit, done))
    }

    /// Access keys whose secrets are sealed under another data key than the current one, with their users.
    fn under_older_keys(&self) -> impl Iterator<Item = (&crate::model::User, &str, &AccessKey)> {
        let current = &self.account.settings().data_key;
        let keys = self
            .account
            .users()
            .flat_map(|user| user.access_keys.iter().map(move |(id, key)| (&**user, id.as_str(), &**key)));
        keys.filter(move |(_, _, key)| key.secret.data_key() != current)
    }

    /// Number of secrets that are sealed under another data key than the current one.
    pub fn to_reseal(&self) -> usize {
        self.under_older_keys().count()
    }

    /// Ids of the data keys that may go: other keys are used for new secrets, no secret is sealed under them, and the
    /// sessions under them have ended.
    pub fn unused_data_keys(&self) -> Vec<String> {
        if has_damaged_access_key(self.account) {
            return Vec::new();
        }
        let unused = |key: &DataKeyUse| key.secrets == 0 && key.unused_from.is_some_and(|time| time <= self.now);
        data_key_uses(self.account).into_iter().filter(unused).map(|key| key.id).collect()
    }

    /// Removes the data keys that nothing uses. Returns their ids.
    pub fn retire_data_keys(&self) -> (Edit, Vec<String>) {
        let unused = self.unused_data_keys();
        let edit = Edit::new(format!("Remove data keys {}", unused.join(", ")));
        (unused.iter().fold(edit, |edit, id| edit.remove(paths::data_key(id))), unused)
    }
}
