//! Errors of the APIs, with the codes and statuses of AWS.

use gitferry_base::Kind;
use gitferry_base::printable::Printable;
use gitferry_iam::IamError;

/// Longest text of a request that a message repeats, in characters.
const MAX_SHOWN: usize = 256;

/// Error of a request, as AWS answers it. Nothing was changed, unless the message says that it may have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    code: &'static str,
    status: u16,
    message: String,
}

/// Result of a step of a request.
pub type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// Error with a code, the HTTP status of the answer, and a text for the caller.
    pub fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        ApiError { code, status, message: message.into() }
    }

    /// Code, such as `NoSuchEntity`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Code and status of the answer in JSON APIs, where errors that are common to all services have other names.
    pub fn in_json(&self) -> (&'static str, u16) {
        match self.code {
            "AccessDenied" => ("AccessDeniedException", 400),
            "Throttling" => ("ThrottlingException", 400),
            "ServiceUnavailable" => ("ServiceUnavailableException", 503),
            "MalformedQueryString" => ("SerializationException", 400),
            code => (code, self.status),
        }
    }

    /// Text for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns true if the host is at fault, and not the request.
    pub fn is_fault(&self) -> bool {
        self.status >= 500
    }

    /// A parameter is missing or has a wrong form.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        ApiError::new("ValidationError", 400, message)
    }

    /// Parameters cannot be read.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        ApiError::new("MalformedQueryString", 404, message)
    }

    /// Too many requests of one client.
    pub(crate) fn throttled() -> Self {
        ApiError::new("Throttling", 400, "Rate exceeded")
    }

    /// The principal may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        ApiError::new("AccessDenied", 403, message)
    }

    /// The request names an entity that does not exist.
    pub(crate) fn no_such(message: impl Into<String>) -> Self {
        ApiError::new("NoSuchEntity", 404, message)
    }

    /// A value cannot be used.
    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        ApiError::new("InvalidInput", 400, message)
    }

    /// The host cannot do this now. The operator's log says why.
    pub fn unavailable() -> Self {
        let text = "The host cannot do this now; its operator's log says why. Nothing was changed: try again.";
        ApiError::new("ServiceUnavailable", 503, text)
    }
}

impl From<IamError> for ApiError {
    fn from(error: IamError) -> Self {
        ApiError::new(error.code().as_str(), error.code().status(), error.message())
    }
}

/// Text of a request as it stands in a message.
pub fn shown(text: &str) -> Printable<String> {
    Printable(text.chars().take(MAX_SHOWN).collect())
}

/// Failure of a change of the account. `replica` says where the account is changed, if not here.
pub(crate) fn of_change(error: gitferry_identity::AdministrationError, replica: impl Fn(&str) -> String) -> ApiError {
    use gitferry_account::AccountError;
    use gitferry_engine::region::RegionError;
    use gitferry_identity::AdministrationError;
    match error {
        AdministrationError::Iam(error) => error.into(),
        AdministrationError::Repository(AccountError::Region(RegionError::Replica { primary, .. })) => {
            ApiError::new("UnmodifiableEntity", 400, replica(&primary))
        }
        error => {
            tracing::error!(%error, "the account was not changed, or may have been");
            match error.kind() {
                Kind::Conflict => {
                    let text = "The account is being changed by many requests. Nothing was changed: try again.";
                    ApiError::new("ConcurrentModification", 409, text)
                }
                Kind::InDoubt => {
                    let text = "The change may have been made: look at the account before you try again.";
                    ApiError::new("ServiceFailure", 500, text)
                }
                _ => ApiError::unavailable(),
            }
        }
    }
}
