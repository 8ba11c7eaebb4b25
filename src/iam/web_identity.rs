//! Tokens of OpenID Connect providers, such as GitHub Actions and GitLab: JSON Web Tokens signed with RS256 or ES256.
//!
//! [`UnverifiedToken::parse`] says which issuer a token claims, the account must have that provider, the caller brings
//! the issuer's keys (fetched over TLS and cached), and [`UnverifiedToken::verify`] proves the rest. The algorithm is
//! that of the key, never the token's choice. Signatures are those of `ring`: the crate `jsonwebtoken` would bring a
//! second `rsa`.
//!
//! Source: RFC 7515, RFC 7519, OpenID Connect Core 1.0 section 3.1.3.7.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gitferry_policy::ContextBuilder;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use crate::account::Account;
use crate::arn::AccountId;
use crate::error::{IamError, Result};
use crate::model::OidcProvider;

/// Longest token, in characters (the limit of `AssumeRoleWithWebIdentity`).
pub const MAX_TOKEN: usize = 20_000;
/// Largest difference between the clocks of issuer and host.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Largest number of keys of an issuer that are looked at.
pub const MAX_KEYS: usize = 100;
/// Longest value of a claim that policies see, in characters.
const MAX_CLAIM: usize = 1_024;

/// Public keys of an issuer: a JSON Web Key Set.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

/// The document of an issuer's keys is not a key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's keys do not parse: {0}")]
pub struct NotKeys(String);

impl Keys {
    /// Reads a JSON Web Key Set. Keys of kinds that are not accepted are left out.
    ///
    /// # Errors
    /// The text is not a key set, or has more than [`MAX_KEYS`] keys.
    pub fn parse(json: &[u8]) -> std::result::Result<Self, NotKeys> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|error| NotKeys(error.to_string()))?;
        if set.keys.len() > MAX_KEYS {
            return Err(NotKeys(format!("more than {MAX_KEYS} keys")));
        }
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Key>(key).ok());
        Ok(Keys(keys.filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig")).collect()))
    }

    /// Returns true if a key has this id. Without one the issuer's keys are worth fetching again.
    pub fn has(&self, id: Option<&str>) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == id)
    }
}

impl Key {
    fn verifies(&self, algorithm: &str, text: &[u8], signature: &[u8]) -> bool {
        if self.alg.as_deref().is_some_and(|own| own != algorithm) {
            return false;
        }
        match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            ("RS256", "RSA", _) => {
                let (Some(n), Some(e)) = (number(&self.n), number(&self.e)) else { return false };
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature).is_ok()
            }
            ("ES256", "EC", Some("P-256")) => {
                let (Some(x), Some(y)) = (number(&self.x), number(&self.y)) else { return false };
                let point = [&[4][..], &x, &y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn number(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()
}

#[derive(Clone, Debug, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct TokenClaims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Token whose signature is still to be proven.
#[derive(Clone, Debug)]
pub struct UnverifiedToken {
    signed: String,
    signature: Vec<u8>,
    header: Header,
    claims: TokenClaims,
}

/// Token that an identity provider of the account made for one of its audiences, and that is valid now.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    provider: Arc<OidcProvider>,
    subject: String,
    audience: String,
    more: BTreeMap<String, Value>,
}

fn invalid(reason: impl std::fmt::Display) -> IamError {
    IamError::invalid_identity_token(format!("The web identity token is not accepted: {reason}."))
}

impl UnverifiedToken {
    /// Reads a token, of which nothing is proven yet.
    ///
    /// # Errors
    /// `InvalidIdentityToken`.
    pub fn parse(token: &str) -> Result<Self> {
        if token.len() > MAX_TOKEN {
            return Err(invalid(format_args!("it has more than {MAX_TOKEN} characters")));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| invalid("it does not have three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| invalid("it does not have three parts"))?;
        let header: Header = part(header)?;
        if header.crit.is_some() {
            return Err(invalid("it has critical extensions"));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(invalid)?;
        Ok(UnverifiedToken { signed: signed.to_owned(), signature, header, claims: part(claims)? })
    }

    /// Id of the key that is said to have signed the token.
    pub fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Provider of the account that is said to have issued the token. Only its keys are fetched.
    ///
    /// # Errors
    /// `InvalidIdentityToken` if the account has no such provider.
    pub fn provider(&self, account: &Account) -> Result<Arc<OidcProvider>> {
        let url = self.claims.iss.strip_prefix("https://");
        let provider = url.and_then(|url| account.oidc_provider(url)).cloned();
        provider.ok_or_else(|| invalid("no OpenIDConnect provider found in your account for its issuer"))
    }

    /// Verifies signature, audience and times.
    ///
    /// # Errors
    /// `InvalidIdentityToken`, `ExpiredTokenException`.
    pub fn verify(self, provider: &Arc<OidcProvider>, keys: &Keys, now: Timestamp) -> Result<VerifiedToken> {
        if self.claims.iss.strip_prefix("https://") != Some(provider.url.as_str()) {
            return Err(invalid("its issuer is another"));
        }
        let of_id = keys.0.iter().filter(|key| self.header.kid.is_none() || key.kid == self.header.kid);
        let mut tried = of_id.map(|key| key.verifies(&self.header.alg, self.signed.as_bytes(), &self.signature));
        if !tried.any(|verified| verified) {
            return Err(invalid("no key of the issuer has signed it with RS256 or ES256"));
        }
        let audiences = match self.claims.aud {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        let known = audiences.into_iter().find(|audience| provider.client_ids.contains(audience));
        let audience = known.ok_or_else(|| invalid("incorrect token audience"))?;
        let skew = CLOCK_SKEW.as_secs_f64();
        let now = now.as_second() as f64;
        if self.claims.exp.is_nan() || now >= self.claims.exp + skew {
            return Err(IamError::expired_token("The web identity token that was passed is expired."));
        }
        if [self.claims.nbf, self.claims.iat].into_iter().flatten().any(|begin| begin.is_nan() || now < begin - skew) {
            return Err(invalid("it is not valid yet"));
        }
        if self.claims.sub.is_empty() {
            return Err(invalid("it has no subject"));
        }
        Ok(VerifiedToken { provider: provider.clone(), subject: self.claims.sub, audience, more: self.claims.more })
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(invalid)?;
    serde_json::from_slice(&json).map_err(invalid)
}

impl VerifiedToken {
    /// Subject, such as `repo:OWNER/NAME:ref:refs/heads/main`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The audience for which the provider is known.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// ARN of the provider.
    pub fn provider_arn(&self, account: &AccountId) -> String {
        self.provider.arn(account)
    }

    /// Condition keys `ISSUER:sub`, `ISSUER:aud`, and beyond AWS `ISSUER:CLAIM` for every other claim that is a text, a
    /// number or a flag, such as `token.actions.githubusercontent.com:repository`.
    pub(crate) fn describe(&self, context: ContextBuilder) -> ContextBuilder {
        let key = |claim: &str| format!("{}:{claim}", self.provider.url);
        let mut described = context;
        for (claim, value) in &self.more {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => continue,
            };
            if text.len() <= MAX_CLAIM {
                described = described.insert(&key(claim), [text]);
            }
        }
        // Last, so that no other claim takes their place.
        described.insert(&key("sub"), [&self.subject]).insert(&key("aud"), [&self.audience])
    }
}
