//! SSH public keys that are accepted: Ed25519, ECDSA on the NIST curves, RSA of 2,048 bits or more, and keys on
//! security tokens. All others are refused with the reason.

use ssh_key::{Algorithm, HashAlg};

/// Shortest RSA key, in bits.
pub const MIN_RSA_BITS: u32 = 2_048;
/// Longest RSA key, in bits. A longer one makes each login expensive, and the SSH server verifies none.
pub const MAX_RSA_BITS: u32 = 8_192;
/// Longest line of a public key, in bytes (the limit of `UploadSSHPublicKey`).
pub const MAX_LINE_BYTES: usize = 16_384;

/// Accepted SSH public key.
#[derive(Clone, Debug)]
pub struct PublicKey(ssh_key::PublicKey);

/// Reason for which a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is not an OpenSSH public key.
    #[error("the text is not one line of an OpenSSH public key, such as `ssh-ed25519 AAAA…`")]
    NotAKey,
    /// The algorithm is too weak or not supported.
    #[error(
        "keys are Ed25519, ECDSA (nistp256, nistp384, nistp521), RSA, or Ed25519 and ECDSA on a security token (sk-)"
    )]
    Algorithm,
    /// The RSA key has a wrong size.
    #[error("RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")]
    RsaSize,
    /// The key is a certificate.
    #[error("certificates are not accepted: upload the public key itself")]
    Certificate,
}

/// Checks that a key is accepted.
///
/// # Errors
/// [`Refused::Algorithm`] or [`Refused::RsaSize`].
pub fn check(key: &ssh_key::PublicKey) -> Result<(), Refused> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Ok(()),
        Algorithm::Rsa { .. } => {
            let bits = key.key_data().rsa().map_or(0, |rsa| rsa.key_size());
            if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) { Ok(()) } else { Err(Refused::RsaSize) }
        }
        _ => Err(Refused::Algorithm),
    }
}

impl PublicKey {
    /// Reads one line in the format of `authorized_keys` without options.
    ///
    /// # Errors
    /// The text is not a key, or a key that is not accepted.
    pub fn parse(line: &str) -> Result<Self, Refused> {
        let line = line.trim();
        if line.len() > MAX_LINE_BYTES || line.contains(['\n', '\r', '\0']) {
            return Err(Refused::NotAKey);
        }
        let algorithm = line.split(' ').next().unwrap_or_default();
        if algorithm.contains("-cert-v0") {
            return Err(Refused::Certificate);
        }
        if algorithm == "ssh-dss" {
            return Err(Refused::Algorithm);
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| Refused::NotAKey)?;
        check(&key)?;
        Ok(PublicKey(key))
    }

    /// SHA-256 fingerprint as OpenSSH prints it, `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Algorithm and key without the comment.
    pub fn without_comment(&self) -> String {
        let mut key = self.0.clone();
        key.set_comment("");
        key.to_openssh().unwrap_or_default()
    }
}
