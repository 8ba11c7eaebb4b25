//! Delegations: a host that has authenticated a client lets the host of another region act for the client.
//!
//! A delegation is a token: claims sealed under a data key of the account, which every host of the account opens and no
//! client makes. It names the credential that the client has proven, and no rights: the host that receives it looks the
//! credential up in its own state of the account, as if the client had proven it there. So a credential that is inactive,
//! deleted or ended there is refused, and the policies of that state decide.
//!
//! A delegation is for one region, one repository and one service of Git, and for a short time. One that a host sends
//! carries the client's address, and is accepted once. One that a client is given for its own requests is accepted until
//! it expires, and the address is the one from which the client comes.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::arn::AccountId;
use crate::authenticated::{Authenticated, ClientFacts};
use crate::key_ring::KeyRing;
use crate::principal::Credential;
use crate::random::{NoRandomness, Random};
use crate::request::RequestParts;
use crate::secret::{Purpose, SecretText};

/// Scheme of the header `Authorization` that carries a delegation.
pub const SCHEME: &str = "Gitferry-Delegation";
/// Validity of a delegation that a host sends.
pub const HOST_LIFETIME: SignedDuration = SignedDuration::from_secs(60);
/// Validity of a delegation that a client is given: that of a signature in the password of Git.
pub const CLIENT_LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// Largest difference between the clocks of two hosts.
pub const MAX_HOST_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Longest delegation, in characters. The longest session token takes about 6,500.
pub const MAX_DELEGATION: usize = 8_192;
/// Largest number of used delegations that a host remembers until they expire. One takes about 50 bytes.
pub const MAX_USED: usize = 100_000;
/// First byte of a delegation: its format.
const FORMAT: u8 = 1;
/// Random bytes at the beginning of a seal, which tell delegations apart.
const SALT_BYTES: usize = 16;

/// Bearer of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// The host that makes the delegation sends it with one request of the client.
    Host,
    /// The client sends it with requests of its own.
    Client,
}

/// Requests that a delegation is for.
#[derive(Clone, Copy, Debug)]
pub struct Delegated<'a> {
    /// Region of the host that makes the delegation.
    pub from: &'a str,
    /// Region of the host that receives the requests.
    pub to: &'a str,
    /// Name of the repository, which follows the slash in the path of the requests.
    pub repository: &'a str,
    /// Rest of the path, such as `/git-receive-pack`; with `/info/lfs` all paths below it.
    pub service: &'a str,
    /// Bearer.
    pub bearer: Bearer,
}

/// A delegation is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegationError {
    /// The token is not one of this account.
    #[error("the delegation is not one of this account")]
    Invalid,
    /// The delegation is for a host of another region, another repository or another service.
    #[error("the delegation is for another request")]
    OtherRequest,
    /// The time of the delegation is over, or is to come.
    #[error("the delegation has expired, or the clocks of the hosts differ by more than a minute")]
    Expired,
    /// The delegation of a host came before.
    #[error("the delegation has been used before")]
    Used,
}

/// No delegation can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDelegated {
    /// The principal came with a delegation itself: it goes no further.
    #[error("a principal that another host has delegated is delegated no further")]
    Delegated,
    /// The operator of the host has no credential.
    #[error("the operator has no credential that another host could look up")]
    Operator,
    /// The host has not opened the data key that seals new secrets.
    #[error("the current data key of the account is not open")]
    Closed,
    /// The session token is too long.
    #[error("the delegation is longer than {MAX_DELEGATION} characters")]
    TooLong,
    /// The system has no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Credential that a client has proven. Users are named by unique id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Proven {
    AccessKey { id: String },
    Session { id: String, token: String },
    GitCredential { user: String, id: String },
    SshKey { id: String },
    Caller { arn: String, user_id: String, key: String },
}

/// Content of a delegation, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) proven: Proven,
    /// Client of the one request; `None` if the client is the bearer.
    pub(crate) client: Option<ClientFacts>,
    pub(crate) from: String,
    to: String,
    /// Path of the repository.
    path: String,
    service: String,
    issued: i64,
    expires: i64,
}

impl Proven {
    fn of(who: &Authenticated) -> Result<Proven, NotDelegated> {
        if let Credential::Caller(key) = who.principal.credential() {
            let principal = &who.principal;
            return Ok(Proven::Caller { arn: principal.arn(), user_id: principal.user_id(), key: key.clone() });
        }
        if let Some(session) = who.principal.session() {
            let id = session.access_key_id.clone();
            return Ok(Proven::Session { id, token: session.token().expose().to_owned() });
        }
        match who.principal.credential() {
            Credential::AccessKey(id) => Ok(Proven::AccessKey { id: id.clone() }),
            Credential::GitCredential(id) => {
                Ok(Proven::GitCredential { user: who.principal.entity_id().to_owned(), id: id.clone() })
            }
            Credential::SshKey(id) => Ok(Proven::SshKey { id: id.clone() }),
            Credential::Session(_) | Credential::Caller(_) => unreachable!("both are told apart above"),
            Credential::Operator => Err(NotDelegated::Operator),
        }
    }
}

impl Authenticated {
    /// Makes the value of a header `Authorization` by which the host of another region takes requests for those of this
    /// principal.
    ///
    /// # Errors
    /// The principal cannot be delegated, or the system has no randomness.
    pub fn delegate(
        &self,
        requests: &Delegated<'_>,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<SecretText, NotDelegated> {
        if self.delegated_by.is_some() {
            return Err(NotDelegated::Delegated);
        }
        let lifetime = match requests.bearer {
            Bearer::Host => HOST_LIFETIME,
            Bearer::Client => CLIENT_LIFETIME,
        };
        let claims = Claims {
            proven: Proven::of(self)?,
            client: (requests.bearer == Bearer::Host).then(|| self.client.shortened()),
            from: requests.from.to_owned(),
            to: requests.to.to_owned(),
            path: format!("/{}", requests.repository),
            service: requests.service.to_owned(),
            issued: now.as_second(),
            expires: now.as_second().saturating_add(lifetime.as_secs()),
        };
        let token = seal(&self.principal.account(), &self.keys, &claims, random)?;
        if token.len() > MAX_DELEGATION {
            return Err(NotDelegated::TooLong);
        }
        Ok(SecretText::new(format!("{SCHEME} {token}")))
    }
}

fn seal(account: &AccountId, keys: &KeyRing, claims: &Claims, random: &dyn Random) -> Result<String, NotDelegated> {
    let Ok(json) = serde_json::to_vec(claims) else { unreachable!("claims are texts and numbers") };
    let key = keys.current().map_err(|_| NotDelegated::Closed)?;
    let blob = key.seal(Purpose::Delegation, &[account.as_str().as_bytes()], &json, random)?;
    let mut token = vec![FORMAT];
    token.extend_from_slice(&blob);
    Ok(URL_SAFE_NO_PAD.encode(token))
}

/// The delegation that a request carries; `None` for a request with other credentials, or none.
pub(crate) fn token_of<'a>(parts: &RequestParts<'a>) -> Option<&'a str> {
    let header = parts.single("authorization").ok()??;
    let (scheme, token) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token.trim())
}

impl Claims {
    /// Opens a delegation of an account that is for a request to the host of `region` at `now`.
    ///
    /// # Errors
    /// The token is not one of this account, is for another request, or has expired. A delegation of a host is in `used`
    /// from then on, and is refused when it comes again.
    pub(crate) fn accept(
        token: &str,
        account: &AccountId,
        keys: &KeyRing,
        (region, parts): (&str, &RequestParts<'_>),
        now: Timestamp,
        used: &Used,
    ) -> Result<Claims, Refused> {
        let (claims, salt) = open(token, account, keys).ok_or(DelegationError::Invalid)?;
        if claims.to != region || !claims.covers(parts) {
            return Err(DelegationError::OtherRequest.into());
        }
        let skew = MAX_HOST_SKEW.as_secs();
        let last = claims.expires.saturating_add(skew);
        if now.as_second() < claims.issued.saturating_sub(skew) || now.as_second() >= last {
            return Err(DelegationError::Expired.into());
        }
        if claims.client.is_some() {
            used.take(salt, last, now.as_second())?;
        }
        Ok(claims)
    }

    fn covers(&self, parts: &RequestParts<'_>) -> bool {
        let rest = parts.path.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix(&self.service));
        parts.repository_path == Some(&self.path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn open(token: &str, account: &AccountId, keys: &KeyRing) -> Option<(Claims, [u8; SALT_BYTES])> {
    if token.len() > MAX_DELEGATION {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (FORMAT, blob) = bytes.split_first().map(|(format, blob)| (*format, blob))? else { return None };
    let owner = [account.as_str().as_bytes()];
    let json = keys.all().find_map(|key| key.open(Purpose::Delegation, &owner, blob).ok())?;
    Some((serde_json::from_slice(&json).ok()?, *blob.first_chunk()?))
}

/// Reason why a delegation grants nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Delegation(DelegationError),
    /// The host cannot remember another one.
    Full,
}

impl From<DelegationError> for Refused {
    fn from(error: DelegationError) -> Self {
        Refused::Delegation(error)
    }
}

/// Delegations of hosts that came already, until they expire.
#[derive(Default)]
pub(crate) struct Used(Mutex<BTreeSet<(i64, [u8; SALT_BYTES])>>);

impl fmt::Debug for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Used({} kept)", self.0.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Used {
    /// Remembers a delegation until `last`, its last second.
    fn take(&self, salt: [u8; SALT_BYTES], last: i64, now: i64) -> Result<(), Refused> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while used.first().is_some_and(|(last, _)| *last <= now) {
            used.pop_first();
        }
        if used.len() >= MAX_USED {
            return Err(Refused::Full);
        }
        if used.insert((last, salt)) { Ok(()) } else { Err(DelegationError::Used.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_delegations_are_remembered_until_they_expire_and_no_more_than_the_limit() {
        let used = Used::default();
        let salt = |number: u32| {
            let mut salt = [0; SALT_BYTES];
            salt[..4].copy_from_slice(&number.to_be_bytes());
            salt
        };
        assert_eq!(used.take(salt(0), 10, 0), Ok(()));
        assert_eq!(used.take(salt(0), 10, 9), Err(DelegationError::Used.into()));
        for number in 1..MAX_USED as u32 {
            assert_eq!(used.take(salt(number), 20, 9), Ok(()));
        }
        assert_eq!(used.take(salt(u32::MAX), 20, 9), Err(Refused::Full));
        // The first one has expired, and makes room.
        assert_eq!(used.take(salt(u32::MAX), 20, 10), Ok(()));
        assert_eq!(used.0.lock().unwrap().len(), MAX_USED);
    }
}
