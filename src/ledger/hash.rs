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

/// Of no refs.
impl Default for RefsDigest {
    fn default() -> Self {
        RefsDigest::ZERO
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn object(byte: u8) -> RefValue {
        RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[byte | 1; 20]))
    }

    fn digest_of<'a>(refs: impl IntoIterator<Item = (&'a String, &'a u8)>) -> RefsDigest {
        let mut digest = RefsDigest::ZERO;
        refs.into_iter().for_each(|(name, byte)| digest.toggle(name.as_bytes(), &object(*byte)));
        digest
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_order_of_refs_and_the_way_to_them_do_not_matter(
            before in btree_map("[a-e]{1,2}", any::<u8>(), 0..12),
            after in btree_map("[a-e]{1,2}", any::<u8>(), 0..12),
        ) {
            prop_assert_eq!(digest_of(&before), digest_of(before.iter().rev()));
            let mut moved = digest_of(&before);
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names.into_iter().rev() {
                let value = |refs: &BTreeMap<String, u8>| refs.get(name).map(|byte| object(*byte));
                moved.edit(name.as_bytes(), value(&before).as_ref(), value(&after).as_ref());
            }
            prop_assert_eq!(moved, digest_of(&after));
            let same = |refs: &BTreeMap<String, u8>| -> Vec<(String, u8)> {
                refs.iter().map(|(name, byte)| (name.clone(), byte | 1)).collect()
            };
            prop_assert_eq!(digest_of(&before) == digest_of(&after), same(&before) == same(&after));
        }
    }

    #[test]
    fn name_and_value_are_told_apart() {
        let digest = |name: &[u8], value: &RefValue| {
            let mut digest = RefsDigest::ZERO;
            digest.toggle(name, value);
            digest
        };
        let symbolic = RefValue::parse(b"ref:refs/heads/x").unwrap();
        assert_ne!(digest(b"refs/heads/a", &object(1)), digest(b"refs/heads/a", &object(3)));
        assert_ne!(digest(b"refs/heads/a", &object(1)), digest(b"refs/heads/b", &object(1)));
        assert_ne!(digest(b"refs/heads/a", &symbolic), digest(b"refs/heads/a", &object(1)));
    }

    #[test]
    fn hashes_survive_text() {
        let hash = ChangeHash([0xab; 32]);
        assert_eq!(hash.to_string().parse::<ChangeHash>().unwrap(), hash);
        assert!("ab".parse::<ChangeHash>().is_err());
    }
}
