//! Authentication and authorization of requests. Denies by default. Git code receives only the name of the actor.

use axum::http::HeaderMap;

/// Kind of access to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Clone, fetch.
    Read,
    /// Push.
    Write,
}

/// An authenticated client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name that changes are attributed to.
    pub name: String,
}

/// Reason for denying access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The credentials are missing or unknown. The host asks for them (401).
    Unknown,
    /// The client is authenticated and lacks the right (403).
    Forbidden,
}

/// Authenticates a request and decides on its access to a repository.
pub trait Authorizer: std::fmt::Debug + Send + Sync {
    /// Authorizes one request.
    ///
    /// # Errors
    /// [`Denied`], with the reason.
    fn authorize(&self, headers: &HeaderMap, repository: &str, access: Access) -> Result<Identity, Denied>;

    /// Returns true if requests need no credentials. The host then listens on loopback addresses only.
    fn allows_anonymous(&self) -> bool {
        false
    }
}

/// Grants every request all rights, as `anonymous`. Only for a host on a loopback address.
#[derive(Debug)]
pub struct Open;

impl Authorizer for Open {
    fn authorize(&self, _: &HeaderMap, _: &str, _: Access) -> Result<Identity, Denied> {
        Ok(Identity { name: "anonymous".into() })
    }

    fn allows_anonymous(&self) -> bool {
        true
    }
}
