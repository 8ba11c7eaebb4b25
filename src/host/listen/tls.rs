//! TLS certificate of a host, from PEM files that can be replaced and reloaded while the host serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject as _};

pub use gitferry_base::certificates::CertificateError;
use gitferry_base::certificates::{read_certificates, read_file};
use gitferry_base::private::warn_if_others_read;

const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the key";

/// A certificate chain with its key, as PEM files.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    config: RustlsConfig,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.chain.display())
    }
}

impl Certificate {
    /// Reads both files and checks that the key belongs to the certificate.
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn load(chain: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let config = RustlsConfig::from_config(Arc::new(server_config(&chain, &key)?));
        Ok(Certificate { chain, key, config })
    }

    /// Reads both files again, for new connections. After an error the previous certificate stays in use.
    ///
    /// # Errors
    /// As of [`Certificate::load`].
    pub fn reload(&self) -> Result<(), CertificateError> {
        self.config.reload_from_config(Arc::new(server_config(&self.chain, &self.key)?));
        Ok(())
    }

    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }
}

/// Offers TLS 1.2 and 1.3, and HTTP/2 before HTTP/1.1.
fn server_config(chain: &Path, key: &Path) -> Result<ServerConfig, CertificateError> {
    let certificates = read_certificates(CERTIFICATE, chain)?;
    let private = read_key(key)?;
    let invalid = |what, file: &Path, reason: String| CertificateError::Invalid { what, file: file.into(), reason };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(CERTIFICATE, chain, error.to_string()))?;
    let config = builder.with_no_client_auth().with_single_cert(certificates, private);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            invalid(KEY, key, format!("does not belong to the certificate {}", chain.display()))
        }
        rustls::Error::InvalidCertificate(error) => invalid(CERTIFICATE, chain, format!("is not valid: {error}")),
        error => invalid(KEY, key, format!("cannot be used: {error}")),
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let text = read_file(KEY, file)?;
    warn_if_others_read("the key", file);
    // The parser's message may quote the file, which holds a secret.
    let reason = |error| match error {
        pem::Error::NoItemsFound => "has no PEM section PRIVATE KEY",
        _ => "is not valid PEM",
    };
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| CertificateError::Invalid {
        what: KEY,
        file: file.into(),
        reason: reason(error).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) =
            (rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap(), rcgen::KeyPair::generate().unwrap());
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let chain = write("chain.pem", &first.cert.pem());
        let key = write("key.pem", &first.signing_key.serialize_pem());
        let other = write("other.pem", &second.serialize_pem());
        let empty = write("empty.pem", "nothing\n");
        let garbage = write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let missing = dir.path().join("missing.pem");
        let good = Certificate::load(chain.clone(), key.clone()).unwrap();
        let table = [
            (&missing, &key, "missing.pem cannot be read"),
            (&chain, &missing, "missing.pem cannot be read"),
            (&empty, &key, "empty.pem has no PEM section CERTIFICATE"),
            (&key, &key, "key.pem has no PEM section CERTIFICATE"),
            (&chain, &chain, "chain.pem has no PEM section PRIVATE KEY"),
            (&chain, &other, "other.pem does not belong to the certificate"),
            (&garbage, &key, "garbage.pem"),
        ];
        for (chain, key, expected) in table {
            let error = Certificate::load(chain.clone(), key.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        good.reload().unwrap();
        std::fs::copy(&empty, &chain).unwrap();
        let kept = good.config().get_inner();
        good.reload().unwrap_err();
        assert!(Arc::ptr_eq(&kept, &good.config().get_inner()));
    }
}
