//! Signing keys: derived from secret access keys for a day, a region and a service, and kept for the next request.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gitferry_base::capacity::capacity;
use lru::LruCache;
use ring::hmac;
use zeroize::Zeroizing;

use crate::secret::SecretText;

/// Largest number of derived keys that are kept. One takes about 400 bytes.
pub const MAX_SIGNING_KEYS: usize = 10_000;

/// Day, region and service that a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Day, `YYYYMMDD`.
    pub date: &'a str,
    /// Region.
    pub region: &'a str,
    /// Service.
    pub service: &'a str,
}

/// Key that signs the requests of one access key on one day in one region for one service.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key: `HMAC(HMAC(HMAC(HMAC("AWS4" + secret, date), region), service), "aws4_request")`.
    pub fn derive(secret: &SecretText, scope: &Scope<'_>) -> Self {
        let start = Zeroizing::new(format!("AWS4{}", secret.expose()));
        let steps = [scope.date, scope.region, scope.service, "aws4_request"];
        let start = hmac::Key::new(hmac::HMAC_SHA256, start.as_bytes());
        SigningKey(
            steps
                .iter()
                .fold(start, |key, step| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref())),
        )
    }

    /// Compares a signature with that of `text`, in constant time.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8; 32]) -> bool {
        hmac::verify(&self.0, text, signature).is_ok()
    }

    #[cfg(test)]
    pub(crate) fn sign(&self, text: &[u8]) -> String {
        hex::encode(hmac::sign(&self.0, text))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[signing key]")
    }
}

/// Identity of a secret: the random salt of its seal. A secret that replaces another has another one.
pub type SecretId = [u8; 16];

/// Seal, owner and scope. A seal that is copied to another owner must not find the key of its first one.
type CacheKey = (SecretId, [String; 4]);

/// Derived keys, the least used of which make place for new ones.
pub struct SigningKeys(Mutex<LruCache<CacheKey, Arc<SigningKey>>>);

impl Default for SigningKeys {
    fn default() -> Self {
        SigningKeys(Mutex::new(LruCache::new(capacity::<MAX_SIGNING_KEYS>())))
    }
}

impl SigningKeys {
    /// The key of a secret for its owner and a scope; the secret is opened only if the key is not kept.
    pub fn get(
        &self,
        secret: SecretId,
        owner: &str,
        scope: &Scope<'_>,
        open: impl FnOnce() -> Option<SecretText>,
    ) -> Option<Arc<SigningKey>> {
        let key = (secret, [owner, scope.date, scope.region, scope.service].map(str::to_owned));
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(kept.clone());
        }
        let derived = Arc::new(SigningKey::derive(&open()?, scope));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, derived.clone());
        Some(derived)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        write!(f, "SigningKeys({kept} kept)")
    }
}
