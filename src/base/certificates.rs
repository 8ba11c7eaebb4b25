//! Certificates and keys from PEM files.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

use crate::Kind;

/// Most bytes that are read of a file with certificates or a key.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Error of loading a certificate or a key. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{what} {file} cannot be read: {error}")]
    Unreadable {
        /// Role of the file, as the subject of the message.
        what: &'static str,
        /// Path of the file.
        file: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The file holds no valid certificate or key.
    #[error("{what} {file} {reason}")]
    Invalid {
        /// Role of the file, as the subject of the message.
        what: &'static str,
        /// Path of the file.
        file: PathBuf,
        /// Predicate of the message, such as `is not valid PEM`.
        reason: String,
    },
}

impl CertificateError {
    /// Kind of the error: the caller's next step.
    pub fn kind(&self) -> Kind {
        match self {
            CertificateError::Unreadable { .. } => Kind::Environment,
            CertificateError::Invalid { .. } => Kind::Usage,
        }
    }
}

/// Reads all certificates of a PEM file; an error if it holds none.
pub fn read_certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read_file(what, file)?;
    let invalid = |reason: String| CertificateError::Invalid { what, file: file.into(), reason };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| invalid(format!("is not valid PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(invalid("has no PEM section CERTIFICATE".into()));
    }
    Ok(certificates)
}

/// Reads a file that may hold a secret, at most [`MAX_FILE_BYTES`] of it.
pub fn read_file(what: &'static str, file: &Path) -> Result<Vec<u8>, CertificateError> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let opened = std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    opened.map_err(|error| CertificateError::Unreadable { what, file: file.into(), error })?;
    Ok(text)
}
