//! [`AccessControl`]: the principal of a request, and its access to a repository.

use std::sync::Arc;

use axum::http::request::Parts;
use tracing::Span;

use super::account_guard::AccountGuard;
use super::audited;
use super::refusal::Refusal;
use crate::admission::fair_share::ClientKey;
use crate::auth::{Access, Authenticator, Denied, Origin, Presented, Principal};
use crate::client::Client;
use crate::quotas::Quotas;
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
    /// Quotas on requests.
    pub quotas: Arc<Quotas>,
    /// True if clients reach the host over TLS, unless a trusted proxy reports otherwise.
    pub secure: bool,
}

impl AccessControl {
    /// The principal of a request of Git over HTTP, which may access the repository.
    ///
    /// # Errors
    /// The client is unknown, makes too many requests, or lacks the right.
    pub async fn authorize(&self, request: &Parts, repository: &str, access: Access) -> Result<Principal, Refusal> {
        let client = Client::current();
        let authenticated = self.authenticator.authenticate(&self.presented(&client, request)).await;
        self.admit_request(&client, request, authenticated, (repository, access)).await
    }

    /// The principal of a request of Git LFS, which may access the repository. The request may carry a token of
    /// `git-lfs-authenticate`.
    ///
    /// # Errors
    /// As of [`AccessControl::authorize`].
    pub async fn authorize_lfs(&self, request: &Parts, repository: &str, access: Access) -> Result<Principal, Refusal> {
        let client = Client::current();
        let tokens = self.lfs_tokens.as_ref();
        let by_token = tokens.and_then(|tokens| {
            tokens.authenticate(&request.headers, client.address(), self.is_secure(&client)).transpose()
        });
        let authenticated = match by_token {
            Some(authenticated) => authenticated,
            None => self.authenticator.authenticate(&self.presented(&client, request)).await,
        };
        self.admit_request(&client, request, authenticated, (repository, access)).await
    }

    /// Authorizes the access of an authenticated principal to a repository.
    ///
    /// # Errors
    /// The principal lacks the right, or the repository is the account's.
    pub async fn admit(&self, principal: &Principal, repository: &str, access: Access) -> Result<(), Refusal> {
        principal.authorize(repository, access)?;
        self.account.check(repository).await
    }

    /// Authorizes a request over HTTP. The audit trail, the log and the fair share know the client by the principal from
    /// here on.
    async fn admit_request(
        &self,
        client: &Client,
        request: &Parts,
        authenticated: Result<Principal, Denied>,
        (repository, access): (&str, Access),
    ) -> Result<Principal, Refusal> {
        let principal = authenticated.inspect_err(|denied| audited::unproven(client.entry(), *denied, request))?;
        if let Some(Origin { region, address }) = principal.origin() {
            Span::current().record("client", tracing::field::display(address)).record("forwarded_by", region);
            client.set_origin(*address);
            client.entry().source(*address);
        }
        let principal = principal.at(client.address());
        client.entry().authenticated(principal.identity()).await;
        let counted = if self.authenticator.allows_anonymous() {
            client.key()
        } else {
            ClientKey::Principal(principal.name().into())
        };
        self.quotas.take_request(counted)?;
        principal.authorize(repository, access)?;
        Span::current().record("actor", principal.name());
        // Without authentication all clients have one name: the fair share distinguishes them by network.
        if !self.authenticator.allows_anonymous() {
            client.set_principal_name(principal.name());
        }
        self.account.check(repository).await?;
        Ok(principal)
    }

    /// The request of a client as authentication sees it.
    pub fn presented<'a>(&self, client: &'a Client, request: &'a Parts) -> Presented<'a> {
        Presented {
            method: &request.method,
            uri: &request.uri,
            headers: &request.headers,
            asked_host: client.asked_host().map(|host| host.as_str()),
            address: client.address(),
            secure: self.is_secure(client),
        }
    }

    /// Returns true if the client's request over HTTP was encrypted, as far as the host and its trusted proxies know.
    pub fn is_secure(&self, client: &Client) -> bool {
        client.asked_scheme().map_or(self.secure, |scheme| scheme == "https")
    }
}
