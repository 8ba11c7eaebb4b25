//! Filters of partial clones (git-rev-list(1), `--filter`).

use std::fmt;

use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;

use super::error::ProtocolError;
use crate::links::kind_code;

/// Most filters in one specification, including nested ones.
const MAX_COMBINED: usize = 64;
/// Most `sparse:oid` filters in one specification.
const MAX_SPARSE: usize = 8;

/// Set of object kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// All four kinds.
    pub const ALL: Kinds = Kinds(0b1111);
    /// Kinds in the order of their bits.
    const EACH: [Kind; 4] = [Kind::Commit, Kind::Tree, Kind::Blob, Kind::Tag];

    /// Returns the set of a single kind.
    pub fn only(kind: Kind) -> Kinds {
        Kinds(1 << (kind_code(kind) - 1))
    }

    /// Returns the intersection of two sets.
    pub fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }

    /// Returns true if a kind is in the set.
    pub fn contains(self, kind: Kind) -> bool {
        self.and(Kinds::only(kind)) != Kinds(0)
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Kinds::ALL
    }
}

/// Filter of a partial clone: the combination of all filters in a specification. Omits objects that any of them omits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Omits blobs of this many bytes or more; 0 omits all blobs.
    pub blob_limit: Option<u64>,
    /// Omits trees and blobs at this depth or deeper; 0 omits all of them, 1 all but root trees.
    pub tree_depth: Option<u32>,
    /// Omits objects of other kinds unless they are wanted by id.
    pub kinds: Kinds,
    /// Names of blobs with sparse-checkout patterns. Omits blobs at paths that a list does not match.
    pub sparse: Vec<BString>,
}

impl Filter {
    /// Parses `blob:none`, `blob:limit=<n>[kmg]`, `tree:<depth>`, `object:type=<kind>`, `sparse:oid=<blob>` or
    /// `combine:<filter>+<filter>…`.
    pub fn parse(spec: &[u8]) -> Result<Filter, ProtocolError> {
        let mut filter = Filter::default();
        filter
            .add(spec, &mut 0)
            .map_err(|reason| ProtocolError::Filter { spec: spec[..spec.len().min(120)].into(), reason })?;
        Ok(filter)
    }

    fn add(&mut self, spec: &[u8], combined: &mut usize) -> Result<(), &'static str> {
        *combined += 1;
        if *combined > MAX_COMBINED {
            return Err("it combines more than 64 filters");
        }
        if spec == b"blob:none" {
            self.limit_blobs(0);
        } else if let Some(size) = spec.strip_prefix(b"blob:limit=") {
            self.limit_blobs(parse_size(size).ok_or("its size is not a number")?);
        } else if let Some(depth) = spec.strip_prefix(b"tree:") {
            let depth = number(depth).ok_or("its depth is not a number")?;
            let depth = u32::try_from(depth).unwrap_or(u32::MAX);
            self.tree_depth = Some(self.tree_depth.map_or(depth, |known| known.min(depth)));
        } else if let Some(kind) = spec.strip_prefix(b"object:type=") {
            let kind = Kind::from_bytes(kind).map_err(|_| "its type is not blob, tree, commit or tag")?;
            self.kinds = self.kinds.and(Kinds::only(kind));
        } else if let Some(blob) = spec.strip_prefix(b"sparse:oid=") {
            self.add_sparse(blob)?;
        } else if spec.starts_with(b"sparse:path=") {
            return Err("Git no longer supports sparse:path, use sparse:oid");
        } else if let Some(parts) = spec.strip_prefix(b"combine:") {
            for part in parts.split_str("+") {
                self.add(&percent_decode(part).ok_or("a percent-encoding in it is invalid")?, combined)?;
            }
        } else {
            return Err("this kind of filter is unknown");
        }
        Ok(())
    }

    fn limit_blobs(&mut self, limit: u64) {
        self.blob_limit = Some(self.blob_limit.map_or(limit, |known| known.min(limit)));
    }

    fn add_sparse(&mut self, blob: &[u8]) -> Result<(), &'static str> {
        if blob.is_empty() {
            return Err("it names no blob");
        }
        if !self.sparse.iter().any(|known| known == blob) {
            if self.sparse.len() >= MAX_SPARSE {
                return Err("it combines more than 8 sparse filters");
            }
            self.sparse.push(blob.into());
        }
        Ok(())
    }

    /// Returns true if the filter omits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Returns one specification per filter of the combination.
    fn parts(&self) -> Vec<BString> {
        let mut parts: Vec<BString> = Vec::new();
        parts.extend(self.blob_limit.map(|limit| match limit {
            0 => "blob:none".into(),
            limit => format!("blob:limit={limit}").into(),
        }));
        parts.extend(self.tree_depth.map(|depth| format!("tree:{depth}").into()));
        let only = |kinds: Kinds| Kinds::EACH.into_iter().find(|kind| Kinds::only(*kind) == kinds);
        match only(self.kinds) {
            _ if self.kinds == Kinds::ALL => {}
            Some(kind) => parts.push(format!("object:type={kind}").into()),
            // The empty set: no object has both kinds.
            None => parts.extend(["object:type=commit", "object:type=blob"].map(BString::from)),
        }
        parts.extend(self.sparse.iter().map(|blob| [b"sparse:oid=", &blob[..]].concat().into()));
        parts
    }
}

/// Formats the filter for [`Filter::parse`]. An empty filter has no such form: callers do not send it.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        debug_assert!(!parts.is_empty(), "an empty filter is not sent");
        if let [only] = &parts[..] {
            return write!(f, "{only}");
        }
        f.write_str("combine:")?;
        for (at, part) in parts.iter().enumerate() {
            f.write_str(if at > 0 { "+" } else { "" })?;
            for byte in part.iter() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'=' | b'/' | b'.' | b'_' | b'-' => {
                        write!(f, "{}", *byte as char)?;
                    }
                    byte => write!(f, "%{byte:02x}")?,
                }
            }
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.to_str().ok()?.parse().ok()
}

/// Parses a number with an optional suffix `k`, `m` or `g`.
fn parse_size(text: &[u8]) -> Option<u64> {
    let (last, digits) = text.split_last()?;
    let unit = match last.to_ascii_lowercase() {
        b'k' => 1 << 10,
        b'm' => 1 << 20,
        b'g' => 1 << 30,
        _ => return number(text),
    };
    number(digits)?.checked_mul(unit)
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        out.extend_from_slice(&hex::decode(digits).ok()?);
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters() {
        let filter = |blob_limit, tree_depth| Filter { blob_limit, tree_depth, ..Filter::default() };
        let kinds = |kinds| Filter { kinds, ..Filter::default() };
        let sparse =
            |blobs: &[&str]| Filter { sparse: blobs.iter().map(|blob| (*blob).into()).collect(), ..Filter::default() };
        for (spec, expected) in [
            ("blob:none", filter(Some(0), None)),
            ("blob:limit=10", filter(Some(10), None)),
            ("blob:limit=2k", filter(Some(2048), None)),
            ("blob:limit=3G", filter(Some(3 << 30), None)),
            ("tree:0", filter(None, Some(0))),
            ("tree:99999999999", filter(None, Some(u32::MAX))),
            ("combine:blob:none+tree:3", filter(Some(0), Some(3))),
            ("combine:blob%3Alimit%3D5+combine:tree%3a2%2Bblob:limit=7", filter(Some(5), Some(2))),
            ("object:type=commit", kinds(Kinds::only(Kind::Commit))),
            ("combine:object:type=tree+object:type=tag", kinds(Kinds(0))),
            ("sparse:oid=main:a b", sparse(&["main:a b"])),
            ("combine:sparse:oid=x%2by+sparse:oid=z", sparse(&["x+y", "z"])),
        ] {
            assert_eq!(Filter::parse(spec.as_bytes()).unwrap(), expected, "{spec}");
        }
        for bad in [
            "",
            "blob:limit=",
            "blob:limit=-1",
            "blob:limit=99999999999999999g",
            "tree:",
            "tree:+1",
            "combine:",
            "combine:blob%3",
            "combine:blob:none+",
            "sparse:oid=",
            "sparse:path=x",
            "object:type=",
            "object:type=commits",
            "combine:sparse:oid=1+sparse:oid=2+sparse:oid=3+sparse:oid=4+sparse:oid=5+sparse:oid=6+sparse:oid=7+sparse:oid=8+sparse:oid=9",
            "blob:None",
        ] {
            assert!(matches!(Filter::parse(bad.as_bytes()), Err(ProtocolError::Filter { .. })), "{bad}");
        }
        assert!(Filter::parse(format!("combine:{}tree:1", "tree:1+".repeat(100)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(spec in "(combine:|blob:limit=|tree:|object:type=|sparse:oid=)?[ -~]{0,40}") {
            let _ = Filter::parse(spec.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(
            blob_limit: Option<u64>,
            tree_depth: Option<u32>,
            kinds in proptest::option::of(0..4usize),
            sparse in proptest::collection::btree_set("[ -~]{1,9}", 0..3),
        ) {
            let kinds = kinds.map_or(Kinds::ALL, |kind| Kinds::only(Kinds::EACH[kind]));
            let sparse = sparse.into_iter().map(Into::into).collect();
            let filter = Filter { blob_limit, tree_depth, kinds, sparse };
            prop_assume!(!filter.is_empty());
            prop_assert_eq!(Filter::parse(filter.to_string().as_bytes()).unwrap(), filter);
        }
    }
}
