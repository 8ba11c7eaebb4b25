//! Reasons for which a KMS key cannot be used, by KMS itself and by services that use it on behalf of the caller.
//!
//! Error codes: <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html> and the sections "Errors" of
//! Encrypt and Decrypt. S3 answers with the same codes behind `KMS.`.

use std::fmt;

use gitferry_base::Kind;

/// Reason for which a KMS key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyFault {
    /// The key is disabled.
    Disabled,
    /// The policies of the caller or of the key do not allow it.
    Denied,
    /// The key does not exist in this account and AWS region.
    NotFound,
    /// The key is of another kind than the request needs: asymmetric, or for signatures.
    WrongUsage,
    /// The key waits for its deletion, its material or its key store.
    NotReady,
    /// KMS throttles requests.
    Throttled,
    /// KMS did not answer, or failed.
    Unreachable,
    /// The sealed bytes are damaged, or another key or owner has sealed them.
    NotSealed,
}

impl KeyFault {
    /// Fault of an error code of KMS, also behind `KMS.` as S3 has it.
    pub fn of_code(code: &str) -> Option<Self> {
        Some(match code.strip_prefix("KMS.").unwrap_or(code) {
            "DisabledException" => KeyFault::Disabled,
            "AccessDeniedException" | "AccessDenied" => KeyFault::Denied,
            "NotFoundException" => KeyFault::NotFound,
            "InvalidKeyUsageException" | "UnsupportedOperationException" => KeyFault::WrongUsage,
            "KMSInvalidStateException" | "KeyUnavailableException" | "InvalidStateException" => KeyFault::NotReady,
            "LimitExceededException" | "ThrottlingException" => KeyFault::Throttled,
            "DependencyTimeoutException" | "KMSInternalException" | "InternalException" => KeyFault::Unreachable,
            "InvalidCiphertextException" | "IncorrectKeyException" => KeyFault::NotSealed,
            _ => return None,
        })
    }

    /// Kind by the caller's next step.
    pub fn kind(self) -> Kind {
        match self {
            KeyFault::Throttled | KeyFault::Unreachable => Kind::Transient,
            KeyFault::NotSealed => Kind::Corrupt,
            KeyFault::Disabled | KeyFault::Denied | KeyFault::NotFound | KeyFault::WrongUsage | KeyFault::NotReady => {
                Kind::Environment
            }
        }
    }

    /// Next step of an operator, with the command.
    pub fn remedy(self) -> &'static str {
        match self {
            KeyFault::Disabled => "enable it: `aws kms enable-key --key-id KEY`",
            KeyFault::Denied => {
                "allow it in the policies of the role and, in another account, of the key (`aws kms get-key-policy \
                 --key-id KEY --policy-name default`)"
            }
            KeyFault::NotFound => "name a key of this account and AWS region: `aws kms describe-key --key-id KEY`",
            KeyFault::WrongUsage => "use a symmetric key for encryption (`aws kms create-key`)",
            KeyFault::NotReady => {
                "`aws kms describe-key --key-id KEY` says what it waits for; `aws kms cancel-key-deletion` and then \
                 `enable-key` save a key from its deletion"
            }
            KeyFault::Throttled => "run again later, or raise the account's quota of KMS requests",
            KeyFault::Unreachable => "check the way to the KMS endpoint of the AWS region, then run again",
            KeyFault::NotSealed => "name the key that has sealed it",
        }
    }

    /// Sentence for clients, who cannot mend it.
    pub fn for_clients(self) -> &'static str {
        match self {
            KeyFault::Disabled => {
                "the encryption key of the repository is disabled; the operator of the server can enable it"
            }
            KeyFault::Denied => {
                "the server may not use the encryption key of the repository; the operator of the server can allow it"
            }
            KeyFault::NotFound => {
                "the encryption key of the repository does not exist (any more); the operator of the server knows why"
            }
            KeyFault::NotSealed => {
                "the encryption key of the repository does not fit; the operator of the server knows why"
            }
            KeyFault::WrongUsage | KeyFault::NotReady | KeyFault::Throttled | KeyFault::Unreachable => {
                "the encryption key of the repository cannot be used now; the operator of the server knows why"
            }
        }
    }

    /// Exception of the CodeCommit API that says the same, as of PutFile or GetRepository.
    pub fn codecommit_exception(self) -> &'static str {
        match self {
            KeyFault::Disabled => "EncryptionKeyDisabledException",
            KeyFault::Denied => "EncryptionKeyAccessDeniedException",
            KeyFault::NotFound => "EncryptionKeyNotFoundException",
            KeyFault::NotSealed => "EncryptionIntegrityChecksFailedException",
            KeyFault::WrongUsage | KeyFault::NotReady | KeyFault::Throttled | KeyFault::Unreachable => {
                "EncryptionKeyUnavailableException"
            }
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyFault::Disabled => "the KMS key is disabled",
            KeyFault::Denied => "use of the KMS key is denied",
            KeyFault::NotFound => "the KMS key does not exist",
            KeyFault::WrongUsage => "the KMS key is not one for encryption",
            KeyFault::NotReady => "the KMS key is about to be deleted, or not ready",
            KeyFault::Throttled => "KMS throttles requests",
            KeyFault::Unreachable => "KMS does not answer",
            KeyFault::NotSealed => "the KMS key did not seal this",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_kms_are_sorted_alike_from_kms_and_from_s3() {
        for (code, fault, kind) in [
            ("DisabledException", KeyFault::Disabled, Kind::Environment),
            ("AccessDeniedException", KeyFault::Denied, Kind::Environment),
            ("NotFoundException", KeyFault::NotFound, Kind::Environment),
            ("KMSInvalidStateException", KeyFault::NotReady, Kind::Environment),
            ("ThrottlingException", KeyFault::Throttled, Kind::Transient),
            ("KMSInternalException", KeyFault::Unreachable, Kind::Transient),
            ("InvalidCiphertextException", KeyFault::NotSealed, Kind::Corrupt),
        ] {
            assert_eq!(KeyFault::of_code(code), Some(fault));
            assert_eq!(KeyFault::of_code(&format!("KMS.{code}")), Some(fault));
            assert_eq!(fault.kind(), kind);
        }
        assert_eq!(KeyFault::of_code("SlowDown"), None);
    }
}
