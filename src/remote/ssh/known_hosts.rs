//! Which keys servers are recognised by: OpenSSH's `known_hosts`, read strictly.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::ssh_key::known_hosts::Marker;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;

/// The port that names stand for where they have none.
const SSH_PORT: u16 = 22;
/// What a hashed name begins with.
const HASHED: &str = "|1|";

/// What is known about one host.
#[derive(Debug, Default)]
pub struct Known {
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    authorities: usize,
}

impl Known {
    /// What a file says about a host. Lines that cannot be understood are passed over, as OpenSSH does: what they name
    /// is then unknown.
    pub fn read(text: &str, host: &str, port: u16) -> Known {
        let host = host.to_ascii_lowercase();
        let name = if port == SSH_PORT { host } else { format!("[{host}]:{port}") };
        let mut known = Known::default();
        for line in text.lines() {
            let mut line = line.trim();
            let mut marker = None;
            if line.starts_with('@') {
                let Some((word, rest)) = line.split_once(char::is_whitespace) else { continue };
                marker = match word {
                    "@cert-authority" => Some(Marker::CertAuthority),
                    "@revoked" => Some(Marker::Revoked),
                    _ => continue,
                };
                line = rest.trim_start();
            }
            let Some((patterns, key)) = line.split_once(char::is_whitespace) else { continue };
            if line.starts_with('#') || !matches(patterns, &name) {
                continue;
            }
            match (marker, PublicKey::from_openssh(key.trim())) {
                (Some(Marker::CertAuthority), _) => known.authorities += 1,
                (Some(Marker::Revoked), Ok(key)) => known.revoked.push(key),
                (None, Ok(key)) => known.keys.push(key),
                (_, Err(_)) => {}
            }
        }
        known
    }

    /// Whether a host that shows this key is the one that is meant; why not.
    pub fn check(&self, key: &PublicKey) -> Result<(), String> {
        let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        let has = |keys: &[PublicKey]| keys.iter().any(|one| one.key_data() == key.key_data());
        if has(&self.revoked) {
            return Err(format!("its key {shown} is marked @revoked in known_hosts"));
        }
        if has(&self.keys) {
            return Ok(());
        }
        if !self.keys.is_empty() {
            return Err(format!(
                "its key is {shown}, and known_hosts has another one for it: somebody may be in between, or the server \
                 has a new key; ask whoever runs it"
            ));
        }
        if self.authorities > 0 {
            return Err(format!(
                "known_hosts has only a @cert-authority for it, and gitferry recognises hosts by their own keys; its \
                 key is {shown}"
            ));
        }
        Err(format!(
            "its key {shown} is not in known_hosts; compare it with what whoever runs the server publishes, then add it \
             (`ssh-keyscan` prints the line)"
        ))
    }

    /// Whether there is a key that it could be recognised by.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of its keys is of this kind.
    pub fn has_kind(&self, algorithm: &Algorithm) -> bool {
        self.keys.iter().any(|key| match algorithm {
            Algorithm::Rsa { .. } => matches!(key.algorithm(), Algorithm::Rsa { .. }),
            other => key.algorithm() == *other,
        })
    }
}

/// Whether a list of patterns covers a name; one that begins with `!` takes it out again.
fn matches(patterns: &str, name: &str) -> bool {
    let mut covered = false;
    for pattern in patterns.split(',') {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let is = match pattern.strip_prefix(HASHED) {
            Some(hashed) => is_hash_of(hashed, name),
            None => glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
        };
        match (is, negated) {
            (true, true) => return false,
            (true, false) => covered = true,
            (false, _) => {}
        }
    }
    covered
}

fn is_hash_of(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (BASE64_STANDARD.decode(salt), BASE64_STANDARD.decode(hash)) else { return false };
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.chain_update(name).verify_slice(&hash).is_ok()
}

/// `*` and `?` stand for any characters and any one; `[` for itself, as it is a part of names. Linear in memory and,
/// in effect, in time: only the last `*` is ever tried again.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMyOBW4IJtOvzIi44WolS95CtIMdgIftvE+QL9eEn+42";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6aQ5fBnqRH2ShLp4ShmNtCTHOwQnyCe3GT6YExVZB/";

    fn key(line: &str) -> PublicKey {
        PublicKey::from_openssh(line).unwrap()
    }

    fn check(text: &str, host: &str, port: u16) -> Result<(), String> {
        Known::read(text, host, port).check(&key(ONE))
    }

    #[test]
    fn names() {
        for (line, host, port, known) in [
            (format!("git.example {ONE}"), "git.example", 22, true),
            (format!("git.example {ONE} a comment"), "GIT.example", 22, true),
            (format!("a,git.example,b {ONE}"), "git.example", 22, true),
            (format!("git.example {ONE}"), "git.example", 2222, false),
            (format!("[git.example]:2222 {ONE}"), "git.example", 2222, true),
            (format!("[git.example]:2222 {ONE}"), "git.example", 22, false),
            (format!("*.example {ONE}"), "git.example", 22, true),
            (format!("*.example,!git.example {ONE}"), "git.example", 22, false),
            (format!("git.exampl? {ONE}"), "git.example", 22, true),
            (format!("[*.example]:22?? {ONE}"), "git.example", 2222, true),
            (format!("# git.example {ONE}"), "git.example", 22, false),
            (format!("git.example.evil {ONE}"), "git.example", 22, false),
            ("git.example ssh-ed25519 AAAA".into(), "git.example", 22, false),
            ("git.example".into(), "git.example", 22, false),
            (format!("\n\n  ::1 {ONE}\n"), "::1", 22, true),
        ] {
            assert_eq!(check(&line, host, port).is_ok(), known, "{line} {host} {port}");
        }
    }

    #[test]
    fn hashed_names() {
        // Made by `ssh-keygen -H` from `git.example` and `[git.example]:2222`.
        let lines = include_str!("known_hosts.hashed");
        assert!(check(lines, "git.example", 22).is_ok());
        assert!(check(lines, "git.example", 2222).is_ok());
        assert!(check(lines, "git.example", 2223).is_err());
        for bad in ["|1|", "|1||", "|1|a|b", "|2|x|y", "|1|AAAA"] {
            assert!(check(&format!("{bad} {ONE}"), "git.example", 22).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_said_about_a_key_that_is_not_trusted() {
        for (line, expected) in [
            (String::new(), "is not in known_hosts"),
            (format!("git.example {OTHER}"), "another one"),
            (format!("@cert-authority *.example {OTHER}"), "@cert-authority"),
            (format!("@cert-authority *.example {ONE}"), "@cert-authority"),
            (format!("@revoked git.example {ONE}\ngit.example {ONE}"), "@revoked"),
            (format!("@future git.example {ONE}"), "is not in known_hosts"),
        ] {
            let error = check(&line, "git.example", 22).unwrap_err();
            assert!(error.contains(expected) && error.contains("SHA256:"), "{line}: {error}");
        }
        assert!(check(&format!("git.example {OTHER}\ngit.example {ONE}"), "git.example", 22).is_ok());
    }

    #[test]
    fn globs() {
        for (pattern, name, is) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "aXbY", false),
            ("?", "", false),
            ("[a]", "a", false),
            ("[a]", "[a]", true),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), is, "{pattern} {name}");
        }
        // Ends soon.
        assert!(!glob("a*".repeat(50).as_bytes(), "b".repeat(5000).as_bytes()));
        assert!(!glob(format!("{}b", "a*".repeat(50)).as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
