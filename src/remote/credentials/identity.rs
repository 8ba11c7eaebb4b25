//! Credentials as requests carry them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Shortest secret, in bytes, that is redacted from server-supplied text: a shorter one would match ordinary words.
const MIN_SCRUBBED_BYTES: usize = 6;

/// Resolved credentials for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// HTTP Basic (RFC 7617).
    Basic {
        /// User name; secret because some servers take the token as the user.
        user: Secret,
        /// Password or token.
        password: Secret,
    },
    /// Any other scheme of the `Authorization` header.
    Typed {
        /// Scheme name, such as `Bearer`.
        scheme: String,
        /// Value that follows the scheme.
        credential: Secret,
    },
}

impl Identity {
    /// Formats the value of the `Authorization` header.
    pub fn header(&self) -> Result<HeaderValue, String> {
        let text = match self {
            Identity::Basic { user, password } => {
                let plain = Zeroizing::new(format!("{}:{}", user.reveal(), password.reveal()));
                Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*plain)))
            }
            Identity::Typed { scheme, credential } => Zeroizing::new(format!("{scheme} {}", credential.reveal())),
        };
        // The message must not quote the secret.
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| "the secret contains a control character".to_string())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Returns the password or token.
    pub fn secret(&self) -> &Secret {
        match self {
            Identity::Basic { password, .. } => password,
            Identity::Typed { credential, .. } => credential,
        }
    }

    /// Redacts the secret, as it is and as the header has it, from text of a server.
    pub fn scrub(&self, text: String) -> String {
        let mut text = text;
        let header = self.header().ok();
        let encoded = header.as_ref().and_then(|header| header.to_str().ok()?.split_once(' ')).map(|(_, it)| it);
        for secret in [Some(self.secret().reveal()), encoded].into_iter().flatten() {
            if secret.len() >= MIN_SCRUBBED_BYTES {
                text = text.replace(secret, "***");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Identity {
        Identity::Basic { user: Secret::new(user), password: Secret::new(password) }
    }

    #[test]
    fn headers() {
        let header = basic("Aladdin", "open sesame").header().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(header.is_sensitive() && !format!("{header:?}").contains("QWxh"));
        let bearer = Identity::Typed { scheme: "Bearer".into(), credential: Secret::new("hunter2") };
        assert_eq!(bearer.header().unwrap().to_str().unwrap(), "Bearer hunter2");
        let cut = Identity::Typed { scheme: "Bearer".into(), credential: Secret::new("hunter2\r\nHost: x") };
        assert!(!cut.header().unwrap_err().contains("hunter2"));
    }

    #[test]
    fn what_a_server_repeats_is_not_shown() {
        let identity = basic("ann", "hunter2-hunter2");
        let encoded = BASE64_STANDARD.encode("ann:hunter2-hunter2");
        let text = identity.scrub(format!("bad password hunter2-hunter2 in Basic {encoded} for ann"));
        assert_eq!(text, "bad password *** in Basic *** for ann");
        assert_eq!(basic("ann", "a").scrub("a cat".into()), "a cat");
    }
}
