//! The client of the request that a task answers: address, name of the principal and revocation.

pub mod connections;
pub mod proxies;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::http::request::Parts;
use axum::http::uri::Authority;

use crate::admission::fair_share::{ClientKey, network_of};
use crate::admission::permits::Revocation;
use connections::{ClientConnection, InFlight};
use gitferry_audit::Entry;
use gitferry_base::clock::Clock;
use gitferry_config::Network;
use proxies::{ClientInfo, client_info};

tokio::task_local! {
    static CURRENT: Arc<Client>;
}

/// Identifies the clients of requests.
#[derive(Debug)]
pub struct Clients {
    clock: Arc<dyn Clock>,
    trusted_proxies: Vec<Network>,
}

impl Clients {
    /// Takes the ids of requests from `clock`, and the addresses of clients from the headers of `trusted_proxies`.
    pub fn new(clock: Arc<dyn Clock>, trusted_proxies: Vec<Network>) -> Self {
        Clients { clock, trusted_proxies }
    }

    /// The client of a request. Takes the connection and the audit entry out of the request's extensions.
    pub fn identify(&self, request: &mut Parts) -> Arc<Client> {
        let connection = request.extensions.remove::<Arc<ClientConnection>>();
        let peer = connection.as_ref().and_then(|connection| Some(connection.peer()?.ip()));
        let info = client_info(peer, &self.trusted_proxies, &request.headers);
        let entry = request.extensions.remove::<Entry>().unwrap_or_default();
        Client::new(self.clock.new_id().simple().to_string(), info, connection, entry)
    }
}

/// The client of one request.
#[derive(Debug)]
pub struct Client {
    request_id: String,
    info: ClientInfo,
    /// Connection that carries the request; `None` outside the listener.
    connection: Option<Arc<ClientConnection>>,
    /// Address that another host has seen, if the request comes by way of it.
    origin: OnceLock<IpAddr>,
    /// Entry of the request in the audit trail.
    entry: Entry,
    /// Name of the client's principal, once authenticated.
    principal: OnceLock<Arc<str>>,
    /// Revocation of the request's slot, once admitted.
    revocation: OnceLock<Revocation>,
}

impl Client {
    /// A client that is not authenticated yet.
    pub fn new(
        request_id: String,
        info: ClientInfo,
        connection: Option<Arc<ClientConnection>>,
        entry: Entry,
    ) -> Arc<Self> {
        let origin = OnceLock::new();
        let principal = OnceLock::new();
        let revocation = OnceLock::new();
        Arc::new(Client { request_id, info, connection, origin, entry, principal, revocation })
    }

    /// The client of the request that this task answers; an unknown client outside a request.
    pub fn current() -> Arc<Client> {
        CURRENT
            .try_with(Arc::clone)
            .unwrap_or_else(|_| Client::new(String::new(), ClientInfo::default(), None, Entry::default()))
    }

    /// Runs a future with this client as [`Client::current`].
    pub async fn scope<T>(self: Arc<Self>, answering: impl Future<Output = T>) -> T {
        CURRENT.scope(self, answering).await
    }

    /// Id of the request in the log and in the response.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Entry of the request in the audit trail.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Address of the client; `None` outside the listener.
    pub fn address(&self) -> Option<IpAddr> {
        self.origin.get().copied().or(self.info.address)
    }

    /// Records the address of the client that another host has authenticated.
    pub fn set_origin(&self, address: IpAddr) {
        let _ = self.origin.set(address);
    }

    /// Scheme of the URL that the client asked a trusted proxy for; `None` if no proxy reports one.
    pub fn asked_scheme(&self) -> Option<&'static str> {
        self.info.scheme
    }

    /// Host of the URL that the client asked a trusted proxy for; `None` if no proxy reports one.
    pub fn asked_host(&self) -> Option<&Authority> {
        self.info.host.as_ref()
    }

    /// Returns true if the connection is beyond the limit, and serves health checks alone.
    pub fn may_only_check_health(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_reserved())
    }

    /// Marks the connection as in use until the guard is dropped.
    pub fn begin_request(&self) -> Option<Arc<InFlight>> {
        self.connection.as_ref().map(|connection| connection.begin_request())
    }

    /// Records the name of the client's principal.
    pub fn set_principal_name(&self, principal: &str) {
        let _ = self.principal.set(principal.into());
    }

    /// Key under which the requests of this client are counted; see [`crate::admission::fair_share`].
    pub fn key(&self) -> ClientKey {
        match (self.principal.get(), self.info.address) {
            (Some(principal), _) => ClientKey::Principal(principal.clone()),
            (None, Some(address)) => ClientKey::Network(network_of(address)),
            (None, None) => ClientKey::Other,
        }
    }

    /// Records the revocation of the slot that the request holds.
    pub fn set_revocation(&self, revocation: Revocation) {
        let _ = self.revocation.set(revocation);
    }

    /// Returns true if the slot of the request was revoked in favour of another client.
    pub fn is_revoked(&self) -> bool {
        self.revocation.get().is_some_and(Revocation::is_revoked)
    }
}
