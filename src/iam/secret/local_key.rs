//! Key service without a service: a file of 32 random bytes that only its owner may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use gitferry_base::{Kind, durable};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::random::{Random, SystemRandom, bytes};
use crate::secret::key_service::{KeyContext, KeyService, KeyServiceError};
use crate::secret::seal::{DataKey, Purpose};

/// Permissions of group and others, of which the file has none.
const SHARED: u32 = 0o077;

/// Key file. All hosts of an account need the same one, or data keys sealed for each of theirs.
#[derive(Debug)]
pub struct LocalKeyFile {
    key: DataKey,
}

/// The key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The file cannot be read or created.
    #[error("the key file {file} cannot be read or created: {error}")]
    Io {
        /// Path of the key file.
        file: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// Others may read the file.
    #[error(
        "the key file {file} is open to others (mode {mode:o}): it may have been read; run `chmod 600 {file}` if it was not"
    )]
    Shared {
        /// Path of the key file.
        file: PathBuf,
        /// Permissions of the file.
        mode: u32,
    },
    /// The file has another length.
    #[error(
        "the key file {file} does not have 32 bytes: restore it from a backup; without it the secrets of the account stay sealed"
    )]
    Damaged {
        /// Path of the key file.
        file: PathBuf,
    },
}

impl LocalKeyError {
    /// Kind by the caller's next step.
    pub fn kind(&self) -> Kind {
        match self {
            LocalKeyError::Io { error, .. } => Kind::of_io(error),
            LocalKeyError::Shared { .. } => Kind::Environment,
            LocalKeyError::Damaged { .. } => Kind::Corrupt,
        }
    }
}

impl LocalKeyFile {
    /// Opens the key file, and creates it first if it does not exist. Of processes that create it at the same time one
    /// wins, and all have its key.
    ///
    /// # Errors
    /// The file cannot be read or created, is open to others, or does not have 32 bytes.
    pub fn open_or_create(file: &Path) -> Result<Self, LocalKeyError> {
        match Self::open(file) {
            Err(LocalKeyError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                create(file).map_err(|error| LocalKeyError::Io { file: file.into(), error })?;
                Self::open(file)
            }
            opened => opened,
        }
    }

    /// Opens the key file.
    ///
    /// # Errors
    /// The file cannot be read, is open to others, or does not have 32 bytes.
    pub fn open(file: &Path) -> Result<Self, LocalKeyError> {
        let failed = |error| LocalKeyError::Io { file: file.into(), error };
        let mut opened = File::open(file).map_err(failed)?;
        let mode = opened.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & SHARED != 0 {
            return Err(LocalKeyError::Shared { file: file.into(), mode });
        }
        let mut content = Zeroizing::new(Vec::with_capacity(64));
        (&mut opened).take(33).read_to_end(&mut content).map_err(failed)?;
        let key: [u8; 32] = content[..].try_into().map_err(|_| LocalKeyError::Damaged { file: file.into() })?;
        let key = Zeroizing::new(key);
        let id = format!("local:{}", &hex::encode(digest(&SHA256, &key[..]))[..16]);
        Ok(LocalKeyFile { key: DataKey::new(id, key) })
    }

    /// Key that follows from the file and a name, for hosts that share the file and keep no data key.
    pub fn derived_key(&self, name: &str) -> DataKey {
        let key = self.key.derive(Purpose::HostKey, &[name.as_bytes()]);
        DataKey::new(format!("{} {name}", self.key.id()), key)
    }

    fn error(&self, reason: &str) -> KeyServiceError {
        KeyServiceError { key_id: self.key.id().to_owned(), reason: reason.to_owned(), kind: Kind::Corrupt }
    }
}

/// Makes the key under another name, and links it to `file` when it is durable: a crash leaves no short key.
fn create(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let key = Zeroizing::new(bytes::<32>(&SystemRandom).map_err(io::Error::other)?);
    let suffix = bytes::<8>(&SystemRandom).map_err(io::Error::other)?;
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}", hex::encode(suffix)));
    let fresh = PathBuf::from(name);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).and_then(|mut opened| {
        opened.write_all(&key[..])?;
        opened.sync_all()
    });
    let linked = written.and_then(|()| std::fs::hard_link(&fresh, file));
    std::fs::remove_file(&fresh)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => durable::sync_dir(folder),
    }
}

fn owner<'a>(context: &KeyContext<'a>) -> [&'a [u8]; 2] {
    [context.account.as_str().as_bytes(), context.data_key.as_bytes()]
}

#[async_trait]
impl KeyService for LocalKeyFile {
    fn key_id(&self) -> &str {
        self.key.id()
    }

    async fn wrap(&self, data_key: &[u8; 32], context: KeyContext<'_>) -> Result<Vec<u8>, KeyServiceError> {
        let sealed = self.key.seal(Purpose::DataKey, &owner(&context), data_key, &SystemRandom as &dyn Random);
        sealed.map_err(|error| self.error(&error.to_string()))
    }

    async fn unwrap(&self, wrapped: &[u8], context: KeyContext<'_>) -> Result<Zeroizing<[u8; 32]>, KeyServiceError> {
        let opened = self.key.open(Purpose::DataKey, &owner(&context), wrapped);
        let opened = opened.map_err(|error| self.error(&error.to_string()))?;
        let key: [u8; 32] = opened[..].try_into().map_err(|_| self.error("the data key does not have 32 bytes"))?;
        Ok(Zeroizing::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_refused_when_others_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("account.key");
        let made = LocalKeyFile::open_or_create(&file).unwrap();
        assert_eq!(LocalKeyFile::open_or_create(&file).unwrap().key_id(), made.key_id());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let permit = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o620] {
            permit(mode);
            assert!(matches!(LocalKeyFile::open_or_create(&file), Err(LocalKeyError::Shared { .. })), "{mode:o}");
        }
        permit(0o400);
        LocalKeyFile::open_or_create(&file).unwrap();
        permit(0o600);
        for bytes in [&b""[..], &[0; 31], &[0; 33]] {
            std::fs::write(&file, bytes).unwrap();
            assert!(matches!(LocalKeyFile::open_or_create(&file), Err(LocalKeyError::Damaged { .. })));
        }
    }

    #[tokio::test]
    async fn a_data_key_opens_for_its_account_and_id_only() {
        let folder = tempfile::tempdir().unwrap();
        let service = LocalKeyFile::open_or_create(&folder.path().join("key")).unwrap();
        let account: AccountId = "111122223333".parse().unwrap();
        let context = |data_key| KeyContext { account: &account, data_key };
        let wrapped = service.wrap(&[7; 32], context("one")).await.unwrap();
        assert_eq!(*service.unwrap(&wrapped, context("one")).await.unwrap(), [7; 32]);
        service.unwrap(&wrapped, context("two")).await.unwrap_err();
        let other = LocalKeyFile::open_or_create(&folder.path().join("other")).unwrap();
        other.unwrap(&wrapped, context("one")).await.unwrap_err();
    }

    use crate::arn::AccountId;
}
