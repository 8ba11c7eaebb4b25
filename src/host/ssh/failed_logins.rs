//! Logins of one connection that failed, until it ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gitferry_audit::{Action, Caller, Protocol};
use gitferry_base::printable::Printable;

use super::identities::{SshIdentities, UserKey};
use crate::Host;
use crate::auth::Denied;

/// Most keys of one user name that a record names. A connection has few refusals before it ends.
const MAX_KEYS: usize = 10;

/// User names whose keys were refused. A client that offers several keys of which one is right has not failed.
#[derive(Debug, Default)]
pub(super) struct FailedLogins(BTreeMap<String, Failed>);

/// A user name whose keys were refused.
#[derive(Debug)]
struct Failed {
    /// The last refusal.
    denied: Denied,
    /// Fingerprints of the refused keys.
    keys: Vec<String>,
}

impl FailedLogins {
    /// Adds a key that was refused.
    pub(super) fn add(&mut self, key: &UserKey, denied: Denied) {
        let failed = self.0.entry(key.user().to_owned()).or_insert_with(|| Failed { denied, keys: Vec::new() });
        failed.denied = denied;
        let fingerprint = key.fingerprint();
        if failed.keys.len() < MAX_KEYS && !failed.keys.iter().any(|known| known == fingerprint) {
            failed.keys.push(fingerprint.to_owned());
        }
    }

    /// Counts them, each user name once for the connection. A login that was not examined is no guess.
    pub(super) fn count(&self, identities: &dyn SshIdentities, address: Option<IpAddr>) {
        for (user, failed) in &self.0 {
            let shown = address.map(tracing::field::display);
            let reason = reason_of(failed.denied);
            let user = user.as_str();
            tracing::info!(address = shown, user = %Printable(user), reason, "an SSH connection ended without a login");
            if failed.denied != Denied::Unavailable {
                identities.note_failure(user, address);
            }
        }
    }

    /// Adds a record of each user name to the audit trail. Never waits: the records of unproven clients are those that a
    /// full queue drops first.
    pub(super) fn record(&self, host: &Host, address: Option<IpAddr>, client: &str) {
        for (user, Failed { denied, keys }) in &self.0 {
            let entry = host.audit().begin();
            entry.caller(Caller {
                protocol: Protocol::Ssh,
                request_id: host.new_request_id(),
                source: address,
                user_agent: client.to_owned(),
                tls_host: None,
            });
            entry.account(host.access().authenticator.account());
            entry.action(Action::new("SshLogin"));
            entry.claimed(user);
            entry.detail("publicKeys", keys.clone());
            entry.refused(code_of(*denied), reason_of(*denied));
            entry.completed();
        }
    }
}

/// Error code of a denial in the audit trail, as over HTTP.
fn code_of(denied: Denied) -> &'static str {
    match denied {
        Denied::Unknown => "UnrecognizedClientException",
        Denied::Forbidden(_) => "AccessDenied",
        Denied::TooManyFailures => "ThrottlingException",
        Denied::Unavailable => "ServiceUnavailable",
    }
}

/// Reason for a denial, for the log and the audit trail.
pub(super) fn reason_of(denied: Denied) -> &'static str {
    match denied {
        Denied::Unknown => "the key is not one of the user",
        Denied::Forbidden(_) => "the user lacks the right",
        Denied::TooManyFailures => "too many logins of the user from this address have failed",
        Denied::Unavailable => "the identities cannot be read now",
    }
}
