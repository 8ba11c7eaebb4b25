//! Who asks, and whether they may. Deny by default; the Git code never sees any of this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Clone, fetch.
    Read,
    /// Push.
    Write,
}

/// Somebody who was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that changes are attributed to.
    pub name: String,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody was recognised: ask for credentials.
    Unknown,
    /// Recognised, but not allowed.
    Forbidden,
}

/// Recognises people and decides what they may. The one seam for identity and policies.
pub trait Authorizer: std::fmt::Debug + Send + Sync {
    /// Decides about one request.
    fn authorize(&self, headers: &HeaderMap, repository: &str, access: Access) -> Result<Identity, Denied>;

    /// Whether it lets everybody in: then nobody else may reach the host.
    fn lets_everybody_in(&self) -> bool {
        false
    }
}

/// Everybody may do everything: only for a host that nobody else can reach.
#[derive(Debug)]
pub struct Open;

impl Authorizer for Open {
    fn authorize(&self, _: &HeaderMap, _: &str, _: Access) -> Result<Identity, Denied> {
        Ok(Identity { name: "anonymous".into() })
    }

    fn lets_everybody_in(&self) -> bool {
        true
    }
}

/// People with tokens, from a file of lines `name:token` or `name:token:read`.
///
/// A token is accepted as the password of Basic authentication (with any or the same user name) and as a
/// bearer token. Only hashes of tokens are kept, and they are compared in constant time.
pub struct TokenFile {
    people: BTreeMap<String, Vec<Person>>,
}

struct Person {
    token: [u8; 32],
    write: bool,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenFile({} people)", self.people.len())
    }
}

/// Why a token file cannot be used. Never holds a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("the token file {file} cannot be read: {error}")]
    Unreadable {
        /// Its path.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line makes no sense.
    #[error("line {line} of the token file {file} is not of the form name:token or name:token:read")]
    Malformed {
        /// Its path.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A token can be guessed.
    #[error("line {line} of the token file {file}: a token has at least {MIN_TOKEN_BYTES} characters")]
    Short {
        /// Its path.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// Shortest token.
const MIN_TOKEN_BYTES: usize = 16;

impl TokenFile {
    /// Reads a token file.
    pub fn load(file: &Path) -> Result<Self, TokenFileError> {
        let text =
            std::fs::read_to_string(file).map_err(|error| TokenFileError::Unreadable { file: file.into(), error })?;
        TokenFile::parse(&text, file)
    }

    fn parse(text: &str, file: &Path) -> Result<Self, TokenFileError> {
        let mut people: BTreeMap<String, Vec<Person>> = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = || TokenFileError::Malformed { file: file.into(), line: at + 1 };
            let mut fields = line.split(':');
            let (name, token) = (fields.next(), fields.next());
            let (Some(name), Some(token)) = (name, token) else { return Err(malformed()) };
            let write = match (fields.next(), fields.next()) {
                (None, None) => true,
                (Some("read"), None) => false,
                _ => return Err(malformed()),
            };
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(malformed());
            }
            if token.len() < MIN_TOKEN_BYTES {
                return Err(TokenFileError::Short { file: file.into(), line: at + 1 });
            }
            let token = Sha256::digest(token.as_bytes()).into();
            people.entry(name.into()).or_default().push(Person { token, write });
        }
        Ok(TokenFile { people })
    }

    /// Compares with everybody, so that the time tells nothing.
    fn recognise(&self, secret: &[u8]) -> Option<(&str, bool)> {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let mut found = None;
        for (name, tokens) in &self.people {
            for person in tokens {
                if bool::from(person.token.ct_eq(&digest)) {
                    found = Some((name.as_str(), person.write));
                }
            }
        }
        found
    }
}

impl Authorizer for TokenFile {
    fn authorize(&self, headers: &HeaderMap, _repository: &str, access: Access) -> Result<Identity, Denied> {
        let secret = secret(headers).ok_or(Denied::Unknown)?;
        let (name, write) = self.recognise(&secret).ok_or(Denied::Unknown)?;
        if access == Access::Write && !write {
            return Err(Denied::Forbidden);
        }
        Ok(Identity { name: name.into() })
    }
}

/// The password of Basic authentication, or a bearer token.
fn secret(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# people\nann:0123456789abcdef\nbob:fedcba9876543210:read\n";

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    #[test]
    fn tokens_say_who_and_what() {
        let file = TokenFile::parse(FILE, Path::new("f")).unwrap();
        let ann = Identity { name: "ann".into() };
        assert_eq!(file.authorize(&basic("ann", "0123456789abcdef"), "r", Access::Write), Ok(ann.clone()));
        assert_eq!(file.authorize(&headers("Bearer 0123456789abcdef"), "r", Access::Read), Ok(ann));
        assert!(file.authorize(&basic("bob", "fedcba9876543210"), "r", Access::Read).is_ok());
        assert_eq!(file.authorize(&basic("bob", "fedcba9876543210"), "r", Access::Write), Err(Denied::Forbidden));
    }

    #[test]
    fn anything_else_is_unknown() {
        let file = TokenFile::parse(FILE, Path::new("f")).unwrap();
        let garbage = ["Basic", "Basic !!!", "Basic YQ==", "Digest x", "Bearer ", "Bearer 0123456789abcdee"];
        for value in garbage {
            assert_eq!(file.authorize(&headers(value), "r", Access::Read), Err(Denied::Unknown), "{value}");
        }
        assert_eq!(file.authorize(&HeaderMap::new(), "r", Access::Read), Err(Denied::Unknown));
    }

    #[test]
    fn bad_files_are_refused_without_their_secrets() {
        for text in ["ann", "ann:0123456789abcdef:admin", ":0123456789abcdef", "ann:tooshort"] {
            let error = TokenFile::parse(text, Path::new("f")).unwrap_err().to_string();
            assert!(!error.contains("0123456789abcdef") && !error.contains("tooshort"), "{error}");
        }
    }
}
