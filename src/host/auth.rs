//! Who asks, and whether they may. Deny by default; the Git code never sees any of this.

use axum::http::HeaderMap;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Clone, fetch.
    Read,
    /// Push.
    Write,
}

/// Somebody who was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that changes are attributed to.
    pub name: String,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody was recognised: ask for credentials.
    Unknown,
    /// Recognised, but not allowed.
    Forbidden,
}

/// Recognises people and decides what they may. The one seam for identity and policies.
pub trait Authorizer: std::fmt::Debug + Send + Sync {
    /// Decides about one request.
    fn authorize(&self, headers: &HeaderMap, repository: &str, access: Access) -> Result<Identity, Denied>;

    /// Whether it lets everybody in: then nobody else may reach the host.
    fn lets_everybody_in(&self) -> bool {
        false
    }
}

/// Everybody may do everything: only for a host that nobody else can reach.
#[derive(Debug)]
pub struct Open;

impl Authorizer for Open {
    fn authorize(&self, _: &HeaderMap, _: &str, _: Access) -> Result<Identity, Denied> {
        Ok(Identity { name: "anonymous".into() })
    }

    fn lets_everybody_in(&self) -> bool {
        true
    }
}
