//! From a login over SSH to a principal.

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::{Algorithm, HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use super::host_keys::HostKeys;
use crate::auth::{Denied, Grant, Principal};
use gitferry_audit::UserIdentity;
use gitferry_iam::ssh_key;

/// A login over SSH with a public key, whose private key the client has, or is still to prove that it has.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// User name.
    pub user: &'a str,
    /// Fingerprint of the public key, `SHA256:…`.
    pub fingerprint: &'a str,
    /// Address of the client; `None` if the system does not say it.
    pub address: Option<IpAddr>,
    /// Version of the client's software; empty while it is unknown.
    pub client: &'a str,
    /// True if the request is encrypted.
    pub secure: bool,
}

/// The users of a host, by their public keys.
pub trait SshIdentities: std::fmt::Debug + Send + Sync {
    /// The principal of a login. Called when the client asks if a key is known, once its signature has been verified,
    /// and for each command. An implementation takes the same path, and about the same time, for users and keys that it
    /// knows and for others.
    ///
    /// # Errors
    /// [`Denied::Unknown`] if the key is not one of the user; [`Denied::TooManyFailures`] or [`Denied::Unavailable`] if
    /// the login is not examined.
    fn identify(&self, login: &Login<'_>) -> Result<Principal, Denied>;

    /// Records that a connection has ended on which a user name proved none of the keys that it offered.
    fn note_failure(&self, user: &str, address: Option<IpAddr>) {
        let _ = (user, address);
    }

    /// Returns true if every key logs in. The host then listens on loopback addresses only.
    fn allows_anonymous(&self) -> bool {
        false
    }
}

/// Grants every key all rights, as `anonymous`. Only for a host on a loopback address.
#[derive(Debug)]
pub struct AnyKey;

impl SshIdentities for AnyKey {
    fn identify(&self, _: &Login<'_>) -> Result<Principal, Denied> {
        let principal = Principal::new("anonymous", Arc::new(Grant::new(true, None)));
        Ok(principal.with_identity(UserIdentity::anonymous()))
    }

    fn allows_anonymous(&self) -> bool {
        true
    }
}

/// Access to a host over SSH: the users who log in, and the keys by which the host proves itself.
#[derive(Clone, Debug)]
pub struct SshAccess {
    /// Users.
    pub identities: Arc<dyn SshIdentities>,
    /// Host keys.
    pub host_keys: Arc<HostKeys>,
}

/// Returns true if signatures of this algorithm by this key are accepted: Ed25519, ECDSA over the NIST curves, RSA with
/// SHA-2, and the first two by security keys. Certificates and RSA with SHA-1 (`ssh-rsa`) are not accepted.
pub(super) fn is_accepted(key: &PublicKey, algorithm: &Algorithm) -> bool {
    ssh_key::check(key).is_ok() && !matches!(algorithm, Algorithm::Rsa { hash: None })
}

/// A user name with the fingerprint of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserKey {
    user: String,
    fingerprint: String,
}

impl UserKey {
    /// A user name and a key, which may or may not belong together.
    pub fn new(user: &str, key: &PublicKey) -> Self {
        UserKey { user: user.to_owned(), fingerprint: key.fingerprint(HashAlg::Sha256).to_string() }
    }

    /// User name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Fingerprint of the key, `SHA256:…`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Login with the key over SSH, from an address with a version of the client's software.
    pub fn login<'a>(&'a self, address: Option<IpAddr>, client: &'a str) -> Login<'a> {
        Login { user: &self.user, fingerprint: &self.fingerprint, address, client, secure: true }
    }
}
