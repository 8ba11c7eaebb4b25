//! Secrets: passwords as hashes, secret access keys sealed under data keys, data keys sealed under a key service.

mod key_service;
mod local_key;
mod password;
mod seal;
mod text;

pub use key_service::{KeyContext, KeyService, KeyServiceError};
pub use local_key::{LocalKeyError, LocalKeyFile};
pub use password::PasswordHash;
pub(crate) use seal::Purpose;
pub use seal::{DataKey, NotSealed, Sealed};
pub use text::SecretText;

#[cfg(test)]
pub(crate) use password::work;
