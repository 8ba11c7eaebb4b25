//! Verification of AWS Signature Version 4: in the header `Authorization`, in the query of a presigned URL, and in the
//! password of Git.
//!
//! Source: "AWS Signature Version 4 for API requests" in the IAM user guide. Differences are stricter: a path that
//! normalization would change is refused, so that what is signed is what is routed; a body is always signed.

mod canonical;
mod error;
mod git;
mod keys;
mod signed;
pub(crate) mod time;

#[cfg(test)]
mod differential;

pub use error::{MAX_CLOCK_SKEW, MAX_PRESIGNED, MAX_SIGNED_HEADERS, SignatureError};
pub use git::{GitPassword, MAX_GIT_FORMS};
pub use keys::{MAX_SIGNING_KEYS, Scope, SecretId, SigningKey, SigningKeys};
pub use signed::Signed;
