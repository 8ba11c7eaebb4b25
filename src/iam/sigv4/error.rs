//! Reasons for which a signature is not accepted, and the limits on signatures.

use jiff::SignedDuration;

/// Largest difference between the clocks of client and host.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(15);
/// Longest validity of a presigned URL.
pub const MAX_PRESIGNED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Largest number of signed headers.
pub const MAX_SIGNED_HEADERS: usize = 64;

/// A signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A part of the signature is missing or has a wrong form.
    #[error("the signature is incomplete: {0}")]
    Incomplete(&'static str),
    /// The signature is of another time.
    #[error(
        "the signature is of {signed} and the host's time is {now}: it has expired, or a clock is more than 15 minutes off"
    )]
    Expired {
        /// Time of the signature.
        signed: jiff::Timestamp,
        /// Time of the host.
        now: jiff::Timestamp,
    },
    /// The signature is for another region or service.
    #[error("the signature is for {signed}, and this host is {expected}")]
    Scope {
        /// Region and service of the signature.
        signed: String,
        /// Region and services of the host.
        expected: String,
    },
    /// A header that must be signed is not.
    #[error("the header {0} is not signed")]
    Unsigned(String),
    /// A header or parameter that must come once comes several times, or in two places with two values.
    #[error("{0} comes more than once")]
    Repeated(&'static str),
    /// The path is not in its normal form.
    #[error("the path has empty segments, `.` or `..`")]
    Path,
    /// The body is not signed.
    #[error("the body is not signed as it was sent")]
    Payload,
    /// The signature is another than that of the request under the secret key.
    #[error(
        "the signature does not match: check the secret access key, and that no proxy changes host, path or headers"
    )]
    Mismatch,
}
