//! Errors of remotes as configured and of their providers' APIs.

use gitferry_base::Kind;
use gitferry_config::ConfigError;
use gitferry_git::refname::NameError;

/// A remote cannot be used as configured, or its provider's API failed. Messages contain no secret.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The configuration has no such remote, or its entry is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The repository name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The entry of the remote is valid, but a file, URL or certificate that it names cannot be used.
    #[error("remote {remote}: {reason}")]
    Unusable {
        /// Name of the remote in the configuration.
        remote: String,
        /// The setting and what is wrong with it.
        reason: String,
    },
    /// The configured source of credentials supplies none.
    #[error("remote {remote}: cannot obtain credentials: {reason}")]
    Credentials {
        /// Name of the remote in the configuration.
        remote: String,
        /// Cause of the failure.
        reason: String,
    },
    /// The provider's API cannot be reached, or did not answer in time. Setting `HEAD` again is safe.
    #[error("{repository}: cannot reach the provider's API at {api}: {reason}")]
    ApiConnection {
        /// Repository at the remote.
        repository: String,
        /// Origin of the API's URL.
        api: String,
        /// Cause of the failure.
        reason: String,
    },
    /// The provider's API is overloaded, throttles or failed. Trying again later may succeed.
    #[error("{repository}: {api} answered {status}: {reason}")]
    ApiBusy {
        /// Repository at the remote.
        repository: String,
        /// Origin of the API's URL.
        api: String,
        /// HTTP status.
        status: u16,
        /// Message of the API, one line without secrets.
        reason: String,
    },
    /// The provider's API refused for a reason other than permissions.
    #[error("{repository}: {api} answered {status}: {reason}")]
    Api {
        /// Repository at the remote.
        repository: String,
        /// Origin of the API's URL.
        api: String,
        /// HTTP status.
        status: u16,
        /// Message of the API, one line without secrets.
        reason: String,
    },
}

impl RemoteError {
    /// Classifies the error by what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            RemoteError::Config(error) => error.kind(),
            RemoteError::Name(error) => error.kind(),
            RemoteError::Unusable { .. } => Kind::Usage,
            RemoteError::Credentials { .. } => Kind::Refused,
            RemoteError::ApiConnection { .. } | RemoteError::ApiBusy { .. } => Kind::Transient,
            RemoteError::Api { .. } => Kind::Refused,
        }
    }
}
