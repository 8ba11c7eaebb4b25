//! Errors of IAM and STS, with the codes, statuses and texts of AWS.
//!
//! Source: the sections "Errors" of the IAM and STS API references.

use std::fmt;

use crate::random::NoRandomness;

/// Error of an IAM or STS operation, as AWS answers it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IamError {
    code: Code,
    message: String,
}

/// Result of an operation.
pub type Result<T> = std::result::Result<T, IamError>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $status:literal, $make:ident;)*) => {
        /// Code of an error, as it stands in an answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Text of the element `Code`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $wire,)* }
            }

            /// HTTP status of the answer.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }
        }

        impl IamError {
            $(pub(crate) fn $make(message: impl Into<String>) -> Self {
                IamError { code: Code::$name, message: message.into() }
            })*
        }
    };
}

codes! {
    /// The request names an entity that does not exist.
    NoSuchEntity = "NoSuchEntity", 404, no_such_entity;
    /// The name is taken. Names differ by more than case.
    EntityAlreadyExists = "EntityAlreadyExists", 409, already_exists;
    /// A quota is used up.
    LimitExceeded = "LimitExceeded", 409, limit_exceeded;
    /// The entity has parts or attachments, which go first.
    DeleteConflict = "DeleteConflict", 409, delete_conflict;
    /// The policy does not parse.
    MalformedPolicyDocument = "MalformedPolicyDocument", 400, malformed_policy;
    /// A value does not fit the state of the entity.
    InvalidInput = "InvalidInput", 400, invalid_input;
    /// A value has a wrong form.
    ValidationError = "ValidationError", 400, validation;
    /// The entity cannot be changed through the API, such as a managed policy of AWS.
    UnmodifiableEntity = "UnmodifiableEntity", 400, unmodifiable;
    /// The public key is of a kind that is not accepted.
    InvalidPublicKey = "InvalidPublicKey", 400, invalid_public_key;
    /// The text is not an OpenSSH public key.
    UnrecognizedPublicKeyEncoding = "UnrecognizedPublicKeyEncoding", 400, unrecognized_public_key;
    /// The user has this public key already.
    DuplicateSSHPublicKey = "DuplicateSSHPublicKey", 400, duplicate_ssh_key;
    /// Service-specific credentials exist for `codecommit.amazonaws.com` alone.
    NotSupportedService = "NotSupportedService", 404, not_supported_service;
    /// The caller may not do this.
    AccessDenied = "AccessDenied", 403, access_denied;
    /// The token has expired.
    ExpiredToken = "ExpiredTokenException", 400, expired_token;
    /// The token is not one that the account's identity provider made for this audience.
    InvalidIdentityToken = "InvalidIdentityToken", 400, invalid_identity_token;
    /// Session policies and tags are larger than a session token holds.
    PackedPolicyTooLarge = "PackedPolicyTooLarge", 400, packed_policy_too_large;
    /// The host cannot do this now. Running again is safe.
    ServiceFailure = "ServiceFailure", 500, service_failure;
}

impl IamError {
    /// Code of the answer.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Text of the answer.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Kind by the caller's next step.
    pub fn kind(&self) -> gitferry_base::Kind {
        use gitferry_base::Kind;
        match self.code {
            Code::NoSuchEntity => Kind::NotFound,
            Code::EntityAlreadyExists | Code::LimitExceeded | Code::DeleteConflict | Code::AccessDenied => {
                Kind::Refused
            }
            Code::ServiceFailure => Kind::Transient,
            _ => Kind::Usage,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<NoRandomness> for IamError {
    fn from(error: NoRandomness) -> Self {
        IamError::service_failure(error.to_string())
    }
}
