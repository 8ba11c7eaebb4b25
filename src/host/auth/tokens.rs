//! Authentication by tokens from a file that can be reloaded while the host serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use globset::GlobSet;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::watched_file::WatchedFile;
use crate::auth::{Authenticator, Denied, Grant, Presented, Principal};
use gitferry_base::private::warn_if_others_read;
use gitferry_config::name_matcher;

/// Shortest token, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// Tokens of clients, from a file with lines `NAME:TOKEN[:RIGHT[:REPOSITORIES]]`.
///
/// `RIGHT` is `read` or `write` (the default, which includes reading). `REPOSITORIES` are globs of names, separated by
/// commas; `*` also matches `/`; by default all repositories. A token is accepted as the password of Basic
/// authentication (with any user name) and as a bearer token. Memory holds only SHA-256 hashes of tokens, compared in
/// constant time.
pub struct TokenFile {
    file: WatchedFile,
    tokens: RwLock<Arc<Tokens>>,
}

#[derive(Default)]
struct Tokens {
    by_name: BTreeMap<String, Vec<Token>>,
}

struct Token {
    hash: [u8; 32],
    grant: Arc<Grant>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenFile({})", self.file.path().display())
    }
}

/// Error in a token file. Its text never contains a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("the token file {file} cannot be read: {error}")]
    Unreadable {
        /// Path of the token file.
        file: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// A line does not have the documented form.
    #[error("line {line} of the token file {file} is not of the form NAME:TOKEN[:read|write[:REPOSITORIES]]: {reason}")]
    Malformed {
        /// Path of the token file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Fault of the line, for the operator.
        reason: &'static str,
    },
    /// A token is so short that it can be guessed.
    #[error("line {line} of the token file {file}: a token has at least {MIN_TOKEN_BYTES} characters")]
    Short {
        /// Path of the token file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
}

impl TokenFile {
    /// Reads a token file.
    ///
    /// # Errors
    /// The file cannot be read, or one of its lines is wrong.
    pub fn load(file: &Path) -> Result<Self, TokenFileError> {
        let tokens = TokenFile { file: WatchedFile::new(file), tokens: RwLock::default() };
        tokens.reload()?;
        Ok(tokens)
    }

    /// Reads the file again, for new requests. After an error the previous tokens stay valid.
    ///
    /// # Errors
    /// As of [`TokenFile::load`].
    pub fn reload(&self) -> Result<(), TokenFileError> {
        let file = self.file.path();
        let text = self.file.read().map_err(|error| TokenFileError::Unreadable { file: file.into(), error })?;
        let tokens = Arc::new(Tokens::parse(&text, file)?);
        warn_if_others_read("the tokens", file);
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(())
    }

    /// Returns true if the file has changed since the last attempt to read it.
    pub fn has_changed(&self) -> bool {
        self.file.has_changed()
    }

    fn tokens(&self) -> Arc<Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tokens {
    fn parse(text: &str, file: &Path) -> Result<Self, TokenFileError> {
        let mut tokens = Tokens::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = |reason| TokenFileError::Malformed { file: file.into(), line: at + 1, reason };
            let mut fields = line.splitn(4, ':');
            let name = fields.next();
            let token = fields.next();
            let (Some(name), Some(token)) = (name, token) else { return Err(malformed("the token is missing")) };
            let write = match fields.next() {
                None | Some("write") => true,
                Some("read") => false,
                Some(_) => return Err(malformed("the right is neither `read` nor `write`")),
            };
            let repositories = fields.next().map(|globs| matcher(globs).map_err(malformed)).transpose()?;
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(malformed("the name is empty or has control characters"));
            }
            if token.len() < MIN_TOKEN_BYTES {
                return Err(TokenFileError::Short { file: file.into(), line: at + 1 });
            }
            let hash = Sha256::digest(token.as_bytes()).into();
            let grant = Arc::new(Grant::new(write, repositories));
            tokens.by_name.entry(name.into()).or_default().push(Token { hash, grant });
        }
        Ok(tokens)
    }

    /// Finds the token of a secret. Compares with every token, so that the time reveals nothing about any of them.
    fn find(&self, secret: &[u8]) -> Option<(&str, &Token)> {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let mut found = None;
        for (name, tokens) in &self.by_name {
            for token in tokens {
                if bool::from(token.hash.ct_eq(&hash)) {
                    found = Some((name.as_str(), token));
                }
            }
        }
        found
    }
}

fn matcher(globs: &str) -> Result<GlobSet, &'static str> {
    let globs: Vec<String> = globs.split(',').map(|glob| glob.trim().to_owned()).collect();
    if globs.iter().any(String::is_empty) {
        return Err("one of the globs of repositories is empty");
    }
    name_matcher(&globs).map_err(|_| "the repositories are not valid globs")
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn authenticate(&self, presented: &Presented<'_>) -> Result<Principal, Denied> {
        self.principal(presented.headers)
    }
}

impl TokenFile {
    fn principal(&self, headers: &HeaderMap) -> Result<Principal, Denied> {
        let secret = secret(headers).ok_or(Denied::Unknown)?;
        let tokens = self.tokens();
        let (name, token) = tokens.find(&secret).ok_or(Denied::Unknown)?;
        Ok(Principal::new(name, token.grant.clone()))
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
    use crate::auth::{Access, Cause};

    const FILE: &str = "# people\nann:0123456789abcdef\nbob:fedcba9876543210:read\n\
                        ci:00000000ffffffff:write:team/*, app\neve:11111111ffffffff:read:team/*\n";

    fn open(text: &str) -> (tempfile::TempDir, TokenFile) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokens"), text).unwrap();
        let file = TokenFile::load(&dir.path().join("tokens")).unwrap();
        (dir, file)
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// Authenticates and authorizes a request; the name of its principal.
    fn authorize(file: &TokenFile, headers: &HeaderMap, repository: &str, access: Access) -> Result<String, Denied> {
        let principal = file.principal(headers)?;
        principal.authorize(repository, access).map(|()| principal.name().to_owned())
    }

    #[test]
    fn tokens_authenticate_with_their_right() {
        let (_dir, file) = open(FILE);
        let ann = "ann".to_owned();
        assert_eq!(authorize(&file, &basic("ann", "0123456789abcdef"), "r", Access::Write), Ok(ann.clone()));
        assert_eq!(authorize(&file, &headers("Bearer 0123456789abcdef"), "r", Access::Read), Ok(ann));
        assert!(authorize(&file, &basic("bob", "fedcba9876543210"), "r", Access::Read).is_ok());
        assert_eq!(
            authorize(&file, &basic("bob", "fedcba9876543210"), "r", Access::Write),
            Err(Denied::Forbidden(Cause::Grant))
        );
    }

    #[test]
    fn tokens_are_for_their_repositories() {
        let (_dir, file) = open(FILE);
        let may = |token: &str, name: &str, access| authorize(&file, &basic("x", token), name, access).is_ok();
        for name in ["team/a", "team/a/b", "app"] {
            assert!(may("00000000ffffffff", name, Access::Write) && may("00000000ffffffff", name, Access::Read));
        }
        for name in ["teams/a", "team", "app2", "other"] {
            let denied = authorize(&file, &basic("x", "00000000ffffffff"), name, Access::Read);
            assert_eq!(denied, Err(Denied::Forbidden(Cause::Grant)), "{name}");
        }
        assert!(may("11111111ffffffff", "team/a", Access::Read) && !may("11111111ffffffff", "team/a", Access::Write));
    }

    #[test]
    fn anything_else_is_unknown() {
        let (_dir, file) = open(FILE);
        let garbage = ["Basic", "Basic !!!", "Basic YQ==", "Digest x", "Bearer ", "Bearer 0123456789abcdee"];
        for value in garbage {
            assert_eq!(authorize(&file, &headers(value), "r", Access::Read), Err(Denied::Unknown), "{value}");
        }
        assert_eq!(authorize(&file, &HeaderMap::new(), "r", Access::Read), Err(Denied::Unknown));
    }

    #[test]
    fn bad_files_are_refused_without_their_secrets() {
        for text in [
            "ann",
            "ann:0123456789abcdef:admin",
            ":0123456789abcdef",
            "ann:tooshort",
            "ann:0123456789abcdef:read:",
            "ann:0123456789abcdef:read:a,,b",
            "ann:0123456789abcdef:read:[",
        ] {
            let error = Tokens::parse(text, Path::new("f")).err().unwrap().to_string();
            assert!(!error.contains("0123456789abcdef") && !error.contains("tooshort"), "{error}");
        }
    }

    #[test]
    fn a_changed_file_takes_effect_on_reload_and_a_bad_one_never() {
        let (dir, file) = open(FILE);
        let path = dir.path().join("tokens");
        let known = |token: &str| authorize(&file, &basic("x", token), "r", Access::Read).is_ok();
        assert!(!file.has_changed());
        std::fs::write(&path, "ann:9999999999999999\n").unwrap();
        assert!(file.has_changed() && known("0123456789abcdef"));
        file.reload().unwrap();
        assert!(!file.has_changed() && known("9999999999999999") && !known("0123456789abcdef"));
        std::fs::write(&path, "nonsense").unwrap();
        file.reload().unwrap_err();
        assert!(known("9999999999999999"));
        // A bad file is reported once, not at every check.
        assert!(!file.has_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!file.has_changed() && known("9999999999999999"));
    }
}
