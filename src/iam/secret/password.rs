//! Hashes of generated passwords.
//!
//! Passwords of Git credentials are made here and have 256 random bits. No guess finds one, whatever a guess costs:
//! a slow hash (bcrypt, Argon2) would protect nothing and let strangers spend a host's CPU. So the hash is one
//! HMAC-SHA-256 under a random salt. Passwords that people choose do not exist in an account.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::random::{NoRandomness, Random, bytes};
use crate::secret::SecretText;

const ALGORITHM: &str = "hmac-sha256";
/// Longest password that is hashed, in bytes. Generated ones have 44.
const MAX_PASSWORD_BYTES: usize = 4_096;

/// Salted hash of a generated password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    salt: [u8; 16],
    hash: [u8; 32],
}

/// Stands in for the hash of a user that does not exist. No password is known that has it.
const NONE: PasswordHash = PasswordHash { salt: [0; 16], hash: [0; 32] };

impl PasswordHash {
    /// Fresh password of 256 random bits, in 44 characters of base64 as AWS makes them, with its hash.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate(random: &dyn Random) -> Result<(SecretText, PasswordHash), NoRandomness> {
        let password = SecretText::new(STANDARD.encode(zeroize::Zeroizing::new(bytes::<32>(random)?)));
        let salt = bytes(random)?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salt), password.expose().as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(tag.as_ref());
        Ok((password, PasswordHash { salt, hash }))
    }

    /// Returns true if `password` has the stored hash. Without a stored hash the answer is false after the same work,
    /// so that time does not tell which users exist.
    pub fn verify(stored: Option<&PasswordHash>, password: &str) -> bool {
        if password.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        let against = stored.unwrap_or(&NONE);
        #[cfg(test)]
        work::count();
        let matches =
            hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &against.salt), password.as_bytes(), &against.hash);
        matches.is_ok() & stored.is_some()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash of a password]")
    }
}

impl Serialize for PasswordHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!(
            "{ALGORITHM}${}${}",
            STANDARD.encode(self.salt),
            STANDARD.encode(self.hash)
        ))
    }
}

impl<'de> Deserialize<'de> for PasswordHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for PasswordHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "the hash of a password is not of the form hmac-sha256$SALT$HASH";
        let mut parts = text.split('$');
        let (Some(ALGORITHM), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WRONG);
        };
        let salt = STANDARD.decode(salt).map_err(|_| WRONG)?.try_into().map_err(|_| WRONG)?;
        let hash = STANDARD.decode(hash).map_err(|_| WRONG)?.try_into().map_err(|_| WRONG)?;
        Ok(PasswordHash { salt, hash })
    }
}

/// Count of hashes computed by a test's thread.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local!(static HASHES: Cell<u64> = const { Cell::new(0) });

    pub(super) fn count() {
        HASHES.set(HASHES.get() + 1);
    }

    /// Hashes that `action` computes.
    pub(crate) fn of<T>(action: impl FnOnce() -> T) -> (T, u64) {
        let before = HASHES.get();
        let value = action();
        (value, HASHES.get() - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn a_password_has_its_hash_and_no_other_has() {
        let (password, hash) = PasswordHash::generate(&SystemRandom).unwrap();
        let (other, _) = PasswordHash::generate(&SystemRandom).unwrap();
        assert_eq!(password.expose().len(), 44);
        assert!(PasswordHash::verify(Some(&hash), password.expose()));
        for wrong in [other.expose(), "", &password.expose()[..43], &format!("{}=", password.expose())] {
            assert!(!PasswordHash::verify(Some(&hash), wrong));
            assert!(!PasswordHash::verify(None, wrong));
        }
        let stored = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<PasswordHash>(&stored).unwrap(), hash);
        assert!(!stored.contains(password.expose()));
        let shown = format!("{hash:?} {password:?}");
        assert!(!shown.contains(password.expose()) && !shown.contains(stored.trim_matches('"')));
    }

    #[test]
    fn an_unknown_user_costs_the_work_of_a_known_one() {
        let (_, hash) = PasswordHash::generate(&SystemRandom).unwrap();
        let (known, cost) = work::of(|| PasswordHash::verify(Some(&hash), "wrong"));
        let (unknown, same) = work::of(|| PasswordHash::verify(None, "wrong"));
        assert_eq!((known, unknown, cost, same), (false, false, 1, 1));
    }

    #[test]
    fn hashes_of_other_forms_are_refused() {
        for text in ["", "hmac-sha256$$", "plain$AAAA$AAAA", "hmac-sha256$AAAAAAAAAAAAAAAAAAAAAA==$AAAA"] {
            assert!(text.parse::<PasswordHash>().is_err(), "{text}");
        }
    }
}
