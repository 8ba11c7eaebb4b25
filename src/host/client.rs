//! The client of the request that a task answers: where it is, which token it has shown, and whether it gives way.

use std::sync::{Arc, OnceLock};

use super::gate::Revocation;
use super::listen::Door;
use super::proxies::Seen;
use super::shares::{Party, network_of};

tokio::task_local! {
    static CURRENT: Arc<Client>;
}

/// A client, for as long as one of its requests is answered.
#[derive(Debug)]
pub struct Client {
    /// Names its request in logs and answers.
    pub request_id: String,
    /// Where it is, and what it asked for.
    pub seen: Seen,
    /// The connection that the request came over.
    pub door: Option<Arc<Door>>,
    /// The name of its token, once it has shown one.
    token: OnceLock<Arc<str>>,
    /// Ends its request in favour of others.
    revocation: OnceLock<Revocation>,
}

impl Client {
    /// A client that has shown no token yet.
    pub fn new(request_id: String, seen: Seen, door: Option<Arc<Door>>) -> Arc<Self> {
        Arc::new(Client { request_id, seen, door, token: OnceLock::new(), revocation: OnceLock::new() })
    }

    /// The client of the request that this task answers.
    pub fn current() -> Arc<Client> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Client::new(String::new(), Seen::default(), None))
    }

    /// Answers a request of this client.
    pub async fn scope<T>(self: Arc<Self>, answering: impl Future<Output = T>) -> T {
        CURRENT.scope(self, answering).await
    }

    /// The client has shown the token of this name.
    pub fn recognised(&self, token: &str) {
        let _ = self.token.set(token.into());
    }

    /// The party that the client's requests are counted for.
    pub fn party(&self) -> Party {
        match (self.token.get(), self.seen.address) {
            (Some(token), _) => Party::Token(token.clone()),
            (None, Some(address)) => Party::Network(network_of(address)),
            (None, None) => Party::Other,
        }
    }

    pub(super) fn revocable(&self, revocation: Revocation) {
        let _ = self.revocation.set(revocation);
    }

    /// Whether the request has been ended in favour of others.
    pub fn is_revoked(&self) -> bool {
        self.revocation.get().is_some_and(Revocation::is_revoked)
    }
}
