//! The client of the request that a task answers: address, token name and revocation.

use std::sync::{Arc, OnceLock};

use super::admission::Revocation;
use super::fair_share::{ClientKey, network_of};
use super::listen::ClientConnection;
use super::proxies::ClientInfo;

tokio::task_local! {
    static CURRENT: Arc<Client>;
}

/// The client of one request.
#[derive(Debug)]
pub struct Client {
    /// Id of the request in the log and in the response.
    pub request_id: String,
    /// Address of the client, and the URL that it asked for.
    pub info: ClientInfo,
    /// Connection that carries the request; `None` outside the listener.
    pub connection: Option<Arc<ClientConnection>>,
    /// Name of the client's token, once authenticated.
    token: OnceLock<Arc<str>>,
    /// Revocation of the request's slot, once admitted.
    revocation: OnceLock<Revocation>,
}

impl Client {
    /// A client that is not authenticated yet.
    pub fn new(request_id: String, info: ClientInfo, connection: Option<Arc<ClientConnection>>) -> Arc<Self> {
        Arc::new(Client { request_id, info, connection, token: OnceLock::new(), revocation: OnceLock::new() })
    }

    /// The client of the request that this task answers; an unknown client outside a request.
    pub fn current() -> Arc<Client> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Client::new(String::new(), ClientInfo::default(), None))
    }

    /// Runs a future with this client as [`Client::current`].
    pub async fn scope<T>(self: Arc<Self>, answering: impl Future<Output = T>) -> T {
        CURRENT.scope(self, answering).await
    }

    /// Records the name of the token that authenticates the client.
    pub fn set_token_name(&self, token: &str) {
        let _ = self.token.set(token.into());
    }

    /// Key under which the requests of this client are counted; see [`super::fair_share`].
    pub fn key(&self) -> ClientKey {
        match (self.token.get(), self.info.address) {
            (Some(token), _) => ClientKey::Token(token.clone()),
            (None, Some(address)) => ClientKey::Network(network_of(address)),
            (None, None) => ClientKey::Other,
        }
    }

    pub(super) fn set_revocation(&self, revocation: Revocation) {
        let _ = self.revocation.set(revocation);
    }

    /// Returns true if the slot of the request was revoked in favour of another client.
    pub fn is_revoked(&self) -> bool {
        self.revocation.get().is_some_and(Revocation::is_revoked)
    }
}
