//! Authentication and authorization of requests: two steps. Denies by default. Git code receives the name of the
//! principal, and a decision on each ref of a push.

pub mod iam;
pub mod tokens;
pub mod watched_file;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::{HeaderMap, Method, Uri};
use globset::GlobSet;

use gitferry_engine::region::push::RefAuthorizer;

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
}

/// Rights to repositories by name. Every grant allows reading.
#[derive(Clone, Debug)]
pub struct Grant {
    write: bool,
    repositories: Option<GlobSet>,
}

impl Principal {
    /// A client that has been authenticated as `name`.
    pub fn new(name: &str, rights: Arc<dyn Rights>) -> Self {
        Principal { name: name.into(), rights }
    }

    /// Name that changes are attributed to.
    pub fn name(&self) -> &str {
        &self.name
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
}

/// Grants every request all rights, as `anonymous`. Only for a host on a loopback address.
#[derive(Debug)]
pub struct Open;

#[async_trait]
impl Authenticator for Open {
    async fn authenticate(&self, _: &Presented<'_>) -> Result<Principal, Denied> {
        Ok(Principal::new("anonymous", Arc::new(Grant::new(true, None))))
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
