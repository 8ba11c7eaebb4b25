//! Host keys: the SSH identity of a host, made at its first start.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gitferry_base::Kind;
use gitferry_base::durable::{create_dir_all, sync_dir};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};

/// Permission bits of a key file that must not be set: all of group and others.
const FORBIDDEN_MODE: u32 = 0o077;
/// Largest file of a private key, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 10;
/// Files of the host keys, named as OpenSSH names them.
const FILES: [(&str, Algorithm); 2] = [
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
    ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
];

/// The host keys of one host.
pub struct HostKeys {
    keys: Vec<PrivateKey>,
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostKeys").field(&self.fingerprints()).finish()
    }
}

/// A host key cannot be made or used. No text contains any of the key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The folder or a file in it cannot be written or read.
    #[error("the SSH host key {file} cannot be {doing}: {error}")]
    File {
        /// Path of the file or folder.
        file: PathBuf,
        /// Failed operation, as a participle.
        doing: &'static str,
        /// Error of the system.
        error: io::Error,
    },
    /// Others than the owner have access to a key.
    #[error("the SSH host key {file} has mode {mode:o}: others may read it; run `chmod 600 {file}` if none has")]
    Exposed {
        /// Path of the file.
        file: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// A file holds no usable key.
    #[error("the SSH host key {file} cannot be used: {reason}")]
    Unusable {
        /// Path of the file.
        file: PathBuf,
        /// Fault of the key.
        reason: &'static str,
    },
}

impl HostKeyError {
    /// Kind of the error, from which the exit code follows.
    pub fn kind(&self) -> Kind {
        match self {
            HostKeyError::File { .. } => Kind::Environment,
            HostKeyError::Exposed { .. } | HostKeyError::Unusable { .. } => Kind::Usage,
        }
    }
}

impl HostKeys {
    /// Reads the host keys in `dir`. Makes the folder (0700) and the keys (0600) that are missing. Processes that start
    /// at the same time end with the same keys.
    ///
    /// # Errors
    /// A key cannot be made, cannot be read, or may be read by others.
    pub fn open(dir: &Path) -> Result<Self, HostKeyError> {
        create_dir_all(dir).map_err(|error| HostKeyError::File { file: dir.into(), doing: "made", error })?;
        let mut keys = Vec::new();
        for (name, algorithm) in FILES {
            let file = dir.join(name);
            if !file.exists() {
                make(&file, dir, algorithm.clone())?;
            }
            keys.push(read(&file, &algorithm)?);
        }
        Ok(HostKeys { keys })
    }

    /// The fingerprints of the keys as `SHA256:… (ALGORITHM)`, as SSH clients show them.
    pub fn fingerprints(&self) -> Vec<String> {
        let shown = |key: &PrivateKey| format!("{} ({})", key.fingerprint(HashAlg::Sha256), key.algorithm());
        self.keys.iter().map(shown).collect()
    }

    /// The private keys.
    pub(super) fn private(&self) -> &[PrivateKey] {
        &self.keys
    }

    /// A secret that only processes with the same host keys know. `purpose` separates its uses.
    pub(super) fn derived_secret(&self, purpose: &str) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new();
        hash.update(purpose.as_bytes());
        hash.update([0]);
        let seeds = self.keys.iter().filter_map(|key| key.key_data().ed25519());
        seeds.for_each(|pair| hash.update(pair.private.to_bytes()));
        hash.finalize().into()
    }
}

/// Makes a key, unless another process makes it first.
fn make(file: &Path, dir: &Path, algorithm: Algorithm) -> Result<(), HostKeyError> {
    let failed = |error| HostKeyError::File { file: file.into(), doing: "made", error };
    let unusable = |_| HostKeyError::Unusable { file: file.into(), reason: "it could not be generated" };
    let key = PrivateKey::random(&mut safe_rng(), algorithm).map_err(unusable)?;
    let text = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    // Readable by the owner alone from its first byte on.
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    temporary.write_all(text.as_bytes()).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    match temporary.persist_noclobber(file) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error.error)),
        _ => {}
    }
    sync_dir(dir).map_err(failed)
}

fn read(file: &Path, algorithm: &Algorithm) -> Result<PrivateKey, HostKeyError> {
    let failed = |error| HostKeyError::File { file: file.into(), doing: "read", error };
    let unusable = |reason| HostKeyError::Unusable { file: file.into(), reason };
    let opened = fs::File::open(file).map_err(failed)?;
    let mode = opened.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(HostKeyError::Exposed { file: file.into(), mode });
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    opened.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    let key = PrivateKey::from_openssh(text.as_bytes()).map_err(|_| unusable("it is no private key of OpenSSH"))?;
    if key.is_encrypted() {
        return Err(unusable("it has a passphrase, which a host cannot enter"));
    }
    if key.algorithm() != *algorithm {
        return Err(unusable("it is of another algorithm than its name says"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("ssh/us");
        let first = HostKeys::open(&keys).unwrap();
        assert_eq!(HostKeys::open(&keys).unwrap().fingerprints(), first.fingerprints());
        assert!(first.fingerprints()[0].starts_with("SHA256:") && first.fingerprints().len() == FILES.len());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys), 0o700);
        for (name, _) in FILES {
            assert_eq!(mode(&keys.join(name)), 0o600, "{name}");
        }
        let other = HostKeys::open(&dir.path().join("ssh/eu")).unwrap();
        assert_ne!(first.fingerprints(), other.fingerprints());
        assert_ne!(first.derived_secret("a"), other.derived_secret("a"));
        assert_ne!(first.derived_secret("a"), first.derived_secret("b"));
    }

    #[test]
    fn processes_that_start_at_once_have_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let open = || HostKeys::open(&dir.path().join("keys")).unwrap().fingerprints();
        let all: Vec<Vec<String>> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|prints| *prints == all[0]), "{all:?}");
    }

    #[test]
    fn keys_that_cannot_be_used_are_named_without_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        HostKeys::open(&keys).unwrap();
        let file = keys.join(FILES[0].0);
        let secret = fs::read_to_string(&file).unwrap();
        let error = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            HostKeys::open(&keys).unwrap_err().to_string()
        };
        for mode in [0o640, 0o604, 0o620] {
            let error = error(&secret, mode);
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
        }
        assert!(error("garbage", 0o600).contains("no private key"));
        let other = fs::read_to_string(keys.join(FILES[1].0)).unwrap();
        assert!(error(&other, 0o600).contains("another algorithm"));
        let line = secret.lines().nth(2).unwrap();
        assert!(!error(&secret[..secret.len() / 2], 0o600).contains(line));
    }
}
