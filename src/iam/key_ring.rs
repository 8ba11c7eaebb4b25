//! The opened data keys of an account.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::account::Account;
use crate::arn::AccountId;
use crate::error::{IamError, Result};
use crate::random::{NoRandomness, Random, bytes};
use crate::secret::{DataKey, KeyContext, KeyService, KeyServiceError, Purpose, Sealed, SecretText};

/// Data keys of an account in memory, of which one seals new secrets. Keys that are not open yet are missing: what they
/// seal is not usable, and everything else is.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: BTreeMap<String, Arc<DataKey>>,
    current: String,
}

/// Outcome of opening the data keys of an account.
#[derive(Debug)]
pub struct Opening {
    /// The ring with the data keys that are open now.
    pub ring: KeyRing,
    /// Reasons for the data keys that are not, that of the current one first.
    pub failures: Vec<KeyRingError>,
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
        KeyRing { keys: BTreeMap::from([(current.clone(), Arc::new(key))]), current }
    }

    /// Ring of an account, none of whose data keys is open yet.
    pub fn closed(account: &Account) -> Self {
        KeyRing { keys: BTreeMap::new(), current: account.settings().data_key.clone() }
    }

    /// A data key as each key service seals it, by the ids of their keys.
    ///
    /// # Errors
    /// A key service fails.
    pub async fn wrapped(
        data_key: &DataKey,
        account: &AccountId,
        services: &[Arc<dyn KeyService>],
    ) -> std::result::Result<BTreeMap<String, Vec<u8>>, KeyServiceError> {
        let mut wrapped = BTreeMap::new();
        let context = KeyContext { account, data_key: data_key.id() };
        for service in services {
            wrapped.insert(service.key_id().to_owned(), service.wrap(data_key.expose(), context).await?);
        }
        Ok(wrapped)
    }

    /// Id of the data key that seals new secrets.
    pub fn current_id(&self) -> &str {
        &self.current
    }

    /// Opens the data keys of an account. Only the current one has to open.
    ///
    /// # Errors
    /// The current data key does not open.
    pub async fn open(
        account: &Account,
        services: &[Arc<dyn KeyService>],
    ) -> std::result::Result<KeyRing, KeyRingError> {
        let Opening { ring, mut failures } = KeyRing::closed(account).open_missing(account, services).await;
        if ring.current().is_ok() { Ok(ring) } else { Err(failures.swap_remove(0)) }
    }

    /// Opens the data keys of an account that the ring lacks, the current one first.
    pub async fn open_missing(&self, account: &Account, services: &[Arc<dyn KeyService>]) -> Opening {
        let mut ring = self.for_account(account);
        let mut failures = Vec::new();
        for id in ring.missing(account) {
            match KeyRing::open_key(account, &id, services).await {
                Ok(key) => ring = ring.with(key),
                Err(error) => failures.push(error),
            }
        }
        Opening { ring, failures }
    }

    /// Ids of the data keys of an account that the ring lacks, the current one first, even if it has no document.
    pub fn missing(&self, account: &Account) -> Vec<String> {
        let current = account.settings().data_key.as_str();
        let others = account.data_keys().map(|(id, _)| id).filter(|id| *id != current);
        let all = std::iter::once(current).chain(others);
        all.filter(|id| !self.keys.contains_key(*id)).map(str::to_owned).collect()
    }

    /// Opens one data key of an account.
    ///
    /// # Errors
    /// No key service opens it, or the account has no such key.
    pub async fn open_key(
        account: &Account,
        id: &str,
        services: &[Arc<dyn KeyService>],
    ) -> std::result::Result<DataKey, KeyRingError> {
        let record = account.data_key(id).ok_or_else(|| KeyRingError::NoDataKey(id.to_owned()))?;
        let key = open_one(&account.id(), id, &record.wrapped, services).await?;
        Ok(DataKey::new(id.to_owned(), key))
    }

    /// The ring with one more data key.
    #[must_use]
    pub fn with(&self, key: DataKey) -> Self {
        let mut ring = self.clone();
        ring.keys.insert(key.id().to_owned(), Arc::new(key));
        ring
    }

    /// The ring for another state of the account: without the data keys that the account no longer has.
    #[must_use]
    pub fn for_account(&self, account: &Account) -> Self {
        let kept = self.keys.iter().filter(|(id, _)| account.data_key(id).is_some());
        let keys = kept.map(|(id, key)| (id.clone(), key.clone())).collect();
        KeyRing { keys, current: account.settings().data_key.clone() }
    }

    /// Returns true if the ring has all data keys of an account, and need not be opened again.
    pub fn serves(&self, account: &Account) -> bool {
        self.current == account.settings().data_key && self.missing(account).is_empty()
    }

    /// Open data key of an id.
    pub fn key(&self, id: &str) -> Option<&DataKey> {
        self.keys.get(id).map(|key| &**key)
    }

    /// The data key that seals new secrets.
    pub(crate) fn current(&self) -> Result<&DataKey> {
        let current = &self.current;
        self.key(current).ok_or_else(|| IamError::service_failure(format!("The data key {current} is not open.")))
    }

    /// Open keys, the current one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &DataKey> {
        let others = self.keys.values().filter(|key| key.id() != self.current);
        self.key(&self.current).into_iter().chain(others.map(|key| &**key))
    }

    pub(crate) fn seal_access_key(
        &self,
        account: &AccountId,
        user_id: &str,
        key_id: &str,
        secret: &SecretText,
        random: &dyn Random,
    ) -> Result<Sealed> {
        let key = self.current()?;
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
