//! Authentication: from a request to its principal and the condition keys that policies read.
//!
//! A request proves its principal in one of these ways, by what it carries:
//! 1. Signature Version 4 in the header or query;
//! 2. Basic authentication whose password is a signature of Git;
//! 3. Basic authentication with a Git credential;
//! 4. over SSH, a public key;
//! 5. a delegation of another host of the account, to which the client has proven its principal.
//!
//! A request that carries nothing is anonymous, and the host asks for credentials.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_base::clock::Clock;
use gitferry_policy::{Context, ContextBuilder};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::account::Account;
use crate::authenticated::{Authenticated, ClientFacts, Stranger};
use crate::authentication_error::AuthenticationError;
use crate::aws::Caller;
use crate::delegation::{self, Claims, Proven, Refused, Used};
use crate::key_ring::KeyRing;
use crate::model::Status;
use crate::principal::{Credential, Principal};
use crate::request::RequestParts;
use crate::secret::{PasswordHash, SecretText};
use crate::session::{Sessions, Subject, TokenError};
use crate::sigv4::{GitPassword, Scope, SignatureError, Signed, SigningKey, SigningKeys};
use crate::throttle::Throttle;

/// Longest header of Basic authentication, in bytes: an access key id with a session token, and a signature.
const MAX_BASIC: usize = 16 << 10;
/// Endpoint of Git LFS below a repository.
const LFS: &str = "/info/lfs";
/// Region of IAM, which all regions share, and of the global endpoint of STS.
const GLOBAL_REGION: &str = "us-east-1";

type Result<T> = std::result::Result<T, AuthenticationError>;

/// A session token may be sealed under a data key that the host has not opened.
const KEYS_NOT_OPEN: AuthenticationError =
    AuthenticationError::Unavailable("not all data keys of the account are open, so a session cannot be proven");

/// State that requests are proven against.
#[derive(Debug)]
struct Following {
    account: Arc<Account>,
    keys: Arc<KeyRing>,
}

/// Login over SSH with a public key. The SSH server verifies that the client has the private key.
#[derive(Clone, Copy, Debug)]
pub struct SshLogin<'a> {
    /// User name: the id of the public key, `APKA…`.
    pub user: &'a str,
    /// Fingerprint of the public key, `SHA256:…`.
    pub fingerprint: &'a str,
    /// Address of the client.
    pub source: IpAddr,
    /// Version of the client's software; empty if it is not known yet.
    pub client: &'a str,
    /// True if the request is encrypted. Over SSH it is; over HTTP, credentials from SSH may cross an open network.
    pub secure: bool,
}

/// Authenticates the requests of one host.
#[derive(Debug)]
pub struct Authenticator {
    region: String,
    services: Vec<String>,
    clock: Arc<dyn Clock>,
    following: RwLock<Option<Arc<Following>>>,
    signing_keys: SigningKeys,
    sessions: Sessions,
    throttle: Throttle,
    used_delegations: Used,
    /// Stands in for the key of an unknown access key, so that it costs the same.
    stand_in: SigningKey,
}

impl Authenticator {
    /// Authenticator of a host that signatures name by a region and one of `services`, such as `codecommit`, `iam` and
    /// `sts`. It refuses every request until it follows an account.
    pub fn new(region: impl Into<String>, services: &[&str], clock: Arc<dyn Clock>) -> Self {
        let nowhere = Scope { date: "", region: "", service: "" };
        Authenticator {
            region: region.into(),
            services: services.iter().map(|service| (*service).to_owned()).collect(),
            clock,
            following: RwLock::new(None),
            signing_keys: SigningKeys::default(),
            sessions: Sessions::default(),
            throttle: Throttle::default(),
            used_delegations: Used::default(),
            stand_in: SigningKey::derive(&SecretText::new(String::new()), &nowhere),
        }
    }

    /// Proves requests against a state of the account from now on.
    pub fn follow(&self, account: Arc<Account>, keys: Arc<KeyRing>) {
        let following = Arc::new(Following { account, keys });
        *self.following.write().unwrap_or_else(PoisonError::into_inner) = Some(following);
    }

    /// Refuses every request from now on, because the account's state is unknown.
    pub fn stop_following(&self) {
        *self.following.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// State of the account that requests are proven against.
    pub fn account(&self) -> Option<Arc<Account>> {
        self.following().ok().map(|following| following.account.clone())
    }

    /// Opened data keys, for calls that make credentials.
    pub fn keys(&self) -> Option<Arc<KeyRing>> {
        self.following().ok().map(|following| following.keys.clone())
    }

    fn following(&self) -> Result<Arc<Following>> {
        let following = self.following.read().unwrap_or_else(PoisonError::into_inner).clone();
        following.ok_or(AuthenticationError::Unavailable("the account has not been read yet"))
    }

    /// Finds the principal of a request.
    ///
    /// # Errors
    /// The request is anonymous, or what it carries proves nothing.
    pub fn authenticate(&self, parts: &RequestParts<'_>) -> Result<Authenticated> {
        let state = self.following()?;
        let now = self.clock.now();
        let client = client_of(parts);
        if let Some(token) = delegation::token_of(parts) {
            return self.by_delegation(state, token, parts, client, now);
        }
        let principal = match Signed::of(parts)? {
            Some(signed) => self
                .limited(signed.access_key_id(), parts.source, now, || self.by_signature(&state, &signed, parts, now)),
            None => self.by_basic(&state, parts, now),
        }?;
        Ok(self.proven(&state, principal, client, now))
    }

    /// Condition keys of a request that carries no credentials, and the account that decides on it.
    ///
    /// # Errors
    /// [`AuthenticationError::Unavailable`].
    pub fn stranger(&self, parts: &RequestParts<'_>) -> Result<Stranger> {
        let state = self.following()?;
        let context = self.context(&client_of(parts), self.clock.now());
        Ok(Stranger { context: context.build(), account: state.account.clone() })
    }

    /// Finds the principal of a login over SSH. A wrong key is not counted as a failure, as clients offer all keys that
    /// they have: [`Authenticator::ssh_failed`] counts connections on which no key was right.
    ///
    /// # Errors
    /// [`AuthenticationError::Wrong`] unless the user name is the id of this very key, and the key is active;
    /// [`AuthenticationError::TooMany`] for a user name and an address with too many failures.
    pub fn authenticate_ssh(&self, login: &SshLogin<'_>) -> Result<Authenticated> {
        let state = self.following()?;
        self.throttle.check(login.user, login.source, self.clock.now()).map_err(AuthenticationError::TooMany)?;
        let (user, key) = state.account.ssh_key(login.user).ok_or(AuthenticationError::Wrong)?;
        if key.fingerprint != login.fingerprint || key.status != Status::Active {
            return Err(AuthenticationError::Wrong);
        }
        let principal = Principal::user(&state.account, user, None, Credential::SshKey(login.user.to_owned()));
        let client = ClientFacts { address: login.source, secure: login.secure, agent: login.client.to_owned() };
        Ok(self.proven(&state, principal, client, self.clock.now()))
    }

    /// Counts a connection over SSH on which a user name proved none of the keys that it offered.
    pub fn ssh_failed(&self, user: &str, source: IpAddr) {
        self.throttle.failed(user, source, self.clock.now());
    }

    /// Finds the principal of a caller that STS has named. `access_key_id` signed, for a time that ends at `expires`.
    ///
    /// # Errors
    /// [`AuthenticationError::UnknownCaller`] if the account does not have the caller.
    pub fn authenticate_caller(
        &self,
        caller: &Caller,
        access_key_id: &str,
        client: ClientFacts,
        expires: Timestamp,
    ) -> Result<Authenticated> {
        let state = self.following()?;
        let now = self.clock.now();
        let principal = caller.principal(&state.account, access_key_id, now, expires);
        let principal = principal.ok_or_else(|| AuthenticationError::UnknownCaller(caller.arn.clone()))?;
        Ok(self.proven(&state, principal, client, now))
    }

    /// Condition keys that every request has.
    fn context(&self, client: &ClientFacts, now: Timestamp) -> ContextBuilder {
        let context = Context::builder().time(now).source_ip(client.address).secure_transport(client.secure);
        context.requested_region(&self.region).user_agent(&client.agent)
    }

    fn proven(&self, state: &Following, principal: Principal, client: ClientFacts, now: Timestamp) -> Authenticated {
        let context = principal.describe(self.context(&client, now)).build();
        let account = state.account.clone();
        Authenticated { principal, context, account, client, delegated_by: None, keys: state.keys.clone() }
    }

    /// The principal that another host has authenticated. No guess opens a delegation, so failures are not counted.
    fn by_delegation(
        &self,
        state: Arc<Following>,
        token: &str,
        parts: &RequestParts<'_>,
        client: ClientFacts,
        now: Timestamp,
    ) -> Result<Authenticated> {
        let request = (self.region.as_str(), parts);
        let account = &state.account;
        let claims = Claims::accept(token, &account.id(), &state.keys, request, now, &self.used_delegations);
        let Claims { proven, client: forwarded, from, .. } = claims.map_err(|refused| match refused {
            Refused::Delegation(error) => AuthenticationError::Delegation(error),
            Refused::Full => AuthenticationError::Unavailable("too many delegations came within two minutes"),
        })?;
        let principal = self.delegated(&state, proven, now)?;
        // The client itself may be the bearer: its request is no other host's.
        let delegated_by = Some(from);
        Ok(Authenticated { delegated_by, ..self.proven(&state, principal, forwarded.unwrap_or(client), now) })
    }

    /// The principal of a credential that a client has proven to another host, if the credential is active here.
    fn delegated(&self, state: &Following, proven: Proven, now: Timestamp) -> Result<Principal> {
        let account = &state.account;
        match proven {
            Proven::AccessKey { id } => Ok(self.owner(state, &id, None, now)?.principal),
            Proven::Session { id, token } => Ok(self.owner(state, &id, Some(&token), now)?.principal),
            Proven::GitCredential { user, id } => {
                let user = account.user_by_id(&user).ok_or(AuthenticationError::Wrong)?;
                let found = user.git_credentials.get(&id).filter(|credential| credential.status == Status::Active);
                found.ok_or(AuthenticationError::Wrong)?;
                Ok(Principal::user(account, user, None, Credential::GitCredential(id)))
            }
            Proven::Caller { arn, user_id, key } => {
                let caller = Caller { account: account.id(), arn, user_id };
                let principal = caller.principal(account, &key, now, now);
                principal.ok_or(AuthenticationError::UnknownCaller(caller.arn))
            }
            Proven::SshKey { id } => {
                let found = account.ssh_key(&id).filter(|(_, key)| key.status == Status::Active);
                let (user, _) = found.ok_or(AuthenticationError::Wrong)?;
                Ok(Principal::user(account, user, None, Credential::SshKey(id.clone())))
            }
        }
    }

    /// Runs an attempt, unless too many of this user from this address have failed.
    fn limited(
        &self,
        user: &str,
        source: IpAddr,
        now: Timestamp,
        attempt: impl FnOnce() -> Result<Principal>,
    ) -> Result<Principal> {
        self.throttle.check(user, source, now).map_err(AuthenticationError::TooMany)?;
        let outcome = attempt();
        if outcome.as_ref().is_err_and(|error| !matches!(error, AuthenticationError::Unavailable(_))) {
            self.throttle.failed(user, source, now);
        }
        outcome
    }

    fn by_signature(
        &self,
        state: &Following,
        signed: &Signed<'_>,
        parts: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<Principal> {
        signed.check_time(now)?;
        self.check_scope(&signed.scope())?;
        signed.check_coverage(parts)?;
        let owner = self.owner(state, signed.access_key_id(), signed.token(), now)?;
        let key = self.signing_key(state, &owner, &signed.scope())?;
        signed.verify(parts, &key)?;
        Ok(owner.principal)
    }

    fn check_scope(&self, scope: &Scope<'_>) -> Result<()> {
        let global = matches!(scope.service, "iam" | "sts") && scope.region == GLOBAL_REGION;
        let region = global || scope.region == self.region;
        if region && self.services.iter().any(|service| service == scope.service) {
            return Ok(());
        }
        Err(AuthenticationError::Signature(SignatureError::Scope {
            signed: format!("{}/{}", scope.region, scope.service),
            expected: format!("{}/{}", self.region, self.services.join("|")),
        }))
    }

    fn by_basic(&self, state: &Following, parts: &RequestParts<'_>, now: Timestamp) -> Result<Principal> {
        let header = parts.single("authorization");
        let header = header.map_err(|_| SignatureError::Repeated("the header Authorization"))?;
        let Some(header) = header else { return Err(AuthenticationError::Anonymous) };
        let text = basic(header).ok_or(AuthenticationError::Wrong)?;
        let (user, password) = text.split_once(':').ok_or(AuthenticationError::Wrong)?;
        // Neither kind of password is for anything but Git.
        let path = parts.repository_path.ok_or(AuthenticationError::Wrong)?;
        let signature = GitPassword::parse(user, password);
        let name = signature.as_ref().map_or(user, |signature| signature.access_key_id());
        self.limited(name, parts.source, now, || match &signature {
            Some(signature) => self.by_git_signature(state, signature, path, parts, now),
            None => by_git_credential(&state.account, user, password),
        })
    }

    /// A wrong signature and an unknown access key look the same and cost the same.
    fn by_git_signature(
        &self,
        state: &Following,
        signature: &GitPassword<'_>,
        path: &str,
        parts: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<Principal> {
        let host = parts.host().map_err(|_| SignatureError::Repeated("host"))?;
        let host = host.ok_or(AuthenticationError::Wrong)?;
        let owner = self.owner(state, signature.access_key_id(), signature.token(), now);
        let scope = signature.scope(&self.region);
        let key = match &owner {
            Ok(owner) => self.signing_key(state, owner, &scope)?,
            Err(_) => Arc::new(self.stand_in.clone()),
        };
        let verified = signature.verify(path, host, &self.region, &key);
        // git-lfs asks for credentials for its own endpoint, below the repository.
        let lfs = format!("{path}{LFS}");
        let verified = match verified {
            Err(_) if parts.path.strip_prefix(&lfs).is_some_and(|rest| rest.starts_with('/')) => {
                signature.verify(&lfs, host, &self.region, &key)
            }
            verified => verified,
        };
        match (owner, verified) {
            (Ok(owner), Ok(())) => {
                signature.check_time(now)?;
                Ok(owner.principal)
            }
            // An ended session is named as such: its token has been opened, so the client held it.
            (Err(error @ AuthenticationError::Token(TokenError::Expired)), _) => Err(error),
            (Err(error @ AuthenticationError::Unavailable(_)), _) => Err(error),
            _ => Err(AuthenticationError::Wrong),
        }
    }

    /// Owner of an access key, whose secret is still to be proven.
    fn owner(&self, state: &Following, id: &str, token: Option<&str>, now: Timestamp) -> Result<Owner> {
        let account = &state.account;
        let Some(token) = token else {
            let (user, key) = account.access_key(id).ok_or(AuthenticationError::UnknownAccessKey)?;
            if key.status != Status::Active {
                return Err(AuthenticationError::UnknownAccessKey);
            }
            let principal = Principal::user(account, user, None, Credential::AccessKey(id.to_owned()));
            return Ok(Owner { principal, secret: Secret::Sealed(user.record.id.clone(), key.clone()) });
        };
        let session = self.sessions.get(&account.id(), &state.keys, id, token, now).map_err(|error| match error {
            // The token may be sealed under a data key that is not open yet.
            TokenError::Invalid if !state.keys.serves(account) => KEYS_NOT_OPEN,
            error => error.into(),
        })?;
        let principal = match &session.subject {
            Subject::User(id) => account.user_by_id(id).map(|user| {
                let credential = Credential::Session(session.access_key_id.clone());
                Principal::user(account, user, Some(session.clone()), credential)
            }),
            Subject::Role(id) => account.role_by_id(id).map(|role| Principal::role(account, role, session.clone())),
        };
        Ok(Owner { principal: principal.ok_or(TokenError::Invalid)?, secret: Secret::OfSession(session) })
    }

    fn signing_key(&self, state: &Following, owner: &Owner, scope: &Scope<'_>) -> Result<Arc<SigningKey>> {
        const SEALED: AuthenticationError =
            AuthenticationError::Unavailable("the secret of the access key does not open");
        let account = state.account.id();
        let key = match &owner.secret {
            Secret::Sealed(user_id, key) => {
                let Some(id) = key.secret.id() else { return Err(SEALED) };
                let Some(access_key_id) = owner.principal.credential().id() else { return Err(SEALED) };
                let open = || state.keys.open_access_key(&account, user_id, access_key_id, &key.secret);
                self.signing_keys.get(id, &format!("{user_id}/{access_key_id}"), scope, open)
            }
            Secret::OfSession(session) => {
                let open = || session.secret(&account, &state.keys);
                self.signing_keys.get(session.secret_id(), &session.access_key_id, scope, open)
            }
        };
        key.ok_or(SEALED)
    }
}

/// Client of a request.
fn client_of(parts: &RequestParts<'_>) -> ClientFacts {
    ClientFacts { address: parts.source, secure: parts.secure, agent: parts.user_agent().to_owned() }
}

/// Owner of an access key.
struct Owner {
    principal: Principal,
    secret: Secret,
}

enum Secret {
    /// Secret of a user (by unique id), sealed.
    Sealed(String, Arc<crate::model::AccessKey>),
    OfSession(Arc<crate::session::Session>),
}

fn by_git_credential(account: &Arc<Account>, user_name: &str, password: &str) -> Result<Principal> {
    let found = account.git_credential(user_name).filter(|(_, _, credential)| credential.status == Status::Active);
    let stored = found.map(|(_, _, credential)| &credential.password);
    let matches = PasswordHash::verify(stored, password);
    match found {
        Some((user, id, _)) if matches => {
            Ok(Principal::user(account, user, None, Credential::GitCredential(id.to_owned())))
        }
        _ => Err(AuthenticationError::Wrong),
    }
}

/// User name and password of Basic authentication.
fn basic(header: &[u8]) -> Option<Zeroizing<String>> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") || rest.len() > MAX_BASIC {
        return None;
    }
    String::from_utf8(STANDARD.decode(rest.trim_ascii()).ok()?).ok().map(Zeroizing::new)
}
