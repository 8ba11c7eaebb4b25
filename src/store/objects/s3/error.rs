//! Classification of S3's errors.
//!
//! Error codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>. CopyObject and
//! CompleteMultipartUpload can return an error inside a 200 answer, so the code decides, and the status only if there
//! is no code (HEAD).

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws::failure::{Attempts, Cause, failure, is_expired};
use crate::aws::{KeyFault, identity};
use crate::objects::ObjectError;

/// Classified failure of a request. Texts are S3's code and message.
#[derive(Debug)]
pub(super) enum Failure {
    /// The object does not exist.
    NoKey,
    /// The upload does not exist.
    NoUpload,
    /// The key is taken (412).
    Taken,
    /// The request conflicted with another write or delete of the key (409) and must be sent again.
    Busy(String),
    /// The range starts after the end of the object.
    Range,
    /// The bytes do not match the announced checksum.
    Digest(String),
    /// The listed parts do not match the uploaded ones.
    Parts(String),
    /// The credentials lack permission.
    Denied(String),
    /// The server does not implement the request.
    Unsupported(String),
    /// The KMS key of the object cannot be used.
    KmsKey {
        /// Reason by what an operator can do.
        fault: KeyFault,
        /// Error code and message.
        reason: String,
    },
    /// An operator has to change the configuration, the bucket or the credentials.
    Environment(String),
    /// Temporary failure.
    Transient {
        /// Error code and message, or network error.
        reason: String,
        /// True if the request may have taken effect.
        ambiguous: bool,
    },
    /// S3 rejects the request for any other reason.
    Refused(String),
}

impl Failure {
    /// Classifies the error of a request without side effects.
    pub(super) fn of_read<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Failure::of(error, false)
    }

    /// Classifies the error of an idempotent write.
    pub(super) fn of_write<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Failure::of(error, true)
    }

    /// Classifies the error of a conditional create, with its tracked attempts.
    pub(super) fn of_create<E>(error: &SdkError<E, HttpResponse>, sends: &Attempts) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Failure::of(error, sends.ambiguous())
    }

    /// Classifies an error. `ambiguous` marks requests that may have taken effect without an answer.
    fn of<E>(error: &SdkError<E, HttpResponse>, ambiguous: bool) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let SdkError::ServiceError(answer) = error {
            let metadata = answer.err().meta();
            let raw = answer.raw();
            let answer = ErrorAnswer {
                code: metadata.code().unwrap_or_default(),
                message: metadata.message().unwrap_or_default(),
                status: raw.status().as_u16(),
                region: raw.headers().get("x-amz-bucket-region"),
            };
            if answer.is_expired() {
                identity::invalidate();
            }
            return answer.failure();
        }
        // A connection that closed before the answer is `other` with an error kind; an identity that cannot be resolved
        // is `other` without one.
        let network = matches!(error, SdkError::DispatchFailure(sent) if !sent.is_other() || sent.as_other().is_some());
        let failure = failure(error, &Attempts::default());
        match failure.cause {
            Cause::Setup if !network => Failure::Environment(failure.reason),
            _ => Failure::Transient { reason: failure.reason, ambiguous },
        }
    }

    /// Returns true for the answer 400 or 403 to a HEAD, which may have any cause.
    pub(super) fn is_unexplained(&self) -> bool {
        let (Failure::Transient { reason, .. } | Failure::Denied(reason)) = self else { return false };
        [400, 403].into_iter().any(|status| *reason == of_status(status))
    }

    /// Converts the failure of the operation `doing` on an object.
    pub(super) fn into_error(self, store: &str, key: &str, doing: &str, bucket: &str) -> ObjectError {
        let store = store.to_owned();
        let key = key.to_owned();
        let cannot = |reason: String| format!("cannot {doing} it in bucket {bucket}: {reason}");
        match self {
            Failure::NoKey | Failure::NoUpload => ObjectError::NotFound { store, key },
            Failure::Taken => ObjectError::Exists { store, key },
            Failure::Digest(reason) | Failure::Parts(reason) => ObjectError::Corrupt { store, key, reason },
            Failure::Denied(reason) => {
                let hint = "allow this in the policies of the role and, across accounts, of the bucket and its KMS key";
                ObjectError::Environment { store, key, reason: cannot(format!("{reason}; {hint}")) }
            }
            Failure::KmsKey { fault, reason } => ObjectError::KmsKey { store, key, fault, reason: cannot(reason) },
            Failure::Unsupported(reason) | Failure::Environment(reason) => {
                ObjectError::Environment { store, key, reason: cannot(reason) }
            }
            Failure::Transient { reason, ambiguous } => {
                ObjectError::Unavailable { store, key, reason: cannot(reason), ambiguous }
            }
            Failure::Busy(reason) => ObjectError::Unavailable { store, key, reason: cannot(reason), ambiguous: false },
            Failure::Range => {
                ObjectError::Invalid { store, key, reason: cannot("the range starts after its end".into()) }
            }
            Failure::Refused(reason) => ObjectError::Invalid { store, key, reason: cannot(reason) },
        }
    }
}

/// Text of an answer that says no more than its status.
fn of_status(status: u16) -> String {
    format!("S3 answered with status {status}")
}

/// Parts of an error answer that determine the failure.
struct ErrorAnswer<'a> {
    code: &'a str,
    message: &'a str,
    status: u16,
    /// Actual AWS region of the bucket (`x-amz-bucket-region`).
    region: Option<&'a str>,
}

impl ErrorAnswer<'_> {
    fn failure(&self) -> Failure {
        let text = self.text();
        match (self.code, self.status) {
            ("NoSuchBucket", _) => {
                Failure::Environment("there is no such bucket; create the bucket or correct its name".into())
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
            // The request had no effect, and the next attempt resolves new credentials.
            _ if self.is_expired() => Failure::Transient { reason: text, ambiguous: false },
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "UnrecognizedClientException", _) => {
                Failure::Environment(format!("{text}; check the region's credentials (profile, role_arn)"))
            }
            ("RequestTimeTooSkewed", _) => Failure::Environment(format!("{text}; set this machine's clock")),
            ("InvalidObjectState", _) => {
                Failure::Environment(format!("{text}; the object is archived: restore it first"))
            }
            ("NotImplemented" | "MethodNotAllowed", _) | ("", 405 | 501) => Failure::Unsupported(text),
            _ if self.is_elsewhere() => self.elsewhere(),
            _ if self.is_about_kms() => self.of_kms(text),
            // Refused without effect: S3 throttles, or did not receive the whole request.
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

    /// Returns true for expired credentials. An answer to HEAD has no body with a code, only the status 400.
    fn is_expired(&self) -> bool {
        is_expired(self.code) || (self.code.is_empty() && self.status == 400)
    }

    /// Returns true if S3 reports that KMS has refused its request, or that the caller may not use the key.
    fn is_about_kms(&self) -> bool {
        self.code.starts_with("KMS.") || (self.code == "AccessDenied" && self.message.contains("kms:"))
    }

    fn of_kms(&self, text: String) -> Failure {
        match KeyFault::of_code(self.code) {
            Some(KeyFault::Throttled | KeyFault::Unreachable) => Failure::Transient { reason: text, ambiguous: false },
            Some(fault) => Failure::KmsKey { fault, reason: text },
            None => Failure::Environment(format!("{text}; check the KMS key")),
        }
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
            ("", _) => of_status(self.status),
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
        let answer = ErrorAnswer { code, message: "m", status, region: Some("eu-west-1") };
        answer.failure().into_error("s", "k", "do", "b").kind()
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
        for code in ["KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException", "KMS.New"] {
            assert_eq!(kind(code, 400), Kind::Environment, "{code}");
        }
        assert_eq!(kind("KMS.ThrottlingException", 400), Kind::Transient);
        // Inside a 200 answer.
        assert_eq!(kind("InternalError", 200), Kind::Transient);
        assert_eq!(kind("SomethingNew", 400), Kind::Internal);
    }

    #[test]
    fn keys_of_kms_that_cannot_be_used_are_told_from_other_denials() {
        let fault = |code, message| match (ErrorAnswer { code, message, status: 403, region: None }).failure() {
            Failure::KmsKey { fault, .. } => Some(fault),
            _ => None,
        };
        let kms =
            "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: kms:GenerateDataKey on resource: x";
        assert_eq!(fault("AccessDenied", kms), Some(KeyFault::Denied));
        assert_eq!(fault("AccessDenied", "Access Denied"), None);
        assert_eq!(fault("KMS.DisabledException", "m"), Some(KeyFault::Disabled));
        let head = |status| ErrorAnswer { code: "", message: "", status, region: None }.failure().is_unexplained();
        assert_eq!([400, 403, 404, 500].map(head), [true, true, false, false]);
    }

    #[test]
    fn only_what_may_have_happened_is_ambiguous() {
        let ambiguous = |code, status| {
            let answer = ErrorAnswer { code, message: "", status, region: None };
            matches!(answer.failure(), Failure::Transient { ambiguous: true, .. })
        };
        assert!(ambiguous("InternalError", 500) && ambiguous("", 502) && ambiguous("InternalError", 200));
        assert!(!ambiguous("SlowDown", 503) && !ambiguous("RequestTimeout", 400) && !ambiguous("ExpiredToken", 400));
    }
}
