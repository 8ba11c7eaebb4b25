//! Authentication: from a request to its principal and the condition keys that policies read.
//!
//! A request proves its principal in one of these ways, by what it carries:
//! 1. Signature Version 4 in the header or query;
//! 2. Basic authentication whose password is a signature of Git;
//! 3. Basic authentication with a Git credential;
//! 4. over SSH, a public key.
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
use crate::key_ring::KeyRing;
use crate::model::Status;
use crate::principal::{Credential, Principal};
use crate::request::RequestParts;
use crate::secret::{PasswordHash, SecretText};
use crate::session::{Sessions, Subject, TokenError};
use crate::sigv4::{GitPassword, Scope, SignatureError, Signed, SigningKey, SigningKeys};
use crate::throttle::{Throttle, TooMany};

/// Longest header of Basic authentication, in bytes: an access key id with a session token, and a signature.
const MAX_BASIC: usize = 16 << 10;
/// Region of IAM, which all regions share, and of the global endpoint of STS.
const GLOBAL_REGION: &str = "us-east-1";

/// Principal of a request, with the condition keys that are known before the request is parsed.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Principal.
    pub principal: Principal,
    /// Condition keys.
    pub context: Context,
    /// State of the account that proved the principal, and that decides on the request.
    pub account: Arc<Account>,
}

/// The principal of a request is not proven. Nothing of the request was read beyond what authentication needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The request carries no credentials. The host asks for them.
    #[error("the request has no credentials")]
    Anonymous,
    /// User name or password of Git are wrong. Which of them is not said.
    #[error("the user name or password is wrong, or the credential is inactive")]
    Wrong,
    /// Too many attempts failed.
    #[error("too many failed attempts: the next is looked at in {} s", .0.retry_after.as_secs())]
    TooMany(TooMany),
    /// The access key does not exist or is inactive.
    #[error("the access key id does not exist in this account, or is inactive")]
    UnknownAccessKey,
    /// The session token is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The signature is not accepted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The host does not know the account's state, or cannot open its secrets.
    #[error("the host cannot authenticate: {0}")]
    Unavailable(&'static str),
}

impl AuthenticationError {
    /// Code of AWS for query APIs, such as IAM and STS.
    pub fn code(&self) -> &'static str {
        match self {
            AuthenticationError::Anonymous => "MissingAuthenticationToken",
            AuthenticationError::Wrong | AuthenticationError::UnknownAccessKey => "InvalidClientTokenId",
            AuthenticationError::Token(TokenError::Invalid) => "InvalidClientTokenId",
            AuthenticationError::Token(TokenError::Expired) => "ExpiredToken",
            AuthenticationError::TooMany(_) => "Throttling",
            AuthenticationError::Signature(SignatureError::Incomplete(_)) => "IncompleteSignature",
            AuthenticationError::Signature(SignatureError::Expired { .. }) => "RequestExpired",
            AuthenticationError::Signature(_) => "SignatureDoesNotMatch",
            AuthenticationError::Unavailable(_) => "ServiceUnavailable",
        }
    }

    /// Code of AWS for JSON APIs, such as CodeCommit.
    pub fn json_code(&self) -> &'static str {
        match self {
            AuthenticationError::Anonymous => "MissingAuthenticationTokenException",
            AuthenticationError::Wrong
            | AuthenticationError::UnknownAccessKey
            | AuthenticationError::Token(TokenError::Invalid) => "UnrecognizedClientException",
            AuthenticationError::Token(TokenError::Expired) => "ExpiredTokenException",
            AuthenticationError::TooMany(_) => "ThrottlingException",
            AuthenticationError::Signature(SignatureError::Incomplete(_)) => "IncompleteSignatureException",
            AuthenticationError::Signature(_) => "InvalidSignatureException",
            AuthenticationError::Unavailable(_) => "ServiceUnavailableException",
        }
    }

    /// HTTP status of an answer of an API. (Git is asked for credentials with 401.)
    pub fn status(&self) -> u16 {
        match self {
            AuthenticationError::TooMany(_) => 429,
            AuthenticationError::Unavailable(_) => 503,
            AuthenticationError::Signature(SignatureError::Incomplete(_) | SignatureError::Expired { .. }) => 400,
            _ => 403,
        }
    }
}

type Result<T> = std::result::Result<T, AuthenticationError>;

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
        let principal = match Signed::of(parts)? {
            Some(signed) => self
                .limited(signed.access_key_id(), parts.source, now, || self.by_signature(&state, &signed, parts, now)),
            None => self.by_basic(&state, parts, now),
        }?;
        let context = self.context(parts.source, parts.secure, now).user_agent(parts.user_agent());
        Ok(self.proven(state, principal, context))
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
        let context = self.context(login.source, login.secure, self.clock.now()).user_agent(login.client);
        Ok(self.proven(state, principal, context))
    }

    /// Counts a connection over SSH on which a user name proved none of the keys that it offered.
    pub fn ssh_failed(&self, user: &str, source: IpAddr) {
        self.throttle.failed(user, source, self.clock.now());
    }

    fn context(&self, source: IpAddr, secure: bool, now: Timestamp) -> ContextBuilder {
        Context::builder().time(now).source_ip(source).secure_transport(secure).requested_region(&self.region)
    }

    fn proven(&self, state: Arc<Following>, principal: Principal, context: ContextBuilder) -> Authenticated {
        let context = principal.describe(context).build();
        Authenticated { principal, context, account: state.account.clone() }
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
        match (owner, verified) {
            (Ok(owner), Ok(())) => {
                signature.check_time(now)?;
                Ok(owner.principal)
            }
            // An ended session is named as such: its token has been opened, so the client held it.
            (Err(error @ AuthenticationError::Token(TokenError::Expired)), _) => Err(error),
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
        let session = self.sessions.get(&account.id(), &state.keys, id, token, now)?;
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
