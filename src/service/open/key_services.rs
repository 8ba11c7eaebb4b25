//! The key services of the account: a key file, and keys of KMS.

use std::sync::Arc;

use async_trait::async_trait;
use gitferry_config::Config;
use gitferry_iam::secret::{KeyContext, KeyService, KeyServiceError, LocalKeyError, LocalKeyFile};
use gitferry_store::aws::{KeyFault, KmsError, KmsKey};
use zeroize::Zeroizing;

/// Key of the encryption context with the account's id.
const ACCOUNT: &str = "gitferry:account";
/// Key of the encryption context with the data key's id.
const DATA_KEY: &str = "gitferry:data-key";

/// Opens the key file of the account; `None` if the configuration has KMS keys alone.
///
/// # Errors
/// The file is missing, is open to others, or is no key.
pub fn key_file(config: &Config) -> Result<Option<LocalKeyFile>, LocalKeyError> {
    config.account.key_file().map(|file| LocalKeyFile::open(&config.path(file))).transpose()
}

/// Opens the key services of the account: the key file first, then the KMS keys, those in the AWS region of `near`
/// first. Contacts nothing.
///
/// # Errors
/// The key file is missing, is open to others, or is no key.
pub async fn key_services(config: &Config, near: Option<&str>) -> Result<Vec<Arc<dyn KeyService>>, LocalKeyError> {
    let file = key_file(config)?;
    Ok(all(config, file, near).await)
}

/// Opens the key services of an account that is founded, and makes the key file if it is missing.
///
/// # Errors
/// The file cannot be made, is open to others, or is no key.
pub async fn make_key_services(config: &Config) -> Result<Vec<Arc<dyn KeyService>>, LocalKeyError> {
    let file = config.account.key_file().map(|file| LocalKeyFile::open_or_create(&config.path(file))).transpose()?;
    Ok(all(config, file, None).await)
}

async fn all(config: &Config, file: Option<LocalKeyFile>, near: Option<&str>) -> Vec<Arc<dyn KeyService>> {
    let mut services: Vec<Arc<dyn KeyService>> = Vec::new();
    services.extend(file.map(|file| Arc::new(file) as Arc<dyn KeyService>));
    let region = near.map(|name| {
        let own = config.regions.get(name).and_then(|region| region.aws.region.as_deref());
        own.unwrap_or(name)
    });
    let mut keys: Vec<_> = config.account.kms_key.iter().collect();
    keys.sort_by_key(|key| Some(key.region()) != region);
    for key in keys {
        let sdk = config.sdk.get(&config.account.kms_settings(key)).await;
        services.push(Arc::new(KmsKeyService(KmsKey::new(&sdk, key.clone()))));
    }
    services
}

/// Key service of a KMS key.
#[derive(Debug)]
struct KmsKeyService(KmsKey);

impl KmsKeyService {
    fn error(&self, error: &KmsError) -> KeyServiceError {
        KeyServiceError { key_id: self.key_id().to_owned(), reason: error.to_string(), kind: error.kind() }
    }
}

#[async_trait]
impl KeyService for KmsKeyService {
    fn key_id(&self) -> &str {
        self.0.arn().as_str()
    }

    async fn wrap(&self, data_key: &[u8; 32], context: KeyContext<'_>) -> Result<Vec<u8>, KeyServiceError> {
        self.0.encrypt(data_key, &owner(&context)).await.map_err(|error| self.error(&error))
    }

    async fn unwrap(&self, wrapped: &[u8], context: KeyContext<'_>) -> Result<Zeroizing<[u8; 32]>, KeyServiceError> {
        let opened = self.0.decrypt(wrapped, &owner(&context)).await.map_err(|error| self.error(&error))?;
        let opened = Zeroizing::new(opened);
        let key = <[u8; 32]>::try_from(&opened[..]).map_err(|_| {
            let reason = "what it opened does not have the 32 bytes of a data key".to_owned();
            self.error(&KmsError { fault: KeyFault::NotSealed, reason })
        })?;
        Ok(Zeroizing::new(key))
    }
}

/// Encryption context of a data key.
fn owner<'a>(context: &KeyContext<'a>) -> [(&'a str, &'a str); 2] {
    [(ACCOUNT, context.account.as_str()), (DATA_KEY, context.data_key)]
}
