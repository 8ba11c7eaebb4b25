//! [`AccessControl`]: the principal of a request, and its access to a repository.

use std::sync::Arc;

use axum::http::request::Parts;
use tracing::Span;

use super::account_guard::AccountGuard;
use super::refusal::Refusal;
use crate::auth::{Access, Authenticator, Denied, Presented, Principal};
use crate::client::Client;
use crate::ssh::lfs_tokens::LfsTokens;

/// Authenticates the clients of requests, and authorizes their access to repositories.
#[derive(Debug)]
pub struct AccessControl {
    /// Authentication of requests over HTTP.
    pub authenticator: Arc<dyn Authenticator>,
    /// Credentials that `git-lfs-authenticate` hands out; `None` for a host without SSH.
    pub lfs_tokens: Option<LfsTokens>,
    /// Refuses requests for the account's repository.
    pub account: AccountGuard,
    /// True if clients reach the host over TLS, unless a trusted proxy reports otherwise.
    pub secure: bool,
}

impl AccessControl {
    /// The principal of a request of Git over HTTP, which may access the repository.
    ///
    /// # Errors
    /// The client is unknown, or lacks the right.
    pub async fn authorize(&self, request: &Parts, repository: &str, access: Access) -> Result<Principal, Refusal> {
        let principal = self.authenticate(request).await?;
        self.admit_request(principal, repository, access).await
    }

    /// The principal of a request of Git LFS, which may access the repository. The request may carry a token of
    /// `git-lfs-authenticate`.
    ///
    /// # Errors
    /// As of [`AccessControl::authorize`].
    pub async fn authorize_lfs(&self, request: &Parts, repository: &str, access: Access) -> Result<Principal, Refusal> {
        let client = Client::current();
        let by_token = match &self.lfs_tokens {
            Some(tokens) => tokens.authenticate(&request.headers, client.address(), self.is_secure(&client))?,
            None => None,
        };
        let principal = match by_token {
            Some(principal) => principal,
            None => self.authenticate(request).await?,
        };
        self.admit_request(principal, repository, access).await
    }

    /// Authorizes the access of an authenticated principal to a repository.
    ///
    /// # Errors
    /// The principal lacks the right, or the repository is the account's.
    pub async fn admit(&self, principal: &Principal, repository: &str, access: Access) -> Result<(), Refusal> {
        principal.authorize(repository, access)?;
        self.account.check(repository).await
    }

    /// Authorizes a request over HTTP. The log and the fair share know the client by the principal's name from here on.
    async fn admit_request(
        &self,
        principal: Principal,
        repository: &str,
        access: Access,
    ) -> Result<Principal, Refusal> {
        self.admit(&principal, repository, access).await?;
        Span::current().record("actor", principal.name());
        // Without authentication all clients have one name: the fair share distinguishes them by network.
        if !self.authenticator.allows_anonymous() {
            Client::current().set_principal_name(principal.name());
        }
        Ok(principal)
    }

    async fn authenticate(&self, request: &Parts) -> Result<Principal, Denied> {
        let client = Client::current();
        let presented = Presented {
            method: &request.method,
            uri: &request.uri,
            headers: &request.headers,
            asked_host: client.asked_host().map(|host| host.as_str()),
            address: client.address(),
            secure: self.is_secure(&client),
        };
        self.authenticator.authenticate(&presented).await
    }

    /// Returns true if the client's request over HTTP was encrypted, as far as the host and its trusted proxies know.
    fn is_secure(&self, client: &Client) -> bool {
        client.asked_scheme().map_or(self.secure, |scheme| scheme == "https")
    }
}
