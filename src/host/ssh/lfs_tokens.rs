//! Short-lived credentials for Git LFS over HTTP, which `git-lfs-authenticate` hands out over SSH.
//!
//! A token is a statement of the host about one login over SSH, one repository and one access, with a time at which it
//! ends, and an HMAC-SHA256 over it under a secret of the host. No row is written. Each request with a token finds the
//! principal of the login anew, so that a token ends with its key, and has the rights of that moment.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gitferry_base::clock::Clock;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::identities::{Login, SshAccess, SshIdentities, UserKey};
use crate::auth::{Access, Cause, Denied, Principal, Rights};
use gitferry_engine::region::push::RefAuthorizer;
use gitferry_iam::Delegated;

/// Time for which a token is accepted. git-lfs asks for another one when it has ended.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// Beginning of every token.
const PREFIX: &str = "gitferry-lfs.";
/// Longest token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 2048;
/// Use of the host keys' secret.
const PURPOSE: &str = "gitferry LFS token, version 1";

/// Returns true if the value of a header `Authorization` has the form of a token, valid or not.
pub(crate) fn is_lfs_token(authorization: &str) -> bool {
    token(authorization).is_some()
}

fn token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    token.strip_prefix(PREFIX).filter(|_| scheme.eq_ignore_ascii_case("bearer"))
}

/// Makes and checks the tokens of one host.
pub struct LfsTokens {
    secret: [u8; 32],
    identities: Arc<dyn SshIdentities>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for LfsTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LfsTokens")
    }
}

/// Content of a token.
#[derive(Serialize, Deserialize)]
struct Claims {
    key: UserKey,
    repository: String,
    write: bool,
    /// End of the token, in seconds since 1970.
    end: i64,
}

/// A token with its end.
#[derive(Debug)]
pub struct LfsToken {
    /// Value of the header `Authorization`.
    pub authorization: String,
    /// Time at which the token ends.
    pub end: Timestamp,
    /// Seconds until then.
    pub seconds: i64,
}

impl LfsTokens {
    /// Tokens of the users who log in over SSH, under a secret that follows from the host keys: hosts with the same keys
    /// accept each other's.
    pub fn new(ssh: &SshAccess, clock: Arc<dyn Clock>) -> Self {
        LfsTokens { secret: ssh.host_keys.derived_secret(PURPOSE), identities: ssh.identities.clone(), clock }
    }

    /// Makes a token for the LFS objects of one repository.
    pub fn mint(&self, key: &UserKey, repository: &str, access: Access) -> LfsToken {
        let end = self.clock.now().checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
        let claims = Claims {
            key: key.clone(),
            repository: repository.to_owned(),
            write: access == Access::Write,
            end: end.as_second(),
        };
        let claims = serde_json::json!(claims).to_string();
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let proof = URL_SAFE_NO_PAD.encode(self.mac(&claims).finalize().into_bytes());
        let authorization = format!("Bearer {PREFIX}{claims}.{proof}");
        LfsToken { authorization, end, seconds: LIFETIME.as_secs() }
    }

    /// The principal of a request over HTTP with a token, limited to the repository and the access of the token; `None`
    /// for a request without a valid token.
    ///
    /// # Errors
    /// As of [`SshIdentities::identify`]: the key of the login may be gone by now.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
        secure: bool,
    ) -> Result<Option<Principal>, Denied> {
        let Some(Claims { key, repository, write, .. }) = self.claims(headers) else { return Ok(None) };
        let client = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let principal = self.identities.identify(&Login { secure, ..key.login(address, client) })?;
        let name = principal.name().to_owned();
        let identity = principal.identity().clone();
        let limited = Principal::new(&name, Arc::new(Limited { principal, repository, write }));
        Ok(Some(limited.with_identity(identity)))
    }

    /// Claims of a valid token.
    fn claims(&self, headers: &HeaderMap) -> Option<Claims> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok().filter(|value| value.len() <= MAX_TOKEN_BYTES)?;
        let (claims, proof) = token(value)?.split_once('.')?;
        // Compares in constant time, before anything is parsed.
        self.mac(claims).verify_slice(&URL_SAFE_NO_PAD.decode(proof).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (claims.end > self.clock.now().as_second()).then_some(claims)
    }

    fn mac(&self, claims: &str) -> Hmac<Sha256> {
        // HMAC takes keys of any length; these have 32 bytes.
        let mut mac = Hmac::<Sha256>::new(&self.key());
        mac.update(claims.as_bytes());
        mac
    }

    /// The secret, padded to the block of SHA-256 as HMAC does with short keys.
    fn key(&self) -> hmac::digest::Key<Hmac<Sha256>> {
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        key[..self.secret.len()].copy_from_slice(&self.secret);
        key
    }
}

/// Rights of a principal, limited to one repository and one access.
#[derive(Debug)]
struct Limited {
    principal: Principal,
    repository: String,
    write: bool,
}

impl Rights for Limited {
    fn authorize(&self, repository: &str, access: Access) -> Result<(), Denied> {
        if repository != self.repository || (access != Access::Read && !self.write) {
            return Err(Denied::Forbidden(Cause::Grant));
        }
        self.principal.authorize(repository, access)
    }

    fn on_refs(&self, repository: &str) -> Option<Arc<dyn RefAuthorizer>> {
        self.principal.on_refs(repository)
    }

    fn delegate(&self, requests: &Delegated<'_>, now: Timestamp) -> Result<Option<HeaderValue>, Denied> {
        if requests.repository != self.repository {
            return Err(Denied::Forbidden(Cause::Grant));
        }
        self.principal.delegate(requests, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grant;
    use gitferry_base::clock::SystemClock;
    use russh::keys::key::safe_rng;
    use russh::keys::{Algorithm, PrivateKey};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A clock that a test sets.
    #[derive(Debug)]
    struct At(Mutex<Timestamp>);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn new_id(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
    }

    /// Knows `ann`, who may write to everything, until her key is gone.
    #[derive(Debug, Default)]
    struct Ann {
        gone: AtomicBool,
    }

    impl SshIdentities for Ann {
        fn identify(&self, login: &Login<'_>) -> Result<Principal, Denied> {
            if self.gone.load(Ordering::Relaxed) || login.user != "ann" {
                return Err(Denied::Unknown);
            }
            Ok(Principal::new("ann", Arc::new(Grant::new(true, None))))
        }
    }

    fn tokens(secret: u8, clock: Arc<dyn Clock>) -> LfsTokens {
        LfsTokens { secret: [secret; 32], identities: Arc::new(Ann::default()), clock }
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn ann() -> UserKey {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        UserKey::new("ann", key.public_key())
    }

    fn principal(tokens: &LfsTokens, value: &str) -> Option<Principal> {
        tokens.authenticate(&headers(value), None, false).unwrap()
    }

    #[test]
    fn a_token_is_for_one_repository_and_one_access_of_one_host() {
        let clock = SystemClock::shared();
        let here = tokens(1, clock.clone());
        let token = here.mint(&ann(), "team/app", Access::Read).authorization;
        let read = principal(&here, &token).unwrap();
        assert_eq!(read.name(), "ann");
        let may = |who: &Principal, name: &str, access| who.authorize(name, access).is_ok();
        assert!(may(&read, "team/app", Access::Read) && !may(&read, "team/app", Access::Write));
        assert!(!may(&read, "team/app2", Access::Read) && !may(&read, "team", Access::Read));
        let write = principal(&here, &here.mint(&ann(), "app", Access::Write).authorization).unwrap();
        assert!(may(&write, "app", Access::Write) && may(&write, "app", Access::Read));
        assert!(may(&write, "app", Access::Create) && !may(&write, "other", Access::Create));
        assert!(principal(&tokens(2, clock), &token).is_none());
    }

    #[test]
    fn a_token_ends_after_its_time() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(At(Mutex::new(start)));
        let here = tokens(1, clock.clone());
        let token = here.mint(&ann(), "app", Access::Read);
        assert_eq!((token.end, token.seconds), (start + LIFETIME, LIFETIME.as_secs()));
        for (seconds, valid) in [(0, true), (899, true), (900, false), (86_400, false)] {
            *clock.0.lock().unwrap() = start + SignedDuration::from_secs(seconds);
            assert_eq!(principal(&here, &token.authorization).is_some(), valid, "{seconds}");
        }
    }

    #[test]
    fn a_token_ends_with_the_key_of_its_login() {
        let identities = Arc::new(Ann::default());
        let here = LfsTokens { identities: identities.clone(), ..tokens(1, SystemClock::shared()) };
        let token = here.mint(&ann(), "app", Access::Read).authorization;
        assert!(principal(&here, &token).is_some());
        identities.gone.store(true, Ordering::Relaxed);
        assert_eq!(here.authenticate(&headers(&token), None, true).map(drop), Err(Denied::Unknown));
    }

    #[test]
    fn changed_and_foreign_tokens_are_unknown() {
        let here = tokens(1, SystemClock::shared());
        let token = here.mint(&ann(), "app", Access::Read).authorization;
        for at in "Bearer gitferry-lfs.".len()..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of the proof has two bits that no byte takes up.
            if changed.len() - at > 1 {
                assert!(principal(&here, &changed).is_none(), "{at}");
            }
        }
        let long = format!("{token}{}", "A".repeat(MAX_TOKEN_BYTES));
        for value in ["", "Bearer", "Bearer x", "Bearer gitferry-lfs.", "Bearer gitferry-lfs..", "Basic YTpi", &long] {
            assert!(principal(&here, value).is_none(), "{value}");
        }
        assert!(here.authenticate(&HeaderMap::new(), None, true).unwrap().is_none());
    }
}
