//! Host keys from OpenSSH's `known_hosts` (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), checked strictly.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::ssh_key::known_hosts::Marker;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;

/// Port of names without one.
const SSH_PORT: u16 = 22;
/// Prefix of a hashed name.
const HASHED: &str = "|1|";

/// Entries of `known_hosts` for one host.
#[derive(Debug, Default)]
pub struct HostKeys {
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    authorities: usize,
}

impl HostKeys {
    /// Collects the entries for a host. Malformed lines are skipped, as OpenSSH does, which leaves their hosts unknown.
    pub fn parse(text: &str, host: &str, port: u16) -> HostKeys {
        let host = host.to_ascii_lowercase();
        let name = if port == SSH_PORT { host } else { format!("[{host}]:{port}") };
        let mut known = HostKeys::default();
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

    /// Verifies the key that a host presents.
    ///
    /// # Errors
    /// Returns the reason, with the fingerprint to compare and the next step.
    pub fn verify(&self, key: &PublicKey) -> Result<(), String> {
        let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        let has = |keys: &[PublicKey]| keys.iter().any(|one| one.key_data() == key.key_data());
        if has(&self.revoked) {
            return Err(format!("the server's key {shown} is marked @revoked in known_hosts"));
        }
        if has(&self.keys) {
            return Ok(());
        }
        if !self.keys.is_empty() {
            return Err(format!(
                "the server's key {shown} differs from the one in known_hosts: the connection may be intercepted, or the \
                 key has changed; ask the server's administrator for the fingerprint before you replace the line"
            ));
        }
        if self.authorities > 0 {
            return Err(format!(
                "known_hosts has only a @cert-authority for the server, and gitferry requires the host's own key; the \
                 server's key is {shown}"
            ));
        }
        Err(format!(
            "the server's key {shown} is not in known_hosts; compare it with the fingerprint that the server's \
             administrator publishes, then add the line that `ssh-keyscan` prints"
        ))
    }

    /// Returns true if no key could identify the host.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns true if a key of this algorithm is known.
    pub fn has_algorithm(&self, algorithm: &Algorithm) -> bool {
        self.keys.iter().any(|key| match algorithm {
            Algorithm::Rsa { .. } => matches!(key.algorithm(), Algorithm::Rsa { .. }),
            other => key.algorithm() == *other,
        })
    }
}

/// Returns true if a list of patterns matches a name. A matching pattern with `!` excludes the name.
fn matches(patterns: &str, name: &str) -> bool {
    let mut covered = false;
    for pattern in patterns.split(',') {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let is_match = match pattern.strip_prefix(HASHED) {
            Some(hashed) => is_hash_of(hashed, name),
            None => glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
        };
        if is_match && negated {
            return false;
        }
        covered |= is_match;
    }
    covered
}

fn is_hash_of(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (BASE64_STANDARD.decode(salt), BASE64_STANDARD.decode(hash)) else { return false };
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.chain_update(name).verify_slice(&hash).is_ok()
}

/// Matches `*` as any characters and `?` as any one. `[` is literal, as names contain it. Backtracks only to the last
/// `*`, so the time is at most the product of both lengths.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut p = 0;
    let mut n = 0;
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
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
        HostKeys::parse(text, host, port).verify(&key(ONE))
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
            (format!("git.example {OTHER}"), "differs from the one in known_hosts"),
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
