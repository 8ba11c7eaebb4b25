//! The two SHA-256 values of a ledger: the hash of a change and the digest of the refs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::git::refs::RefValue;

macro_rules! sha256_value {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// All zero bytes.
            pub const ZERO: $name = $name([0; 32]);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut value = [0; 32];
                hex::decode_to_slice(text, &mut value)?;
                Ok($name(value))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256_value! {
    /// SHA-256 over the exact bytes of a change; [`ChangeHash::ZERO`] stands before the first one.
    ChangeHash
}

sha256_value! {
    /// XOR over all refs and HEAD of SHA-256(name, NUL, value): equal digests mean equal refs, and an
    /// edit updates it without knowing the rest.
    RefsDigest
}

impl RefsDigest {
    /// Adds a ref that was not there, or takes one away that was (the two are the same operation).
    pub fn toggle(&mut self, name: &[u8], value: &RefValue) {
        let mut hasher = Sha256::new();
        hasher.update(name);
        hasher.update([0]);
        hasher.update(value.to_bytes());
        let term: [u8; 32] = hasher.finalize().into();
        for (byte, other) in self.0.iter_mut().zip(term) {
            *byte ^= other;
        }
    }

    /// Replaces a ref's value; `None` stands for a ref that is not there.
    pub fn edit(&mut self, name: &[u8], old: Option<&RefValue>, new: Option<&RefValue>) {
        for value in [old, new].into_iter().flatten() {
            self.toggle(name, value);
        }
    }
}
