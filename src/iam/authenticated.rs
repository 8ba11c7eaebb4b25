//! Principals that have been proven, with what is known of their clients.

use std::net::IpAddr;
use std::sync::Arc;

use gitferry_policy::Context;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::key_ring::KeyRing;
use crate::principal::Principal;

/// Longest part of the header `User-Agent` that goes to another host, in bytes.
const MAX_AGENT: usize = 512;

/// Principal of a request, with the condition keys that are known before the request is parsed.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Principal.
    pub principal: Principal,
    /// Condition keys.
    pub context: Context,
    /// State of the account that proved the principal, and that decides on the request.
    pub account: Arc<Account>,
    /// Client of the request.
    pub client: ClientFacts,
    /// Region of the host to which the client has proven its principal, if that is another host.
    pub delegated_by: Option<String>,
    /// Opened data keys of the account.
    pub(crate) keys: Arc<KeyRing>,
}

/// A request without credentials, and the state of the account that decides on it.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// Condition keys that every request has.
    pub context: Context,
    /// State of the account.
    pub account: Arc<Account>,
}

/// Client of a request, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFacts {
    /// Address of the client, behind trusted proxies.
    pub address: IpAddr,
    /// True if the client's request was encrypted.
    pub secure: bool,
    /// Header `User-Agent`, or the version of an SSH client.
    pub agent: String,
}

impl ClientFacts {
    /// The same with the beginning of a long agent.
    pub(crate) fn shortened(&self) -> ClientFacts {
        let end = self.agent.floor_char_boundary(MAX_AGENT);
        ClientFacts { agent: self.agent[..end].to_owned(), ..self.clone() }
    }
}
