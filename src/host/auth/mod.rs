//! Authentication and authorization of requests: two steps. Denies by default. Git code receives only the name of the
//! principal.

pub mod tokens;

use std::sync::Arc;

use axum::http::HeaderMap;
use globset::GlobSet;

/// Kind of access to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Clone, fetch.
    Read,
    /// Push.
    Write,
}

/// Reason for denying access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The credentials are missing or unknown. The host asks for them (401).
    Unknown,
    /// The client is authenticated and lacks the right (403).
    Forbidden,
}

/// An authenticated client with its rights.
#[derive(Clone, Debug)]
pub struct Principal {
    name: String,
    grant: Arc<Grant>,
}

/// Rights of a principal. Every grant allows reading.
#[derive(Clone, Debug)]
pub struct Grant {
    write: bool,
    repositories: Option<GlobSet>,
}

impl Principal {
    /// A client that has been authenticated as `name`.
    pub fn new(name: impl Into<String>, grant: Arc<Grant>) -> Self {
        Principal { name: name.into(), grant }
    }

    /// Name that changes are attributed to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Authorizes access to the repository of a name. Decided by the name alone, so that the answer does not reveal if
    /// the repository exists.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] without the right.
    pub fn authorize(&self, repository: &str, access: Access) -> Result<(), Denied> {
        if self.grant.allows(repository, access) { Ok(()) } else { Err(Denied::Forbidden) }
    }
}

impl Grant {
    /// The right to read the `repositories` whose names match, all for `None`, and with `write` to push to them.
    pub fn new(write: bool, repositories: Option<GlobSet>) -> Self {
        Grant { write, repositories }
    }

    fn allows(&self, repository: &str, access: Access) -> bool {
        let covers = self.repositories.as_ref().is_none_or(|names| names.is_match(repository));
        covers && (access == Access::Read || self.write)
    }
}

/// Authenticates requests.
pub trait Authenticator: std::fmt::Debug + Send + Sync {
    /// The principal whose credentials a request carries.
    ///
    /// # Errors
    /// [`Denied::Unknown`] if the credentials are missing or unknown.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Denied>;

    /// Returns true if requests need no credentials. The host then listens on loopback addresses only.
    fn allows_anonymous(&self) -> bool {
        false
    }
}

/// Grants every request all rights, as `anonymous`. Only for a host on a loopback address.
#[derive(Debug)]
pub struct Open;

impl Authenticator for Open {
    fn authenticate(&self, _: &HeaderMap) -> Result<Principal, Denied> {
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
        assert_eq!(of(false, None).authorize("app", Access::Write), Err(Denied::Forbidden));
    }
}
