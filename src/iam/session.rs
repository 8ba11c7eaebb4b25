//! Sessions with temporary credentials. A session is a token that the client carries: claims sealed under a data key
//! of the account. No row is written, and every region that has the data key accepts it.
//!
//! The secret access key of a session is derived from the data key and the salt of the token's seal, so it is nowhere.
//! A session names its user or role by unique id, and ends with it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gitferry_base::capacity::capacity;
use gitferry_policy::{DocumentKind, NamedPolicy, PolicyDocument};
use jiff::Timestamp;
use lru::LruCache;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::arn::AccountId;
use crate::error::{IamError, Result};
use crate::key_ring::KeyRing;
use crate::names::Tags;
use crate::random::Random;
use crate::secret::{DataKey, Purpose, SecretText};
use crate::sigv4::SecretId;

/// Longest session token, in characters.
pub const MAX_TOKEN: usize = 4_096;
/// Largest number of opened sessions that are kept. One takes 1 to 10 kB.
pub const MAX_SESSIONS: usize = 10_000;
/// First byte of a token: its format.
const FORMAT: u8 = 1;

/// User or role of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// Session of a user (`GetSessionToken`), by its unique id.
    User(String),
    /// Session of a role, by the role's unique id.
    Role(String),
}

/// What a token says, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) key: String,
    pub(crate) of: Subject,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    pub(crate) issued: i64,
    pub(crate) expires: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) policy_arns: Vec<String>,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub(crate) tags: Tags,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) transitive: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
}

/// Temporary credentials. The secret and the token are told once, here.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Access key id, `ASIA…`.
    pub access_key_id: String,
    /// Secret access key, 40 characters.
    pub secret: SecretText,
    /// Session token.
    pub token: SecretText,
    /// End of the session.
    pub expires: Timestamp,
}

/// Session that a token stands for.
#[derive(Debug)]
pub struct Session {
    /// Access key id, `ASIA…`.
    pub access_key_id: String,
    /// User or role.
    pub subject: Subject,
    /// Name of the session; empty for a user's.
    pub name: String,
    /// Begin.
    pub issued: Timestamp,
    /// End.
    pub expires: Timestamp,
    /// Session policies, which limit the rights.
    pub policies: Vec<NamedPolicy>,
    /// ARNs of managed policies that limit the rights.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: Tags,
    /// Keys of the tags that go on to the sessions of roles assumed from here.
    pub transitive: BTreeSet<String>,
    /// Source identity, which goes on too.
    pub source_identity: Option<String>,
    /// ARN of the identity provider whose token began the session.
    pub provider: Option<String>,
    secret_id: SecretId,
    data_key: String,
    token: SecretText,
}

/// A session token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not one of this account.
    #[error("the session token is not one of this account")]
    Invalid,
    /// The session has ended.
    #[error("the session has expired: ask for new credentials")]
    Expired,
}

fn secret(key: &DataKey, account: &AccountId, access_key_id: &str, salt: &SecretId) -> SecretText {
    let parts = [account.as_str().as_bytes(), access_key_id.as_bytes(), salt];
    let derived = key.derive(Purpose::TemporarySecret, &parts);
    SecretText::new(STANDARD.encode(&derived[..30]))
}

/// Makes the credentials of a session.
pub(crate) fn issue(account: &AccountId, keys: &KeyRing, claims: &Claims, random: &dyn Random) -> Result<Credentials> {
    let key = keys.current()?;
    let json = serde_json::to_vec(claims).map_err(|error| IamError::service_failure(error.to_string()))?;
    let blob = key.seal(Purpose::Session, &[account.as_str().as_bytes()], &json, random)?;
    let mut salt = SecretId::default();
    salt.copy_from_slice(&blob[..16]);
    let mut token = vec![FORMAT];
    token.extend_from_slice(&blob);
    let token = URL_SAFE_NO_PAD.encode(token);
    if token.len() > MAX_TOKEN {
        let percent = token.len() * 100 / MAX_TOKEN;
        return Err(IamError::packed_policy_too_large(format!(
            "Session policies and tags take {percent} % of the space in a session token."
        )));
    }
    Ok(Credentials {
        access_key_id: claims.key.clone(),
        secret: secret(key, account, &claims.key, &salt),
        token: SecretText::new(token),
        expires: Timestamp::from_second(claims.expires)
            .map_err(|error| IamError::service_failure(error.to_string()))?,
    })
}

impl Session {
    /// Opens a token. The session may have ended.
    fn open(account: &AccountId, keys: &KeyRing, token: &str) -> Option<Session> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        #[cfg(test)]
        work::count();
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (FORMAT, blob) = bytes.split_first().map(|(format, blob)| (*format, blob))? else { return None };
        let owner = [account.as_str().as_bytes()];
        let opened = keys.all().find_map(|key| Some((key, key.open(Purpose::Session, &owner, blob).ok()?)));
        let (key, json) = opened?;
        let claims: Claims = serde_json::from_slice(&json).ok()?;
        let mut secret_id = SecretId::default();
        secret_id.copy_from_slice(blob.get(..16)?);
        let policies = claims.policy.iter().map(|text| {
            let parsed = PolicyDocument::parse(text, DocumentKind::Identity).ok()?;
            Some(NamedPolicy::new(format!("policy of session {}", claims.name), parsed))
        });
        Some(Session {
            policies: policies.collect::<Option<Vec<_>>>()?,
            access_key_id: claims.key,
            subject: claims.of,
            name: claims.name,
            issued: Timestamp::from_second(claims.issued).ok()?,
            expires: Timestamp::from_second(claims.expires).ok()?,
            policy_arns: claims.policy_arns,
            tags: claims.tags,
            transitive: claims.transitive,
            source_identity: claims.source_identity,
            provider: claims.provider,
            secret_id,
            data_key: key.id().to_owned(),
            token: SecretText::new(token.to_owned()),
        })
    }

    /// Session of AWS, which has no token here.
    pub(crate) fn of_caller(
        access_key_id: &str,
        subject: Subject,
        name: &str,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Session {
        Session {
            access_key_id: access_key_id.to_owned(),
            subject,
            name: name.to_owned(),
            issued,
            expires,
            policies: Vec::new(),
            policy_arns: Vec::new(),
            tags: Tags::default(),
            transitive: BTreeSet::new(),
            source_identity: None,
            provider: None,
            secret_id: SecretId::default(),
            data_key: String::new(),
            token: SecretText::new(String::new()),
        }
    }

    /// Token of the session, which proves nothing without its secret.
    pub(crate) fn token(&self) -> &SecretText {
        &self.token
    }

    /// Identity of the session's secret.
    pub(crate) fn secret_id(&self) -> SecretId {
        self.secret_id
    }

    /// Secret access key of the session; `None` if the ring has lost its data key.
    pub(crate) fn secret(&self, account: &AccountId, keys: &KeyRing) -> Option<SecretText> {
        Some(secret(keys.key(&self.data_key)?, account, &self.access_key_id, &self.secret_id))
    }
}

/// Opened sessions by the hash of their token, the least used of which make place for new ones.
pub struct Sessions(Mutex<LruCache<[u8; 32], Arc<Session>>>);

impl Default for Sessions {
    fn default() -> Self {
        Sessions(Mutex::new(LruCache::new(capacity::<MAX_SESSIONS>())))
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} kept)", self.0.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Sessions {
    /// The session of a token that `access_key_id` presents.
    ///
    /// # Errors
    /// The token is not one of this account for this access key, or the session has ended.
    pub fn get(
        &self,
        account: &AccountId,
        keys: &KeyRing,
        access_key_id: &str,
        token: &str,
        now: Timestamp,
    ) -> std::result::Result<Arc<Session>, TokenError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let session = match kept {
            // A ring without the data key, after the key was removed from the account, no longer accepts its tokens.
            Some(session) if keys.key(&session.data_key).is_some() => session,
            Some(_) => return Err(TokenError::Invalid),
            None => {
                let opened = Arc::new(Session::open(account, keys, token).ok_or(TokenError::Invalid)?);
                self.0.lock().unwrap_or_else(PoisonError::into_inner).put(hash, opened.clone());
                opened
            }
        };
        if session.access_key_id != access_key_id {
            return Err(TokenError::Invalid);
        }
        if now < session.expires { Ok(session) } else { Err(TokenError::Expired) }
    }
}

/// Count of tokens that a test's thread opens.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local!(static TOKENS: Cell<u64> = const { Cell::new(0) });

    pub(super) fn count() {
        TOKENS.set(TOKENS.get() + 1);
    }

    /// Tokens that `action` opens.
    pub(crate) fn of<T>(action: impl FnOnce() -> T) -> (T, u64) {
        let before = TOKENS.get();
        let value = action();
        (value, TOKENS.get() - before)
    }
}
