//! Services that hold a key which never leaves them, under which data keys are sealed.

use async_trait::async_trait;
use gitferry_base::Kind;
use zeroize::Zeroizing;

use crate::arn::AccountId;

/// Owner of a data key, bound into its seal (for KMS: the encryption context).
#[derive(Clone, Copy, Debug)]
pub struct KeyContext<'a> {
    /// Account whose secrets the data key seals.
    pub account: &'a AccountId,
    /// Id of the data key.
    pub data_key: &'a str,
}

/// Holder of a key: AWS KMS, or a local file.
#[async_trait]
pub trait KeyService: std::fmt::Debug + Send + Sync {
    /// Id of the key, such as the ARN of a KMS key. Data keys are kept by it.
    fn key_id(&self) -> &str;

    /// Seals a data key.
    ///
    /// # Errors
    /// The service cannot be reached or refuses its key.
    async fn wrap(&self, data_key: &[u8; 32], context: KeyContext<'_>) -> Result<Vec<u8>, KeyServiceError>;

    /// Opens a data key that [`KeyService::wrap`] sealed with the same context.
    ///
    /// # Errors
    /// The service cannot be reached or refuses its key, or the seal is damaged.
    async fn unwrap(&self, wrapped: &[u8], context: KeyContext<'_>) -> Result<Zeroizing<[u8; 32]>, KeyServiceError>;
}

/// A key service did not answer with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key service {key_id} cannot seal or open the data key: {reason}")]
pub struct KeyServiceError {
    /// Id of the key that was asked for.
    pub key_id: String,
    /// Reason for the operator.
    pub reason: String,
    /// Kind by the caller's next step.
    pub kind: Kind,
}
