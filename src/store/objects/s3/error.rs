//! What S3's answers mean, sorted by what is to be done.
//!
//! Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>. They come as well inside a
//! 200 answer to CopyObject and CompleteMultipartUpload, so the code decides, the status only where there is
//! none (HEAD).

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws::failure::{Attempts, Cause, failure, is_expired};
use crate::aws::identity;
use crate::objects::ObjectError;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such object.
    NoKey,
    /// There is no such upload.
    NoUpload,
    /// The key is taken (412).
    Taken,
    /// Another write or delete of the key was in progress (409): send it again.
    Busy(String),
    /// The range begins behind the end of the object.
    Range,
    /// The bytes are not those that were announced.
    Digest(String),
    /// The named parts are not those that are held.
    Parts(String),
    /// The credentials do not allow it.
    Denied(String),
    /// The server has no such request.
    Unsupported(String),
    /// Somebody has to change something.
    Environment(String),
    /// For now. `ambiguous`: a write may have happened.
    Transient {
        /// What happened.
        reason: String,
        /// Whether it may have happened all the same.
        ambiguous: bool,
    },
    /// S3 does not like the request.
    Refused(String),
}

impl Failure {
    /// Of a request that changes nothing.
    pub(super) fn of_read<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Failure::of(error, false)
    }

    /// Of a request that does no harm when it happens twice.
    pub(super) fn of_write<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Failure::of(error, true)
    }

    /// Of a request that creates something, the attempts at which were watched.
    pub(super) fn of_create<E>(error: &SdkError<E, HttpResponse>, sends: &Attempts) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Failure::of(error, sends.ambiguous())
    }

    /// `unclear`: a request without an answer may have had an effect.
    fn of<E>(error: &SdkError<E, HttpResponse>, unclear: bool) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let SdkError::ServiceError(answer) = error {
            let (metadata, raw) = (answer.err().meta(), answer.raw());
            let says = Says {
                code: metadata.code().unwrap_or_default(),
                message: metadata.message().unwrap_or_default(),
                status: raw.status().as_u16(),
                region: raw.headers().get("x-amz-bucket-region"),
            };
            if says.is_expired() {
                identity::forget();
            }
            return says.failure();
        }
        // A connection that closed before its answer is `other`, too, with a kind of error: an identity that cannot be
        // had has none.
        let network = matches!(error, SdkError::DispatchFailure(sent) if !sent.is_other() || sent.as_other().is_some());
        let failure = failure(error, &Attempts::default());
        match failure.cause {
            Cause::Setup if !network => Failure::Environment(failure.reason),
            _ => Failure::Transient { reason: failure.reason, ambiguous: unclear },
        }
    }

    /// As the error of an operation on an object.
    pub(super) fn into_error(self, store: &str, key: &str, doing: &str, bucket: &str) -> ObjectError {
        let (store, key) = (store.to_owned(), key.to_owned());
        let cannot = |reason: String| format!("cannot {doing} it in bucket {bucket}: {reason}");
        match self {
            Failure::NoKey | Failure::NoUpload => ObjectError::NotFound { store, key },
            Failure::Taken => ObjectError::Exists { store, key },
            Failure::Digest(reason) | Failure::Parts(reason) => ObjectError::Corrupt { store, key, reason },
            Failure::Denied(reason) => {
                let hint = "allow it in the policies of the role and, across accounts, of the bucket and its KMS key";
                ObjectError::Environment { store, key, reason: cannot(format!("{reason}; {hint}")) }
            }
            Failure::Unsupported(reason) | Failure::Environment(reason) => {
                ObjectError::Environment { store, key, reason: cannot(reason) }
            }
            Failure::Transient { reason, ambiguous } => {
                ObjectError::Unavailable { store, key, reason: cannot(reason), ambiguous }
            }
            Failure::Busy(reason) => ObjectError::Unavailable { store, key, reason: cannot(reason), ambiguous: false },
            Failure::Range => ObjectError::Invalid { store, key, reason: cannot("the range is behind its end".into()) },
            Failure::Refused(reason) => ObjectError::Invalid { store, key, reason: cannot(reason) },
        }
    }
}

/// What an answer says.
struct Says<'a> {
    code: &'a str,
    message: &'a str,
    status: u16,
    /// The region that the bucket is really in.
    region: Option<&'a str>,
}

impl Says<'_> {
    fn failure(&self) -> Failure {
        let text = self.text();
        match (self.code, self.status) {
            ("NoSuchBucket", _) => {
                Failure::Environment("there is no such bucket; create it or correct its name".into())
            }
            ("NoSuchUpload", _) => Failure::NoUpload,
            ("NoSuchKey" | "NotFound", _) => Failure::NoKey,
            ("PreconditionFailed", _) | ("", 412) => Failure::Taken,
            ("ConditionalRequestConflict" | "OperationAborted", _) | ("", 409) => Failure::Busy(text),
            ("InvalidRange", _) | ("", 416) => Failure::Range,
            ("BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch", _) => {
                Failure::Digest(text)
            }
            ("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall", _) => Failure::Parts(text),
            // Nothing was done; the next attempt has fresh credentials.
            _ if self.is_expired() => Failure::Transient { reason: text, ambiguous: false },
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "UnrecognizedClientException", _) => {
                Failure::Environment(format!("{text}; check the region's credentials (profile, role_arn)"))
            }
            ("RequestTimeTooSkewed", _) => Failure::Environment(format!("{text}; set this machine's clock")),
            ("InvalidObjectState", _) => Failure::Environment(format!("{text}; it is archived: restore it first")),
            ("NotImplemented" | "MethodNotAllowed", _) | ("", 405 | 501) => Failure::Unsupported(text),
            _ if self.is_elsewhere() => self.elsewhere(),
            (code, _) if code.starts_with("KMS.") => Failure::Environment(format!("{text}; check the KMS key")),
            // Refused before anything was done: S3 wants fewer requests, or did not get all of this one.
            ("SlowDown" | "RequestTimeout" | "TooManyRequests" | "Throttling" | "ThrottlingException", _)
            | (_, 429) => Failure::Transient { reason: text, ambiguous: false },
            ("InternalError" | "ServiceUnavailable" | "TemporaryRedirect", _) | (_, 500..) => {
                Failure::Transient { reason: text, ambiguous: true }
            }
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 401 | 403) => Failure::Denied(text),
            (_, 404) => Failure::NoKey,
            _ => Failure::Refused(text),
        }
    }

    /// An answer to HEAD has no body to name a code in; there, S3 says it with status 400 alone.
    fn is_expired(&self) -> bool {
        is_expired(self.code) || (self.code.is_empty() && self.status == 400)
    }

    fn is_elsewhere(&self) -> bool {
        matches!(self.code, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException")
            || self.status == 301
    }

    fn elsewhere(&self) -> Failure {
        Failure::Environment(match self.region {
            Some(region) => format!("the bucket is in the AWS region {region}: set region = \"{region}\""),
            None => format!("the bucket is in another AWS region ({}): set `region`", self.text()),
        })
    }

    fn text(&self) -> String {
        match (self.code, self.message) {
            ("", _) => format!("S3 answers with status {}", self.status),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_base::Kind;

    fn kind(code: &str, status: u16) -> Kind {
        let says = Says { code, message: "m", status, region: Some("eu-west-1") };
        says.failure().into_error("s", "k", "do", "b").kind()
    }

    #[test]
    fn answers_are_sorted_by_code_then_by_status() {
        assert_eq!(kind("NoSuchKey", 404), Kind::Missing);
        assert_eq!(kind("NotFound", 404), Kind::Missing);
        assert_eq!(kind("NoSuchBucket", 404), Kind::Environment);
        assert_eq!(kind("PreconditionFailed", 412), Kind::Conflict);
        assert_eq!(kind("", 412), Kind::Conflict);
        assert_eq!(kind("ConditionalRequestConflict", 409), Kind::Transient);
        assert_eq!(kind("BadDigest", 400), Kind::Corrupt);
        assert_eq!(kind("ExpiredToken", 400), Kind::Transient);
        assert_eq!(kind("", 400), Kind::Transient);
        assert_eq!(kind("AccessDenied", 403), Kind::Environment);
        assert_eq!(kind("", 403), Kind::Environment);
        assert_eq!(kind("PermanentRedirect", 301), Kind::Environment);
        assert_eq!(kind("SlowDown", 503), Kind::Transient);
        // Inside a 200 answer.
        assert_eq!(kind("InternalError", 200), Kind::Transient);
        assert_eq!(kind("SomethingNew", 400), Kind::Internal);
    }

    #[test]
    fn only_what_may_have_happened_is_ambiguous() {
        let ambiguous = |code, status| {
            let says = Says { code, message: "", status, region: None };
            matches!(says.failure(), Failure::Transient { ambiguous: true, .. })
        };
        assert!(ambiguous("InternalError", 500) && ambiguous("", 502) && ambiguous("InternalError", 200));
        assert!(!ambiguous("SlowDown", 503) && !ambiguous("RequestTimeout", 400) && !ambiguous("ExpiredToken", 400));
    }
}
