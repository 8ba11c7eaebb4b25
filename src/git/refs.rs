//! [`RefName`] and [`RefValue`]: validated names and values of refs. `HEAD` has a [`RefValue`], too.

use std::fmt;
use std::str::FromStr;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::refname::{NameError, check_ref_name};
use gitferry_base::Kind;

/// Prefix of symbolic values in textual form.
const SYMBOLIC_PREFIX: &[u8] = b"ref:";

/// Valid full name of a ref, below `refs/`. Ordered by bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(BString);

impl RefName {
    /// Validates a name by the rules of [`check_ref_name`].
    pub fn new(name: impl Into<BString>) -> Result<Self, NameError> {
        let name = name.into();
        check_ref_name(name.as_bstr())?;
        Ok(RefName(name))
    }

    /// Returns the name as bytes, which need not be UTF-8.
    pub fn as_bstr(&self) -> &BStr {
        self.0.as_bstr()
    }
}

impl std::ops::Deref for RefName {
    type Target = BStr;

    fn deref(&self) -> &BStr {
        self.as_bstr()
    }
}

impl AsRef<BStr> for RefName {
    fn as_ref(&self) -> &BStr {
        self.as_bstr()
    }
}

/// Allows lookups in maps keyed by [`RefName`] with a `&BStr`.
impl std::borrow::Borrow<BStr> for RefName {
    fn borrow(&self) -> &BStr {
        self.as_bstr()
    }
}

impl From<RefName> for BString {
    fn from(name: RefName) -> BString {
        name.0
    }
}

impl TryFrom<&str> for RefName {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        RefName::new(name)
    }
}

impl FromStr for RefName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        RefName::new(name)
    }
}

/// Lossy: bytes that are not UTF-8 are replaced.
impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_bstr(), f)
    }
}

/// Value of a ref or of `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RefValue {
    /// Id of an object. For `HEAD`: detached.
    Object(ObjectId),
    /// Name of another ref, which need not exist (unborn branch, dangling symbolic ref).
    Symbolic(RefName),
}

/// A ref value cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Neither an object id in hexadecimal nor `ref:<name>`.
    #[error("{0:?} is neither an object id nor ref:<name>")]
    Malformed(BString),
    /// The null id, which names no object.
    #[error("the all-zero id names no object")]
    Null,
    /// The target of a symbolic value is no valid ref name.
    #[error(transparent)]
    Target(#[from] NameError),
}

impl ValueError {
    /// Classifies the error by what the caller can do about it.
    pub fn kind(&self) -> Kind {
        Kind::Usage
    }
}

impl RefValue {
    /// Parses the canonical form that [`RefValue::to_bytes`] writes, and no other spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        if let Some(target) = bytes.strip_prefix(SYMBOLIC_PREFIX) {
            return Ok(RefValue::Symbolic(RefName::new(target)?));
        }
        match ObjectId::from_hex(bytes) {
            Ok(id) if id.is_null() => Err(ValueError::Null),
            // Values are hashed and compared as bytes, so only lower-case hexadecimal is valid.
            Ok(id) if !bytes.iter().any(u8::is_ascii_uppercase) => Ok(RefValue::Object(id)),
            _ => Err(ValueError::Malformed(bytes[..bytes.len().min(80)].into())),
        }
    }

    /// Returns the canonical form: the id in lower-case hexadecimal, or `ref:<target>`.
    pub fn to_bytes(&self) -> BString {
        match self {
            RefValue::Object(id) => id.to_hex().to_string().into(),
            RefValue::Symbolic(target) => {
                let mut bytes = BString::from(SYMBOLIC_PREFIX);
                bytes.extend_from_slice(target);
                bytes
            }
        }
    }

    /// Returns the object id; `None` for a symbolic value.
    pub fn object(&self) -> Option<&ObjectId> {
        match self {
            RefValue::Object(id) => Some(id),
            RefValue::Symbolic(_) => None,
        }
    }
}

impl From<ObjectId> for RefValue {
    fn from(id: ObjectId) -> Self {
        RefValue::Object(id)
    }
}

impl FromStr for RefValue {
    type Err = ValueError;

    fn from_str(value: &str) -> Result<Self, ValueError> {
        RefValue::parse(value.as_bytes())
    }
}

/// Lossy form of [`RefValue::to_bytes`]: bytes that are not UTF-8 are replaced.
impl fmt::Display for RefValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefValue::Object(id) => write!(f, "{}", id.to_hex()),
            RefValue::Symbolic(target) => write!(f, "ref:{target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_a_round_trip() {
        let sha1 = "1234567890123456789012345678901234567890";
        let sha256 = "1234567890123456789012345678901234567890123456789012345678901234";
        for text in [sha1, sha256, "ref:refs/heads/main"] {
            let value: RefValue = text.parse().unwrap();
            assert_eq!(value.to_string(), text);
            assert_eq!(value.to_bytes(), text);
        }
        let raw = b"ref:refs/heads/\xff\xfe";
        assert_eq!(RefValue::parse(raw).unwrap().to_bytes(), &raw[..]);
    }

    #[test]
    fn anything_else_is_no_value() {
        let null = "0".repeat(40);
        let upper = "A".repeat(40);
        for text in
            ["", "ref:", "ref: refs/heads/main", "ref:HEAD", "ref:refs/heads/a..b", "1234", "main", &null, &upper]
        {
            assert!(text.parse::<RefValue>().is_err(), "{text:?}");
        }
    }
}
