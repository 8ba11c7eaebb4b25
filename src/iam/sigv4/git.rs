//! Signature Version 4 in the password of Git, as `aws codecommit credential-helper` and git-remote-codecommit make it.
//!
//! The canonical request is `GIT\n<path>\n\nhost:<host>\n\nhost\n`, without a hash of a body. The user name is the access
//! key id, with `%` and the session token if there is one; the password is the time, `Z` and the signature. The time in
//! the text that is signed has no `Z`. A password is good for every request of its repository for 15 minutes.

use std::borrow::Cow;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use ring::digest::{SHA256, digest};

use crate::sigv4::canonical::bare_host;
use crate::sigv4::error::{MAX_CLOCK_SKEW, SignatureError};
use crate::sigv4::keys::{Scope, SigningKey};
use crate::sigv4::signed::decode_signature;
use crate::sigv4::time;

/// Service of every Git password.
const SERVICE: &str = "codecommit";
/// Number of canonical requests that a password is compared with: two paths, each with two hosts.
pub const MAX_GIT_FORMS: usize = 4;

/// A user name and password that Git sent, read as a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitPassword<'a> {
    access_key_id: &'a str,
    token: Option<Cow<'a, str>>,
    time: &'a str,
    at: Timestamp,
    signature: [u8; 32],
}

impl<'a> GitPassword<'a> {
    /// Reads user name and password; `None` if the password is not a signature.
    pub fn parse(user: &'a str, password: &'a str) -> Option<Self> {
        let (time, signature) = password.split_at_checked(15)?;
        let signature = decode_signature(signature.strip_prefix('Z')?)?;
        let at = time::parse(time)?;
        // git-remote-codecommit quotes `%` and the token for its URL; what Git decodes once may be quoted still.
        let (access_key_id, token) = match user.split_once('%') {
            Some((id, token)) => (id, Some(token.strip_prefix("25").filter(|_| id.len() == 20).unwrap_or(token))),
            None => (user, None),
        };
        let token = token.map(|token| percent_decode_str(token).decode_utf8_lossy());
        Some(GitPassword { access_key_id, token, time, at, signature })
    }

    /// Access key that the client says it has.
    pub fn access_key_id(&self) -> &'a str {
        self.access_key_id
    }

    /// Session token that the client sent.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Scope of the signature in a region.
    pub fn scope<'s>(&'s self, region: &'s str) -> Scope<'s> {
        Scope { date: &self.time[..8], region, service: SERVICE }
    }

    /// Time of the signature.
    pub fn time(&self) -> Timestamp {
        self.at
    }

    /// Checks that the signature is valid at `now`.
    ///
    /// # Errors
    /// [`SignatureError::Expired`], also for a time to come.
    pub fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let valid = now.duration_since(self.at).abs() <= MAX_CLOCK_SKEW;
        if valid { Ok(()) } else { Err(SignatureError::Expired { signed: self.at, now }) }
    }

    /// Verifies the signature for a repository's path at a host, in constant time for each of [`MAX_GIT_FORMS`] forms:
    /// the path as it was sent, with and without `.git`, and the host with and without its port.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`].
    pub fn verify(&self, path: &str, host: &str, region: &str, key: &SigningKey) -> Result<(), SignatureError> {
        let other = match path.strip_suffix(".git") {
            Some(bare) => bare.to_owned(),
            None => format!("{path}.git"),
        };
        let mut matches = false;
        for path in [path, &other] {
            for host in [host, bare_host(host)] {
                matches |= key.verifies(self.text(path, host, region).as_bytes(), &self.signature);
            }
        }
        if matches { Ok(()) } else { Err(SignatureError::Mismatch) }
    }

    fn text(&self, path: &str, host: &str, region: &str) -> String {
        let request = format!("GIT\n{path}\n\nhost:{host}\n\nhost\n");
        let hash = hex::encode(digest(&SHA256, request.as_bytes()));
        format!("AWS4-HMAC-SHA256\n{}\n{}/{region}/{SERVICE}/aws4_request\n{hash}", self.time, &self.time[..8])
    }
}
