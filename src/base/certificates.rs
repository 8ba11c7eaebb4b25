//! Certificates from PEM files: one's own, and those that others are recognised by.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

use crate::Kind;

/// Largest file with certificates or a key, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a certificate cannot be used. Never holds any of the key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{what} {file} cannot be read: {error}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{what} {file} {reason}")]
    Invalid {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl CertificateError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            CertificateError::Unreadable { .. } => Kind::Environment,
            CertificateError::Invalid { .. } => Kind::Usage,
        }
    }
}

/// All certificates of a PEM file, of which there is at least one.
pub fn read_certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read_file(what, file)?;
    let invalid = |reason: String| CertificateError::Invalid { what, file: file.into(), reason };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| invalid(format!("is not valid PEM: {error}")))?;
    match certificates.is_empty() {
        true => Err(invalid("has no PEM section CERTIFICATE".into())),
        false => Ok(certificates),
    }
}

/// All of a file, which may be secret.
pub fn read_file(what: &'static str, file: &Path) -> Result<Vec<u8>, CertificateError> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let opened = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    opened.map_err(|error| CertificateError::Unreadable { what, file: file.into(), error })?;
    Ok(text)
}
