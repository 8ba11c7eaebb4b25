//! Reasons for which a request proves no principal, with the codes and statuses of AWS.

use crate::delegation::DelegationError;
use crate::session::TokenError;
use crate::sigv4::SignatureError;
use crate::throttle::TooMany;

/// The principal of a request is not proven. Nothing of the request was read beyond what authentication needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The request carries no credentials. The host asks for them.
    #[error("the request has no credentials")]
    Anonymous,
    /// User name or password of Git are wrong. Which of them is not said.
    #[error("the user name or password is wrong, or the credential is inactive")]
    Wrong,
    /// Too many attempts failed.
    #[error("too many failed attempts: try again in {} s", .0.retry_after.as_secs())]
    TooMany(TooMany),
    /// The access key does not exist or is inactive.
    #[error("the access key id does not exist in this account, or is inactive")]
    UnknownAccessKey,
    /// STS names a caller that the account does not have, or whose requests it does not take.
    #[error("the account has no user or role {0} whose requests are taken")]
    UnknownCaller(String),
    /// The session token is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The signature is not accepted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The delegation of another host is not accepted.
    #[error(transparent)]
    Delegation(#[from] DelegationError),
    /// The host does not know the account's state, or cannot open its secrets.
    #[error("the host cannot authenticate: {0}")]
    Unavailable(&'static str),
}

impl AuthenticationError {
    /// Code of AWS for query APIs, such as IAM and STS.
    pub fn code(&self) -> &'static str {
        match self {
            AuthenticationError::Anonymous => "MissingAuthenticationToken",
            AuthenticationError::Wrong
            | AuthenticationError::UnknownAccessKey
            | AuthenticationError::UnknownCaller(_) => "InvalidClientTokenId",
            AuthenticationError::Token(TokenError::Invalid) | AuthenticationError::Delegation(_) => {
                "InvalidClientTokenId"
            }
            AuthenticationError::Token(TokenError::Expired) => "ExpiredToken",
            AuthenticationError::TooMany(_) => "Throttling",
            AuthenticationError::Signature(SignatureError::Incomplete(_)) => "IncompleteSignature",
            AuthenticationError::Signature(SignatureError::Expired { .. }) => "RequestExpired",
            AuthenticationError::Signature(_) => "SignatureDoesNotMatch",
            AuthenticationError::Unavailable(_) => "ServiceUnavailable",
        }
    }

    /// Code of AWS for JSON APIs, such as CodeCommit.
    pub fn json_code(&self) -> &'static str {
        match self {
            AuthenticationError::Anonymous => "MissingAuthenticationTokenException",
            AuthenticationError::Wrong
            | AuthenticationError::UnknownAccessKey
            | AuthenticationError::UnknownCaller(_)
            | AuthenticationError::Delegation(_)
            | AuthenticationError::Token(TokenError::Invalid) => "UnrecognizedClientException",
            AuthenticationError::Token(TokenError::Expired) => "ExpiredTokenException",
            AuthenticationError::TooMany(_) => "ThrottlingException",
            AuthenticationError::Signature(SignatureError::Incomplete(_)) => "IncompleteSignatureException",
            AuthenticationError::Signature(_) => "InvalidSignatureException",
            AuthenticationError::Unavailable(_) => "ServiceUnavailableException",
        }
    }

    /// HTTP status of an answer of an API. (Git is asked for credentials with 401.)
    pub fn status(&self) -> u16 {
        match self {
            AuthenticationError::TooMany(_) => 429,
            AuthenticationError::Unavailable(_) => 503,
            AuthenticationError::Signature(SignatureError::Incomplete(_) | SignatureError::Expired { .. }) => 400,
            _ => 403,
        }
    }
}
