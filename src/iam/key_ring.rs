//! The opened data keys of an account.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::account::Account;
use crate::arn::AccountId;
use crate::error::Result;
use crate::random::{NoRandomness, Random, bytes};
use crate::secret::{DataKey, KeyContext, KeyService, KeyServiceError, Purpose, Sealed, SecretText};

/// Data keys of an account in memory, of which one seals new secrets.
#[derive(Debug)]
pub struct KeyRing {
    keys: BTreeMap<String, DataKey>,
    current: String,
}

/// No key service opens the data key.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// None of the region's key services has sealed the data key.
    #[error(
        "data key {data_key} of account {account} is sealed under {sealed:?} and under none of this region's keys {offered:?}"
    )]
    NotSealedHere {
        /// Account.
        account: AccountId,
        /// Id of the data key.
        data_key: String,
        /// Ids of the keys that open the data key.
        sealed: Vec<String>,
        /// Ids of the keys that the region has.
        offered: Vec<String>,
    },
    /// A key service failed.
    #[error("data key {data_key} does not open: {error}")]
    Service {
        /// Id of the data key.
        data_key: String,
        /// Failure of the service.
        error: KeyServiceError,
    },
    /// The account names a data key that it does not have.
    #[error("account.json names the data key {0}, whose document is missing or damaged")]
    NoDataKey(String),
}

impl KeyRingError {
    /// Kind by the caller's next step.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            KeyRingError::NotSealedHere { .. } => gitferry_base::Kind::Environment,
            KeyRingError::Service { error, .. } => error.kind,
            KeyRingError::NoDataKey(_) => gitferry_base::Kind::Missing,
        }
    }
}

impl KeyRing {
    /// Fresh data key for an account that is founded.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn fresh_key(random: &dyn Random) -> std::result::Result<DataKey, NoRandomness> {
        let id = hex::encode(bytes::<8>(random)?);
        Ok(DataKey::new(id, Zeroizing::new(bytes(random)?)))
    }

    /// Ring of one key.
    pub fn of(key: DataKey) -> Self {
        let current = key.id().to_owned();
        KeyRing { keys: BTreeMap::from([(current.clone(), key)]), current }
    }

    /// The current data key as each key service seals it, by the ids of their keys.
    ///
    /// # Errors
    /// A key service fails.
    pub async fn wrapped(
        &self,
        account: &AccountId,
        services: &[Arc<dyn KeyService>],
    ) -> std::result::Result<BTreeMap<String, Vec<u8>>, KeyServiceError> {
        let mut wrapped = BTreeMap::new();
        let context = KeyContext { account, data_key: &self.current };
        for service in services {
            let key = self.current();
            wrapped.insert(service.key_id().to_owned(), service.wrap(key.expose(), context).await?);
        }
        Ok(wrapped)
    }

    /// Id of the data key that seals new secrets.
    pub fn current_id(&self) -> &str {
        &self.current
    }

    /// Opens all data keys of an account.
    ///
    /// # Errors
    /// A data key does not open.
    pub async fn open(
        account: &Account,
        services: &[Arc<dyn KeyService>],
    ) -> std::result::Result<KeyRing, KeyRingError> {
        let current = account.settings().data_key.clone();
        let mut keys = BTreeMap::new();
        for (id, record) in account.data_keys() {
            let opened = open_one(&account.id(), id, &record.wrapped, services).await?;
            keys.insert(id.to_owned(), DataKey::new(id.to_owned(), opened));
        }
        if keys.contains_key(&current) { Ok(KeyRing { keys, current }) } else { Err(KeyRingError::NoDataKey(current)) }
    }

    /// Returns true if the ring has all data keys of an account, and need not be opened again.
    pub fn serves(&self, account: &Account) -> bool {
        self.current == account.settings().data_key && account.data_keys().all(|(id, _)| self.keys.contains_key(id))
    }

    pub(crate) fn key(&self, id: &str) -> Option<&DataKey> {
        self.keys.get(id)
    }

    pub(crate) fn current(&self) -> &DataKey {
        match self.keys.get(&self.current) {
            Some(key) => key,
            None => unreachable!("a ring is made with its current key"),
        }
    }

    /// Keys, the current one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &DataKey> {
        std::iter::once(self.current()).chain(self.keys.values().filter(|key| key.id() != self.current))
    }

    pub(crate) fn seal_access_key(
        &self,
        account: &AccountId,
        user_id: &str,
        key_id: &str,
        secret: &SecretText,
        random: &dyn Random,
    ) -> Result<Sealed> {
        let key = self.current();
        let owner = [account.as_str().as_bytes(), user_id.as_bytes(), key_id.as_bytes()];
        let blob = key.seal(Purpose::AccessKey, &owner, secret.expose().as_bytes(), random)?;
        Ok(Sealed::new(key.id(), blob))
    }

    /// Secret access key of a user; `None` if its seal is another's or damaged.
    pub(crate) fn open_access_key(
        &self,
        account: &AccountId,
        user_id: &str,
        key_id: &str,
        sealed: &Sealed,
    ) -> Option<SecretText> {
        let owner = [account.as_str().as_bytes(), user_id.as_bytes(), key_id.as_bytes()];
        let secret = self.key(sealed.data_key())?.open(Purpose::AccessKey, &owner, sealed.blob()).ok()?;
        std::str::from_utf8(&secret).ok().map(|text| SecretText::new(text.to_owned()))
    }
}

async fn open_one(
    account: &AccountId,
    id: &str,
    wrapped: &BTreeMap<String, String>,
    services: &[Arc<dyn KeyService>],
) -> std::result::Result<Zeroizing<[u8; 32]>, KeyRingError> {
    let mut failure = None;
    for service in services {
        let Some(blob) = wrapped.get(service.key_id()).and_then(|text| STANDARD.decode(text).ok()) else { continue };
        match service.unwrap(&blob, KeyContext { account, data_key: id }).await {
            Ok(key) => return Ok(key),
            Err(error) => failure = Some(KeyRingError::Service { data_key: id.to_owned(), error }),
        }
    }
    Err(failure.unwrap_or_else(|| KeyRingError::NotSealedHere {
        account: *account,
        data_key: id.to_owned(),
        sealed: wrapped.keys().cloned().collect(),
        offered: services.iter().map(|service| service.key_id().to_owned()).collect(),
    }))
}
