//! Secrets that must be recoverable, sealed under a data key.
//!
//! Each blob has a key of its own: HMAC-SHA-256 of a random salt under the data key and the blob's purpose. So the
//! nonce of AES-256-GCM is constant, and no number of blobs wears out a data key (two blobs share a salt after 2^64).
//! The associated data names the blob's owner: a blob that is copied into another document does not open.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::random::{NoRandomness, Random, bytes};

const SALT_BYTES: usize = 16;
/// Size of a seal beyond its secret, in bytes.
pub(crate) const SEAL_BYTES: usize = SALT_BYTES + 16;

/// Purpose of a blob. Blobs of one purpose do not open as another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    AccessKey,
    Session,
    Delegation,
    TemporarySecret,
    DataKey,
    HostKey,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::AccessKey => b"gitferry access key 1",
            Purpose::Session => b"gitferry session 1",
            Purpose::Delegation => b"gitferry delegation 1",
            Purpose::TemporarySecret => b"gitferry temporary secret 1",
            Purpose::DataKey => b"gitferry data key 1",
            Purpose::HostKey => b"gitferry host key 1",
        }
    }
}

/// The blob does not open: its data key, its owner or its bytes are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open under this data key for this owner")]
pub struct NotSealed;

/// Key of 256 bits that seals the secrets of one account. Erased from memory with its last use.
pub struct DataKey {
    id: String,
    key: Zeroizing<[u8; 32]>,
}

impl DataKey {
    /// Key of an id.
    pub fn new(id: String, key: Zeroizing<[u8; 32]>) -> Self {
        DataKey { id, key }
    }

    /// Id, as in the name of its document.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself, for a key service.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// HMAC-SHA-256 of `parts` under the data key and a purpose.
    pub(crate) fn derive(&self, purpose: Purpose, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let sub = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.key[..]), purpose.label());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, sub.as_ref()), &in_parts(parts));
        let mut derived = Zeroizing::new([0; 32]);
        derived.copy_from_slice(tag.as_ref());
        derived
    }

    fn cipher(&self, purpose: Purpose, salt: &[u8]) -> Result<LessSafeKey, NotSealed> {
        let key = self.derive(purpose, &[salt]);
        UnboundKey::new(&AES_256_GCM, &key[..]).map(LessSafeKey::new).map_err(|_| NotSealed)
    }

    /// Seals `secret` for its `owner`: salt, ciphertext, tag.
    pub(crate) fn seal(
        &self,
        purpose: Purpose,
        owner: &[&[u8]],
        secret: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, NoRandomness> {
        let salt = bytes::<SALT_BYTES>(random)?;
        let mut text = secret.to_vec();
        let cipher = self.cipher(purpose, &salt);
        let tag = cipher.and_then(|cipher| {
            let tag = cipher.seal_in_place_separate_tag(nonce(), Aad::from(in_parts(owner)), &mut text);
            tag.map_err(|_| NotSealed)
        });
        let tag = tag.map_err(|_| NoRandomness)?;
        let mut blob = Vec::with_capacity(SEAL_BYTES + text.len());
        blob.extend_from_slice(&salt);
        blob.extend_from_slice(&text);
        blob.extend_from_slice(tag.as_ref());
        Ok(blob)
    }

    /// Opens a blob of `owner`.
    pub(crate) fn open(&self, purpose: Purpose, owner: &[&[u8]], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotSealed> {
        let (salt, sealed) = blob.split_at_checked(SALT_BYTES).ok_or(NotSealed)?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let cipher = self.cipher(purpose, salt)?;
        let opened = cipher.open_in_place(nonce(), Aad::from(in_parts(owner)), &mut text).map_err(|_| NotSealed)?;
        let length = opened.len();
        text.truncate(length);
        Ok(text)
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Parts with their lengths, so that no two lists of parts are the same bytes.
fn in_parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

/// Sealed secret in a document, with the id of the data key that opens it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    data_key: String,
    #[serde(serialize_with = "to_base64", deserialize_with = "of_base64")]
    blob: Vec<u8>,
}

impl Sealed {
    pub(crate) fn new(data_key: &str, blob: Vec<u8>) -> Self {
        Sealed { data_key: data_key.to_owned(), blob }
    }

    /// Id of the data key that opens the blob.
    pub fn data_key(&self) -> &str {
        &self.data_key
    }

    pub(crate) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Identity of the secret: the random salt of its seal; `None` if the blob is too short to have one.
    pub(crate) fn id(&self) -> Option<[u8; SALT_BYTES]> {
        self.blob.first_chunk().copied()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[sealed under {}]", self.data_key)
    }
}

fn to_base64<S: Serializer>(blob: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(blob))
}

fn of_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;
    use proptest::prelude::*;

    fn key(byte: u8) -> DataKey {
        DataKey::new("one".into(), Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_blob_opens_for_its_owner_and_purpose_only() {
        let key = key(1);
        let ann: &[&[u8]] = &[b"111122223333", b"AIDAANN", b"AKIA1"];
        let blob = key.seal(Purpose::AccessKey, ann, b"secret", &SystemRandom).unwrap();
        assert_eq!(&key.open(Purpose::AccessKey, ann, &blob).unwrap()[..], b"secret");
        let others: [&[&[u8]]; 4] = [
            &[b"111122223333", b"AIDABOB", b"AKIA1"],
            &[b"111122223333", b"AIDAANN", b"AKIA2"],
            &[b"999999999999", b"AIDAANN", b"AKIA1"],
            &[b"111122223333", b"AIDAANNA", b"KIA1"],
        ];
        for other in others {
            assert_eq!(key.open(Purpose::AccessKey, other, &blob), Err(NotSealed));
        }
        assert_eq!(key.open(Purpose::Session, ann, &blob), Err(NotSealed));
        assert_eq!(self::key(2).open(Purpose::AccessKey, ann, &blob), Err(NotSealed));
        assert_ne!(blob, key.seal(Purpose::AccessKey, ann, b"secret", &SystemRandom).unwrap());
    }

    proptest! {
        #[test]
        fn a_blob_with_a_changed_bit_or_fewer_bytes_does_not_open(secret in any::<Vec<u8>>(), bit in any::<prop::sample::Index>(), length in any::<prop::sample::Index>()) {
            let key = key(3);
            let blob = key.seal(Purpose::Session, &[b"x"], &secret, &SystemRandom).unwrap();
            prop_assert_eq!(&key.open(Purpose::Session, &[b"x"], &blob).unwrap()[..], &secret[..]);
            let mut flipped = blob.clone();
            let bit = bit.index(blob.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(key.open(Purpose::Session, &[b"x"], &flipped), Err(NotSealed));
            prop_assert_eq!(key.open(Purpose::Session, &[b"x"], &blob[..length.index(blob.len())]), Err(NotSealed));
        }
    }
}
