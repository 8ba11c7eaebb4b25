//! Authentication and authorization of requests: two steps. Denies by default. Git code receives the name of the
//! principal, and a decision on each ref of a push.

mod claimed;
pub mod iam;
pub mod tokens;
pub mod watched_file;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use globset::GlobSet;
use jiff::Timestamp;

use gitferry_audit::UserIdentity;
use gitferry_engine::ledger::change::Actor;
use gitferry_engine::region::push::RefAuthorizer;
use gitferry_iam::Delegated;
use gitferry_iam::model::Quota;

pub use claimed::claimed_user;

/// Kind of access to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Clone, fetch.
    Read,
    /// Push.
    Write,
    /// Create the repository by a push.
    Create,
    /// Set the default branch.
    SetDefaultBranch,
}

/// Reason for denying access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The credentials are missing or unknown. The host asks for them (401).
    Unknown,
    /// The client is authenticated and lacks the right (403).
    Forbidden(Cause),
    /// Authentication is refused for some time after too many failures (429).
    TooManyFailures,
    /// The identities cannot be read at present (503).
    Unavailable,
}

/// Cause for which an authenticated client lacks a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The grant of a token does not cover the access.
    Grant,
    /// No policy allows the action of this name.
    NoAllow(&'static str),
    /// A policy denies the action of this name.
    ExplicitDeny(&'static str),
}

/// Credentials of a request, and what authenticating them may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Method of the request.
    pub method: &'a Method,
    /// Path and query as the client sent them.
    pub uri: &'a Uri,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// Host of the URL that the client asked a trusted proxy for; `None` if no proxy reports one.
    pub asked_host: Option<&'a str>,
    /// Address of the client; `None` outside the listener.
    pub address: Option<IpAddr>,
    /// True if the client's request was encrypted, as far as the host and its trusted proxies know.
    pub secure: bool,
}

/// An authenticated client with its rights.
#[derive(Clone, Debug)]
pub struct Principal {
    name: Arc<str>,
    rights: Arc<dyn Rights>,
    identity: Arc<UserIdentity>,
    address: Option<IpAddr>,
    origin: Option<Arc<Origin>>,
}

/// Origin of a client's request that another host has authenticated and passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Region of the other host.
    pub region: String,
    /// Address of the client.
    pub address: IpAddr,
}

/// Rights of a principal.
pub trait Rights: std::fmt::Debug + Send + Sync {
    /// Authorizes access to the repository of a name. Decides by the name alone, so that the answer does not reveal if
    /// the repository exists. Without I/O.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] without the right.
    fn authorize(&self, repository: &str, access: Access) -> Result<(), Denied>;

    /// Decides on each ref of a push to a repository; `None` if [`Access::Write`] covers all refs.
    fn on_refs(&self, repository: &str) -> Option<Arc<dyn RefAuthorizer>>;

    /// Credentials by which the host of another region takes requests for those of this principal; `None` if it has to
    /// see the client's own credentials.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if no credentials can be made.
    fn delegate(&self, _: &Delegated<'_>, _: Timestamp) -> Result<Option<HeaderValue>, Denied> {
        Ok(None)
    }
}

/// Rights to repositories by name. Every grant allows reading.
#[derive(Clone, Debug)]
pub struct Grant {
    write: bool,
    repositories: Option<GlobSet>,
}

impl Principal {
    /// A client that has been authenticated as `name`. The audit trail calls it the holder of a token of that name,
    /// unless [`Principal::with_identity`] says more.
    pub fn new(name: &str, rights: Arc<dyn Rights>) -> Self {
        let identity = Arc::new(UserIdentity::token(name));
        Principal { name: name.into(), rights, identity, address: None, origin: None }
    }

    /// The same client, whose request comes by way of another host.
    #[must_use]
    pub fn from_origin(self, origin: Origin) -> Self {
        Principal { origin: Some(Arc::new(origin)), ..self }
    }

    /// Origin of the request, if another host has authenticated the client and passed the request on.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// The same principal with another identity in the audit trail.
    #[must_use]
    pub fn with_identity(self, identity: UserIdentity) -> Self {
        Principal { identity: Arc::new(identity), ..self }
    }

    /// The same principal at this address, which the ledger records.
    #[must_use]
    pub fn at(self, address: Option<IpAddr>) -> Self {
        Principal { address, ..self }
    }

    /// Address that the ledger records; `None` outside the listener.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Name of the principal.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Actor that changes are attributed to in the ledger: the name, and the address of the client.
    pub fn actor(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        Actor::new(&self.name, address.as_deref()).to_string()
    }

    /// Identity in the audit trail.
    pub fn identity(&self) -> &UserIdentity {
        &self.identity
    }

    /// Authorizes access as [`Rights::authorize`] does.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] without the right.
    pub fn authorize(&self, repository: &str, access: Access) -> Result<(), Denied> {
        self.rights.authorize(repository, access)
    }

    /// Decides on each ref of a push, as [`Rights::on_refs`] does.
    pub fn on_refs(&self, repository: &str) -> Option<Arc<dyn RefAuthorizer>> {
        self.rights.on_refs(repository)
    }

    /// Makes credentials for the host of another region, as [`Rights::delegate`] does.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] if no credentials can be made.
    pub fn delegate(&self, requests: &Delegated<'_>, now: Timestamp) -> Result<Option<HeaderValue>, Denied> {
        self.rights.delegate(requests, now)
    }
}

impl Grant {
    /// The right to read the `repositories` whose names match, all for `None`, and with `write` to push to them.
    pub fn new(write: bool, repositories: Option<GlobSet>) -> Self {
        Grant { write, repositories }
    }
}

impl Rights for Grant {
    fn authorize(&self, repository: &str, access: Access) -> Result<(), Denied> {
        let covers = self.repositories.as_ref().is_none_or(|names| names.is_match(repository));
        if covers && (access == Access::Read || self.write) { Ok(()) } else { Err(Denied::Forbidden(Cause::Grant)) }
    }

    fn on_refs(&self, _: &str) -> Option<Arc<dyn RefAuthorizer>> {
        None
    }
}

/// Authenticates requests.
#[async_trait]
pub trait Authenticator: std::fmt::Debug + Send + Sync {
    /// The principal whose credentials a request carries.
    ///
    /// # Errors
    /// [`Denied::Unknown`] if the credentials are missing or unknown; [`Denied::TooManyFailures`] or
    /// [`Denied::Unavailable`] if they are not examined.
    async fn authenticate(&self, presented: &Presented<'_>) -> Result<Principal, Denied>;

    /// Returns true if requests need no credentials. The host then listens on loopback addresses only.
    fn allows_anonymous(&self) -> bool {
        false
    }

    /// Limit that the settings of the account set; `None` if they leave the quota to the configuration of the host.
    fn quota(&self, _: Quota) -> Option<u64> {
        None
    }

    /// Id of the account whose principals are authenticated; `None` outside an account, or while it is unknown.
    fn account(&self) -> Option<String> {
        None
    }
}

/// Grants every request all rights, as `anonymous`. Only for a host on a loopback address.
#[derive(Debug)]
pub struct Open;

#[async_trait]
impl Authenticator for Open {
    async fn authenticate(&self, _: &Presented<'_>) -> Result<Principal, Denied> {
        let principal = Principal::new("anonymous", Arc::new(Grant::new(true, None)));
        Ok(principal.with_identity(UserIdentity::anonymous()))
    }

    fn allows_anonymous(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_the_rights_of_its_grant_and_no_others() {
        let team = gitferry_config::name_matcher(&["team/*".to_owned()]).unwrap();
        let of = |write, names| Principal::new("ann", Arc::new(Grant::new(write, names)));
        let may = |principal: &Principal, name: &str| {
            [Access::Read, Access::Write].map(|access| principal.authorize(name, access).is_ok())
        };
        assert_eq!(may(&of(false, None), "app"), [true, false]);
        assert_eq!(may(&of(true, None), "app"), [true, true]);
        assert_eq!(may(&of(true, Some(team.clone())), "app"), [false, false]);
        assert_eq!(may(&of(false, Some(team)), "team/app"), [true, false]);
        assert_eq!(of(false, None).authorize("app", Access::Write), Err(Denied::Forbidden(Cause::Grant)));
    }
}
