//! Why a Git server cannot be used as configured, or its provider's API did not do what was asked.

use gitferry_base::Kind;
use gitferry_config::ConfigError;
use gitferry_git::refname::NameError;

/// Why a Git server cannot be used as configured, or its provider's API did not do what was asked. No text of it
/// holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no such remote, or it is not configured in a way that makes sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A repository's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What the configuration says cannot be used.
    #[error("remote {remote}: {reason}")]
    Unusable {
        /// Which remote.
        remote: String,
        /// What is wrong.
        reason: String,
    },
    /// There are no credentials.
    #[error("remote {remote}: there are no credentials: {reason}")]
    Credentials {
        /// Which remote.
        remote: String,
        /// Why.
        reason: String,
    },
    /// The provider's API cannot be reached.
    #[error("{repository}: {api} cannot be reached: {reason}")]
    ApiConnection {
        /// Which repository.
        repository: String,
        /// Where the API is.
        api: String,
        /// Why.
        reason: String,
    },
    /// The provider's API cannot do it for now.
    #[error("{repository}: {api} answered {status}: {reason}")]
    ApiBusy {
        /// Which repository.
        repository: String,
        /// Where the API is.
        api: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// The provider's API says no.
    #[error("{repository}: {api} answered {status}: {reason}")]
    Api {
        /// Which repository.
        repository: String,
        /// Where the API is.
        api: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        reason: String,
    },
}

impl RemoteError {
    /// What the caller should do.
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
