//! Which objects a partial clone leaves out (rev-list, `--filter`).

use std::fmt;

use gix::bstr::ByteSlice;

use super::error::ProtocolError;

/// Most filters that may be combined, nested ones included.
const MAX_COMBINED: usize = 64;

/// What is left out. Several filters together leave out what any of them does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Blobs of so many bytes or more are left out: 0 for all.
    pub blob_limit: Option<u64>,
    /// Trees and blobs so deep below a commit's tree are left out: 0 for all of them, 1 for all but the
    /// commits' trees themselves.
    pub tree_depth: Option<u32>,
}

impl Filter {
    /// Reads `blob:none`, `blob:limit=<n>[kmg]`, `tree:<depth>` or `combine:<filter>+<filter>…`.
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
            return Err("it combines too many filters");
        }
        if spec == b"blob:none" {
            self.limit_blobs(0);
        } else if let Some(size) = spec.strip_prefix(b"blob:limit=") {
            self.limit_blobs(parse_size(size).ok_or("its size is not a number")?);
        } else if let Some(depth) = spec.strip_prefix(b"tree:") {
            let depth = number(depth).ok_or("its depth is not a number")?;
            let depth = u32::try_from(depth).unwrap_or(u32::MAX);
            self.tree_depth = Some(self.tree_depth.map_or(depth, |known| known.min(depth)));
        } else if let Some(parts) = spec.strip_prefix(b"combine:") {
            for part in parts.split_str("+") {
                self.add(&percent_decode(part).ok_or("its encoding is broken")?, combined)?;
            }
        } else if spec.starts_with(b"sparse:") || spec.starts_with(b"object:") {
            return Err("this server has blob:none, blob:limit, tree and combine only");
        } else {
            return Err("it is unknown");
        }
        Ok(())
    }

    fn limit_blobs(&mut self, limit: u64) {
        self.blob_limit = Some(self.blob_limit.map_or(limit, |known| known.min(limit)));
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }
}

/// As [`Filter::parse`] reads it. A filter that leaves nothing out has no such form: it is not sent.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(_), Some(_)) = (self.blob_limit, self.tree_depth) {
            f.write_str("combine:")?;
        }
        match self.blob_limit {
            Some(0) => f.write_str("blob:none")?,
            Some(limit) => write!(f, "blob:limit={limit}")?,
            None => {}
        }
        if let (Some(_), Some(_)) = (self.blob_limit, self.tree_depth) {
            f.write_str("+")?;
        }
        self.tree_depth.map_or(Ok(()), |depth| write!(f, "tree:{depth}"))
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.to_str().ok()?.parse().ok()
}

/// A number, perhaps with `k`, `m` or `g` behind it.
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
        let filter = |blob_limit, tree_depth| Filter { blob_limit, tree_depth };
        for (spec, expected) in [
            ("blob:none", filter(Some(0), None)),
            ("blob:limit=10", filter(Some(10), None)),
            ("blob:limit=2k", filter(Some(2048), None)),
            ("blob:limit=3G", filter(Some(3 << 30), None)),
            ("tree:0", filter(None, Some(0))),
            ("tree:99999999999", filter(None, Some(u32::MAX))),
            ("combine:blob:none+tree:3", filter(Some(0), Some(3))),
            ("combine:blob%3Alimit%3D5+combine:tree%3a2%2Bblob:limit=7", filter(Some(5), Some(2))),
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
            "sparse:oid=main:x",
            "object:type=commit",
            "blob:None",
        ] {
            assert!(matches!(Filter::parse(bad.as_bytes()), Err(ProtocolError::Filter { .. })), "{bad}");
        }
        assert!(Filter::parse(format!("combine:{}tree:1", "tree:1+".repeat(100)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(spec in "(combine:|blob:limit=|tree:)?[ -~]{0,40}") {
            let _ = Filter::parse(spec.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(blob_limit: Option<u64>, tree_depth: Option<u32>) {
            let filter = Filter { blob_limit, tree_depth };
            prop_assume!(!filter.is_empty());
            prop_assert_eq!(Filter::parse(filter.to_string().as_bytes()).unwrap(), filter);
        }
    }
}
