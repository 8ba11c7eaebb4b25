//! Git LFS pointers: small blobs in place of large objects (git-lfs `docs/spec.md`).

use std::fmt;
use std::str::FromStr;

use gix::ObjectId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Most bytes of a pointer (`blobSizeCutoff` in git-lfs).
pub const MAX_POINTER_BYTES: usize = 1024;
/// Most pointers that the check of one pack lists.
pub const MAX_POINTERS: usize = 1_000_000;
/// Prefix of every pointer.
const BEGINNING: &[u8] = b"version http";
/// Versions that git-lfs reads: the specification and its predecessors.
const VERSIONS: [&str; 3] =
    ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"];

/// Id of an LFS object: the SHA-256 of its content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LfsOid(pub [u8; 32]);

impl LfsOid {
    /// Id of the content that a hasher has consumed.
    pub fn of(hasher: Sha256) -> Self {
        LfsOid(hasher.finalize().into())
    }
}

impl fmt::Display for LfsOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LfsOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Error of parsing an [`LfsOid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an LFS object: 64 lower case hex digits")]
pub struct BadLfsOid;

impl FromStr for LfsOid {
    type Err = BadLfsOid;

    /// Accepts lower case only: ids are parts of keys and URLs and need one spelling.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut oid = [0; 32];
        let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex::decode_to_slice(text, &mut oid).is_err() {
            return Err(BadLfsOid);
        }
        Ok(LfsOid(oid))
    }
}

impl Serialize for LfsOid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LfsOid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// LFS object that a pointer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pointer {
    /// Id of the LFS object.
    pub oid: LfsOid,
    /// Size of the LFS object in bytes.
    pub size: u64,
}

impl Pointer {
    /// Parses a blob as git-lfs does (`DecodePointer`): three lines in a fixed order, extensions between them, white
    /// space around them. `None` for any other blob, and for a pointer of size 0, which needs no object.
    pub fn parse(blob: &[u8]) -> Option<Pointer> {
        if blob.len() > MAX_POINTER_BYTES || !blob.starts_with(BEGINNING) {
            return None;
        }
        let text = std::str::from_utf8(blob).ok()?;
        let mut lines = text.trim().lines().map(str::trim_end).filter(|line| !line.is_empty());
        let version = lines.next()?.strip_prefix("version ")?;
        VERSIONS.contains(&version).then_some(())?;
        let mut lines = lines.skip_while(|line| is_extension(line));
        let oid = lines.next()?.strip_prefix("oid sha256:")?;
        let size = lines.next()?.strip_prefix("size ")?;
        if !size.bytes().all(|byte| byte.is_ascii_digit()) || lines.next().is_some() {
            return None;
        }
        // git-lfs parses the size as a signed 64-bit number.
        let size: i64 = size.parse().ok()?;
        let size = u64::try_from(size).ok().filter(|size| *size > 0)?;
        Some(Pointer { oid: oid.to_ascii_lowercase().parse().ok()?, size })
    }
}

/// Returns true for an extension line, `ext-<digit>-<name> <value>`.
fn is_extension(line: &str) -> bool {
    let mut bytes = line.strip_prefix("ext-").unwrap_or_default().bytes();
    matches!((bytes.next(), bytes.next()), (Some(b'0'..=b'9'), Some(b'-'))) && line.contains(' ')
}

/// Pointer blob in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundPointer {
    /// LFS object that the blob names.
    pub pointer: Pointer,
    /// Id of the blob.
    pub blob: ObjectId,
}

/// Pointers among the objects of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    /// Pointers, sorted; at most [`MAX_POINTERS`].
    pub found: Vec<FoundPointer>,
    /// True if the pack holds more than [`MAX_POINTERS`].
    pub more: bool,
}

impl Pointers {
    /// Records the blob if it is a pointer. For other blobs the cost is one size comparison or a few bytes compared.
    #[inline]
    pub(crate) fn record(&mut self, blob: &ObjectId, data: &[u8]) {
        if data.len() <= MAX_POINTER_BYTES
            && data.starts_with(BEGINNING)
            && let Some(pointer) = Pointer::parse(data)
        {
            self.add(FoundPointer { pointer, blob: *blob });
        }
    }

    fn add(&mut self, found: FoundPointer) {
        if self.found.len() < MAX_POINTERS {
            self.found.push(found);
        } else {
            self.more = true;
        }
    }

    /// Adds the pointers found by another thread.
    pub(crate) fn merge(&mut self, other: Pointers) {
        self.more |= other.more;
        other.found.into_iter().for_each(|found| self.add(found));
    }

    /// LFS objects named by the blobs for which `is_new` returns true, sorted and without repetition.
    pub fn of_blobs(&self, is_new: impl Fn(&ObjectId) -> bool) -> Vec<Pointer> {
        let mut pointers: Vec<Pointer> =
            self.found.iter().filter(|found| is_new(&found.blob)).map(|found| found.pointer).collect();
        pointers.sort_unstable();
        pointers.dedup();
        pointers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn text(version: &str, between: &str, size: &str) -> String {
        format!("version {version}\n{between}oid sha256:{OID}\nsize {size}\n")
    }

    #[test]
    fn what_git_lfs_takes_for_a_pointer() {
        let expected = Some(Pointer { oid: OID.parse().unwrap(), size: 12345 });
        for version in VERSIONS {
            assert_eq!(Pointer::parse(text(version, "", "12345").as_bytes()), expected, "{version}");
        }
        let v1 = VERSIONS[0];
        let extended = text(v1, &format!("ext-0-foo sha256:{OID}\next-1-bar sha256:{OID}\n"), "12345");
        for other in [
            extended,
            text(v1, "", "12345") + "\n\n",
            text(v1, "", "12345").trim_end().to_owned(),
            text(v1, "", "12345").replace('\n', "\r\n"),
        ] {
            assert_eq!(Pointer::parse(other.as_bytes()), expected, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_pointer() {
        let v1 = VERSIONS[0];
        let good = text(v1, "", "12345");
        for bad in [
            String::new(),
            "version ".into(),
            good.replace("sha256:", "sha512:"),
            good.replace(OID, &OID[1..]),
            good.replace(OID, &OID.replace('4', "g")),
            good.replace("v1", "v2"),
            good.replace("12345", "-1"),
            good.replace("12345", "+1"),
            good.replace("12345", "1 2"),
            good.replace("12345", "99999999999999999999"),
            text(v1, "", "0"),
            text(v1, "other thing\n", "1"),
            good.clone() + "more 1\n",
            good.clone() + &" ".repeat(MAX_POINTER_BYTES),
            good.replace("oid", "size"),
        ] {
            assert_eq!(Pointer::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn ids_have_one_spelling() {
        assert_eq!(OID.parse::<LfsOid>().unwrap().to_string(), OID);
        for bad in [OID.to_uppercase(), OID[2..].to_owned(), format!("{OID}00"), String::new()] {
            assert_eq!(bad.parse::<LfsOid>(), Err(BadLfsOid), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_blob_is_read_without_panic(data in "version https://git-lfs.github.com/spec/v1\n.{0,200}") {
            let _ = Pointer::parse(data.as_bytes());
        }
    }
}
