//! Credentials of users.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Format;
use crate::secret::{PasswordHash, Sealed};

/// The service that has Git credentials.
pub const GIT_SERVICE: &str = "codecommit.amazonaws.com";

/// State of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The credential is accepted.
    Active,
    /// The credential is refused.
    Inactive,
}

impl Status {
    /// Word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "Active",
            Status::Inactive => "Inactive",
        }
    }

    /// State of a word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "Active" => Some(Status::Active),
            "Inactive" => Some(Status::Inactive),
            _ => None,
        }
    }
}

/// `users/NAME/access-keys/ID.json`: an access key, whose secret is sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Format of the document.
    pub format: Format,
    /// Time of creation.
    pub created: Timestamp,
    /// State.
    pub status: Status,
    /// The secret access key, sealed for its account, user id and key id.
    pub secret: Sealed,
}

/// `users/NAME/git-credentials/ID.json`: user name and password for Git over HTTPS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitCredential {
    /// Format of the document.
    pub format: Format,
    /// Time of creation.
    pub created: Timestamp,
    /// State.
    pub status: Status,
    /// User name, `NAME-at-ACCOUNT` or `NAME+N-at-ACCOUNT`.
    pub user_name: String,
    /// Hash of the password.
    pub password: PasswordHash,
}

/// `users/NAME/ssh-keys/ID.json`: an SSH public key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshKey {
    /// Format of the document.
    pub format: Format,
    /// Time of the upload.
    pub uploaded: Timestamp,
    /// State.
    pub status: Status,
    /// The key as an OpenSSH line, with its comment.
    pub public_key: String,
    /// SHA-256 fingerprint as OpenSSH prints it, `SHA256:…`. Computed from the key, not stored.
    #[serde(skip)]
    pub fingerprint: String,
}
