//! Users of a host from a file of public keys that can be changed while the host serves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use globset::GlobSet;

use super::identities::{Login, SshIdentities};
use crate::auth::watched_file::WatchedFile;
use crate::auth::{Denied, Grant, Principal};
use gitferry_base::private::warn_if_others_write;
use gitferry_config::name_matcher;
use gitferry_iam::ssh_key::{PublicKey, Refused};

/// User name that every key may log in with, as at other Git hosts.
const COMMON_USER: &str = "git";
const MISSING_KEY: &str = "the key is missing";

/// Public keys of users, from a file with lines `NAME RIGHT [REPOSITORIES] TYPE KEY [COMMENT]`.
///
/// `RIGHT` is `read` or `write` (which includes reading). `REPOSITORIES` are globs of names, separated by commas; `*` also
/// matches `/`; by default all repositories. `TYPE KEY COMMENT` is the content of a `.pub` file. A key logs in as the user
/// `git` or `NAME`, and belongs to one name; a name may have several keys.
pub struct AuthorizedKeys {
    file: WatchedFile,
    users: RwLock<Arc<Users>>,
}

impl std::fmt::Debug for AuthorizedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthorizedKeys({})", self.file.path().display())
    }
}

/// Users by the fingerprints of their keys.
type Users = HashMap<String, User>;

#[derive(Debug)]
struct User {
    name: String,
    grant: Arc<Grant>,
}

/// Error in a file of authorized keys.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizedKeysError {
    /// The file cannot be read.
    #[error("the SSH keys {file} cannot be read: {error}")]
    Unreadable {
        /// Path of the file.
        file: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// A line does not have the documented form.
    #[error("line {line} of the SSH keys {file} is not of the form NAME read|write [REPOSITORIES] TYPE KEY: {reason}")]
    Malformed {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Fault of the line, for the operator.
        reason: String,
    },
}

impl AuthorizedKeys {
    /// Reads a file of authorized keys.
    ///
    /// # Errors
    /// The file cannot be read, or one of its lines is wrong.
    pub fn load(file: &Path) -> Result<Self, AuthorizedKeysError> {
        let keys = AuthorizedKeys { file: WatchedFile::new(file), users: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// Reads the file again, for new logins. After an error the previous keys stay valid.
    ///
    /// # Errors
    /// As of [`AuthorizedKeys::load`].
    pub fn reload(&self) -> Result<(), AuthorizedKeysError> {
        let file = self.file.path();
        let text = self.file.read();
        let text = text.map_err(|error| AuthorizedKeysError::Unreadable { file: file.into(), error })?;
        let users = parse(&text).map_err(|(at, reason)| AuthorizedKeysError::Malformed {
            file: file.into(),
            line: at + 1,
            reason,
        })?;
        warn_if_others_write("the SSH keys", file);
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        Ok(())
    }

    /// Returns true if the file has changed since the last attempt to read it.
    pub fn has_changed(&self) -> bool {
        self.file.has_changed()
    }
}

impl SshIdentities for AuthorizedKeys {
    fn identify(&self, login: &Login<'_>) -> Result<Principal, Denied> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner).clone();
        let found = users.get(login.fingerprint);
        let found = found.filter(|found| login.user == COMMON_USER || login.user == found.name);
        found.map(|found| Principal::new(&found.name, found.grant.clone())).ok_or(Denied::Unknown)
    }
}

/// Parses all lines. An error has the index of its line.
fn parse(text: &str) -> Result<Users, (usize, String)> {
    let mut users = Users::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (fingerprint, user) = parse_line(line).map_err(|reason| (at, reason))?;
        if users.insert(fingerprint, user).is_some() {
            return Err((at, "the key is in an earlier line already".into()));
        }
    }
    Ok(users)
}

/// Parses a line: the fingerprint of its key, and the user.
fn parse_line(line: &str) -> Result<(String, User), String> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next().unwrap_or_default();
    if name.chars().any(char::is_control) {
        return Err("the name has control characters".into());
    }
    let write = match fields.next() {
        Some("write") => true,
        Some("read") => false,
        _ => return Err("the right is neither `read` nor `write`".into()),
    };
    let mut kind = fields.next().ok_or(MISSING_KEY)?;
    let mut repositories = None;
    if !is_key_type(kind) {
        repositories = Some(matcher(kind)?);
        kind = fields.next().ok_or(MISSING_KEY)?;
    }
    let key = fields.next().ok_or(MISSING_KEY)?;
    let key = PublicKey::parse(&format!("{kind} {key}")).map_err(|refused| match refused {
        Refused::NotAKey => "the key is not the content of a .pub file".to_owned(),
        refused => refused.to_string(),
    })?;
    let grant = Arc::new(Grant::new(write, repositories));
    Ok((key.fingerprint(), User { name: name.to_owned(), grant }))
}

/// Returns true for the first field of a `.pub` file.
fn is_key_type(field: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| field.starts_with(prefix))
}

fn matcher(globs: &str) -> Result<GlobSet, String> {
    let globs: Vec<String> = globs.split(',').map(str::to_owned).collect();
    if globs.iter().any(String::is_empty) {
        return Err("one of the globs of repositories is empty".into());
    }
    name_matcher(&globs).map_err(|_| "the repositories are not valid globs".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Access;
    use crate::ssh::identities::UserKey;
    use russh::keys::key::safe_rng;
    use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

    fn new_key(algorithm: Algorithm) -> russh::keys::PublicKey {
        PrivateKey::random(&mut safe_rng(), algorithm).unwrap().public_key().clone()
    }

    fn line(key: &russh::keys::PublicKey) -> String {
        key.to_openssh().unwrap()
    }

    fn identify(keys: &AuthorizedKeys, user: &str, key: &russh::keys::PublicKey) -> Result<Principal, Denied> {
        keys.identify(&UserKey::new(user, key).login(None, ""))
    }

    #[test]
    fn a_key_has_its_name_and_its_rights() {
        let ann = new_key(Algorithm::Ed25519);
        let bob = new_key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 });
        let eve = new_key(Algorithm::Ed25519);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let text = format!("# people\nann write {} ann@laptop\n\nbob read team/*,app {}\n", line(&ann), line(&bob));
        std::fs::write(&file, text).unwrap();
        let keys = AuthorizedKeys::load(&file).unwrap();
        let name = |user: &str, key| identify(&keys, user, key).map(|found| found.name().to_owned());
        assert_eq!(name("git", &ann).as_deref(), Ok("ann"));
        assert_eq!(name("ann", &ann).as_deref(), Ok("ann"));
        for (user, key) in [("bob", &ann), ("root", &ann), ("", &ann), ("git", &eve), ("ann", &eve), ("ann", &bob)] {
            assert_eq!(name(user, key), Err(Denied::Unknown), "{user}");
        }
        let bob = identify(&keys, "git", &bob).unwrap();
        assert!(bob.authorize("team/x", Access::Read).is_ok() && bob.authorize("app", Access::Read).is_ok());
        assert!(bob.authorize("other", Access::Read).is_err() && bob.authorize("app", Access::Write).is_err());
        assert!(identify(&keys, "git", &ann).unwrap().authorize("any", Access::Write).is_ok());
        // A changed file takes effect on reload, a bad one never.
        assert!(!keys.has_changed());
        std::fs::write(&file, format!("eve read {}\n", line(&eve))).unwrap();
        assert!(keys.has_changed());
        keys.reload().unwrap();
        assert_eq!(name("git", &eve).as_deref(), Ok("eve"));
        assert_eq!(name("git", &ann), Err(Denied::Unknown));
        std::fs::write(&file, "nonsense").unwrap();
        keys.reload().unwrap_err();
        assert_eq!(name("git", &eve).as_deref(), Ok("eve"));
        assert!(!keys.has_changed());
    }

    #[test]
    fn bad_lines_are_named_with_their_fault() {
        let key = line(&new_key(Algorithm::Ed25519));
        let short = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQDDummy";
        let table = [
            ("ann".to_owned(), "the right is neither"),
            (format!("ann admin {key}"), "the right is neither"),
            (key.clone(), "the right is neither"),
            ("ann read".into(), "the key is missing"),
            ("ann read team/*".into(), "the key is missing"),
            ("ann read ssh-ed25519".into(), "the key is missing"),
            (format!("ann read a,,b {key}"), "empty"),
            (format!("ann read [ {key}"), "not valid globs"),
            (format!("ann read ssh-rsa {short}"), "content of a .pub file"),
            (format!("ann read ssh-ed25519 {short}"), "content of a .pub file"),
            (format!("ann read {key}\nbob read {key}"), "earlier line"),
        ];
        for (text, expected) in table {
            let (at, reason) = parse(&text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
            assert_eq!(at, text.lines().count() - 1);
        }
    }
}
