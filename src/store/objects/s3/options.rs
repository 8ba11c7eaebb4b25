//! Location of a store in S3, and storage options of its objects.

use std::path::PathBuf;

use aws_sdk_s3::types::StorageClass;

use crate::objects::key;

/// Most bytes of a prefix, so that prefix and key fit S3's limit of 1,024.
pub const MAX_PREFIX_BYTES: usize = 256;

/// Location and storage options of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of all keys without the trailing `/`; empty for the whole bucket.
    pub prefix: String,
    /// KMS key (id, ARN or alias) for new objects without one of their own; `None` for the bucket's default encryption.
    pub kms_key: Option<String>,
    /// Storage class of new objects, such as `STANDARD_IA`; `None` for `STANDARD`.
    pub storage_class: Option<String>,
    /// Directory for temporary files; `None` for the system's.
    pub spool: Option<PathBuf>,
}

impl S3Options {
    /// Parses a location of the form `s3://BUCKET[/PREFIX]`.
    ///
    /// # Errors
    /// Returns a message with the expected form.
    pub fn parse(location: &str) -> Result<Self, String> {
        let Some(rest) = location.strip_prefix("s3://") else {
            return Err(format!("`{location}` is not of the form s3://BUCKET[/PREFIX]"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(allowed) {
            return Err(format!("`{bucket}` is not a valid bucket name (3 to 63 of a-z, 0-9, `.`, `-`)"));
        }
        if prefix.len() > MAX_PREFIX_BYTES {
            return Err(format!("the prefix has {} bytes; at most {MAX_PREFIX_BYTES} are allowed", prefix.len()));
        }
        if !prefix.is_empty() {
            key::check(prefix).map_err(|reason| format!("the prefix `{prefix}` is not allowed: {reason}"))?;
        }
        Ok(S3Options { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..S3Options::default() })
    }

    /// Name in the bucket of a key or key prefix.
    pub(super) fn full_key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    /// Strips the prefix from a name in the bucket, without validating the rest as a key.
    pub(super) fn without_prefix<'a>(&self, full: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(full);
        }
        full.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    /// Returns the key of a name in the bucket, or `None` if the store has no such key.
    pub(super) fn own_key<'a>(&self, full: &'a str) -> Option<&'a str> {
        self.without_prefix(full).filter(|key| key::check(key).is_ok())
    }

    pub(super) fn storage_class(&self) -> Option<StorageClass> {
        self.storage_class.as_deref().map(StorageClass::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let parsed = |location| S3Options::parse(location).map(|options| (options.bucket, options.prefix));
        assert_eq!(parsed("s3://my-bucket"), Ok(("my-bucket".into(), String::new())));
        assert_eq!(parsed("s3://my-bucket/"), Ok(("my-bucket".into(), String::new())));
        assert_eq!(parsed("s3://my.bucket/a/b/"), Ok(("my.bucket".into(), "a/b".into())));
        for bad in
            ["s3:my-bucket", "s3://", "s3://ab", "s3://My-Bucket", "s3://b_c_d", "s3://bucket/a//b", "s3://bucket/.a"]
        {
            assert!(S3Options::parse(bad).is_err(), "{bad}");
        }
        assert!(S3Options::parse(&format!("s3://bucket/{}", "a/".repeat(200))).is_err());
    }

    #[test]
    fn keys_of_others_are_not_ours() {
        let options = S3Options::parse("s3://bucket/a").unwrap();
        assert_eq!(options.own_key(&options.full_key("x/y")), Some("x/y"));
        for other in ["ab/x", "a", "a/", "x", "a/.x", "a/x y"] {
            assert_eq!(options.own_key(other), None, "{other}");
        }
        let whole = S3Options::parse("s3://bucket").unwrap();
        assert_eq!(whole.own_key(&whole.full_key("x/y")), Some("x/y"));
    }
}
