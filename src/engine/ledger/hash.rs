//! Hashes of a ledger: SHA-256 of a change, and the hash of all refs, which an edit updates without knowing the other
//! refs.
//!
//! Refs are hashed as a set. [`Lattice`] is LtHash (Bellare and Micciancio, "A New Paradigm for Collision-Free
//! Hashing", 1997; Lewi and others, "Securing Update Propagation with Homomorphic Hashing", 2019) with the parameters
//! of the latter: the sum of 1,024 numbers of 16 bits for each ref. Two different sets with one sum are as hard to find
//! as short vectors in a lattice, some 2^200 steps. Changes of format 1 have an XOR of SHA-256 values, which linear
//! algebra forges; a repository keeps it until its next change (`docs/decisions/0018-refs-hash.md`).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use gitferry_git::refs::RefValue;

macro_rules! sha256_value {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = hex::FromHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                bytes_of(text).map($name)
            }
        }
    };
}

sha256_value! {
    /// SHA-256 of the exact bytes of a change; [`ChangeHash::ZERO`] precedes the first change.
    ChangeHash
}

sha256_value! {
    /// SHA-256 of the exact bytes of a snapshot of the refs.
    SnapshotHash
}

impl ChangeHash {
    /// All zero bytes.
    pub const ZERO: ChangeHash = ChangeHash([0; 32]);

    /// Returns the hash of the whole bytes of a change.
    pub fn of(bytes: &[u8]) -> Self {
        ChangeHash(Sha256::digest(bytes).into())
    }
}

fn bytes_of(text: &str) -> Result<[u8; 32], hex::FromHexError> {
    let mut value = [0; 32];
    hex::decode_to_slice(text, &mut value)?;
    Ok(value)
}

/// Serializes a value as its text.
macro_rules! as_text {
    ($name:ident) => {
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

as_text!(ChangeHash);
as_text!(SnapshotHash);
as_text!(RefsDigest);
as_text!(RefsHash);

/// Digest of all refs and HEAD in 32 bytes, with its kind. Equal digests of one kind mean equal refs; for
/// [`RefsDigest::Xor`] only if no writer forges them. As text, `lt1-` and 64 hex digits, or 64 hex digits alone for
/// XOR.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefsDigest {
    /// The [`Xor`] itself, in changes of format 1.
    Xor([u8; 32]),
    /// BLAKE3 of a [`Lattice`].
    Lattice([u8; 32]),
}

/// Prefix of the text of a [`RefsDigest::Lattice`].
const LATTICE_PREFIX: &str = "lt1-";

impl fmt::Display for RefsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefsDigest::Xor(bytes) => f.write_str(&hex::encode(bytes)),
            RefsDigest::Lattice(bytes) => write!(f, "{LATTICE_PREFIX}{}", hex::encode(bytes)),
        }
    }
}

impl fmt::Debug for RefsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RefsDigest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(LATTICE_PREFIX) {
            Some(text) => bytes_of(text).map(RefsDigest::Lattice),
            None => bytes_of(text).map(RefsDigest::Xor),
        }
    }
}

impl Default for RefsDigest {
    /// Returns the digest of the empty set.
    fn default() -> Self {
        Lattice::default().digest()
    }
}

/// XOR over refs of SHA-256(name, NUL, value): the hash of changes of format 1. Linear algebra forges it: compare it to
/// read old changes, never to prove refs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Xor([u8; 32]);

impl Xor {
    /// Replaces the value of a ref; `None` stands for an absent ref.
    pub fn edit(&mut self, name: &[u8], old: Option<&RefValue>, new: Option<&RefValue>) {
        for value in [old, new].into_iter().flatten() {
            let hash: [u8; 32] =
                Sha256::new().chain_update(name).chain_update([0]).chain_update(value.to_bytes()).finalize().into();
            self.add(&Xor(hash));
        }
    }

    /// Adds the sum of some edits.
    pub fn add(&mut self, edits: &Xor) {
        for (byte, other) in self.0.iter_mut().zip(edits.0) {
            *byte ^= other;
        }
    }
}

/// Numbers in a [`Lattice`].
const LANES: usize = 1024;
/// Size of a [`Lattice`] in bytes.
const LATTICE_BYTES: usize = 2 * LANES;
/// Context of BLAKE3's key derivation: separates these hashes from all others.
const CONTEXT: &str = "gitferry 2026-11-28 refs lattice 1";

/// Sum over refs of 1,024 numbers of 16 bits, derived by BLAKE3 from name, NUL and value. A set of edits has a sum as
/// well: additions minus removals.
#[derive(Clone, PartialEq, Eq)]
pub struct Lattice(Box<[u16; LANES]>);

impl Default for Lattice {
    /// Returns the sum of the empty set.
    fn default() -> Self {
        Lattice(Box::new([0; LANES]))
    }
}

impl fmt::Debug for Lattice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest(), f)
    }
}

impl Lattice {
    /// Replaces the value of a ref; `None` stands for an absent ref.
    pub fn edit(&mut self, name: &[u8], old: Option<&RefValue>, new: Option<&RefValue>) {
        if let Some(old) = old {
            self.each(&numbers(name, old), u16::wrapping_sub);
        }
        if let Some(new) = new {
            self.each(&numbers(name, new), u16::wrapping_add);
        }
    }

    /// Adds the sum of some edits.
    pub fn add(&mut self, edits: &Lattice) {
        for (number, other) in self.0.iter_mut().zip(edits.0.iter()) {
            *number = number.wrapping_add(*other);
        }
    }

    fn each(&mut self, bytes: &[u8; LATTICE_BYTES], step: fn(u16, u16) -> u16) {
        let (pairs, _) = bytes.as_chunks::<2>();
        for (number, pair) in self.0.iter_mut().zip(pairs) {
            *number = step(*number, u16::from_le_bytes(*pair));
        }
    }

    /// Returns the digest of the sum.
    pub fn digest(&self) -> RefsDigest {
        RefsDigest::Lattice(blake3::hash(&self.to_bytes()).into())
    }

    fn to_bytes(&self) -> [u8; LATTICE_BYTES] {
        let mut bytes = [0; LATTICE_BYTES];
        let (pairs, _) = bytes.as_chunks_mut::<2>();
        for (pair, number) in pairs.iter_mut().zip(self.0.iter()) {
            *pair = number.to_le_bytes();
        }
        bytes
    }
}

/// Returns a ref's summand.
fn numbers(name: &[u8], value: &RefValue) -> [u8; LATTICE_BYTES] {
    let mut bytes = [0; LATTICE_BYTES];
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(name).update(&[0]).update(&value.to_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Hash of all refs and HEAD in a head, of the same kind as the digest of the last change. As text, the base64 of a
/// [`Lattice`], or 64 hex digits of an [`Xor`].
#[derive(Clone, PartialEq, Eq)]
pub enum RefsHash {
    /// XOR, until the next change.
    Xor(Xor),
    /// Lattice, since the first change of format 2.
    Lattice(Lattice),
}

impl Default for RefsHash {
    /// Returns the hash of the empty set.
    fn default() -> Self {
        RefsHash::Lattice(Lattice::default())
    }
}

impl RefsHash {
    /// Returns the digest, as changes record it.
    pub fn digest(&self) -> RefsDigest {
        match self {
            RefsHash::Xor(Xor(bytes)) => RefsDigest::Xor(*bytes),
            RefsHash::Lattice(lattice) => lattice.digest(),
        }
    }
}

impl fmt::Display for RefsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefsHash::Xor(Xor(bytes)) => f.write_str(&hex::encode(bytes)),
            RefsHash::Lattice(lattice) => f.write_str(&BASE64.encode(lattice.to_bytes())),
        }
    }
}

impl fmt::Debug for RefsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest(), f)
    }
}

impl FromStr for RefsHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(bytes) = bytes_of(text) {
            return Ok(RefsHash::Xor(Xor(bytes)));
        }
        let bytes = BASE64.decode(text).ok().filter(|bytes| bytes.len() == LATTICE_BYTES);
        let bytes = bytes.ok_or("not a hash of refs")?;
        let mut lattice = Lattice::default();
        let (pairs, _) = bytes.as_chunks::<2>();
        for (number, pair) in lattice.0.iter_mut().zip(pairs) {
            *number = u16::from_le_bytes(*pair);
        }
        Ok(RefsHash::Lattice(lattice))
    }
}

/// Sum of ref edits by both hashes: the digest of a change that is read determines which one counts.
#[derive(Clone, Debug, Default)]
pub struct HashedRefs {
    /// Sum by the hash of format 1.
    pub xor: Xor,
    /// Sum by the hash of format 2.
    pub lattice: Lattice,
}

impl fmt::Debug for Xor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl HashedRefs {
    /// Replaces the value of a ref; `None` stands for an absent ref.
    pub fn edit(&mut self, name: &[u8], old: Option<&RefValue>, new: Option<&RefValue>) {
        self.xor.edit(name, old, new);
        self.lattice.edit(name, old, new);
    }

    /// Adds the sum of some edits.
    pub fn add(&mut self, edits: &HashedRefs) {
        self.xor.add(&edits.xor);
        self.lattice.add(&edits.lattice);
    }

    /// Returns true if a hash is the one of these refs, by the kind of the hash.
    pub fn has_hash(&self, hash: &RefsHash) -> bool {
        match hash {
            RefsHash::Xor(xor) => *xor == self.xor,
            RefsHash::Lattice(lattice) => *lattice == self.lattice,
        }
    }
}

#[cfg(test)]
mod tests;
