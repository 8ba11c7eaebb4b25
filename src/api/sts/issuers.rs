//! Keys of identity providers, fetched over HTTPS from the provider's discovery document and kept for a time.
//!
//! Only providers that the account has are asked. A token names its provider before anything about it is proven, so
//! fetching is bounded: in size, in time, in rate for each provider, and in its targets. Neither redirects nor proxies
//! are followed, and a provider in a private network is asked only if the configuration names its address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gitferry_base::capacity::capacity;
use gitferry_base::error::chain;
use gitferry_iam::web_identity::Keys;
use lru::LruCache;
use reqwest::{Certificate, Client, Url};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tokio::time::Instant;

use super::public_addresses::{Fixed, PublicOnly};

/// Age at which keys are fetched again.
pub const REFRESH_AFTER: Duration = Duration::from_secs(15 * 60);
/// Greatest age of keys that are used while the provider does not answer.
pub const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Shortest time between two fetches from one provider, also for a key that is not among those that are kept.
pub const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time of a fetch: both documents.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;
/// Largest number of providers whose keys are kept: the quota of an account.
pub const MAX_ISSUERS: usize = 100;
/// Largest number of providers that are asked at a time.
const MAX_FETCHES: usize = 8;
/// Path of the discovery document below the issuer (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The configuration's words about a provider.
#[derive(Clone, Debug, Default)]
pub struct IssuerSettings {
    /// Address and port to connect to in place of those of the name, in a private network, too.
    pub address: Option<SocketAddr>,
    /// Certificates that are trusted in place of the system's.
    pub certificates: Option<Vec<CertificateDer<'static>>>,
}

/// Keys of a provider cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoKeys(String);

/// Keys of a provider that were fetched, and the last attempt.
#[derive(Debug, Default)]
struct Kept {
    keys: Option<(Arc<Keys>, Instant)>,
    tried: Option<Instant>,
    failure: Option<NoKeys>,
}

/// Keys of the account's identity providers.
pub struct IssuerKeys {
    settings: BTreeMap<String, IssuerSettings>,
    kept: Mutex<LruCache<String, Arc<tokio::sync::Mutex<Kept>>>>,
    fetching: tokio::sync::Semaphore,
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerKeys({} issuers)", self.kept.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Kept {
    /// Kept keys that are used at `now`, unless they have to be fetched.
    fn usable(&self, key_id: Option<&str>, now: Instant) -> Option<Result<Arc<Keys>, NoKeys>> {
        let asked_just_now = self.tried.is_some_and(|tried| now.duration_since(tried) < MIN_INTERVAL);
        let fresh = self.keys.as_ref().filter(|(keys, at)| {
            let knows = key_id.is_none() || keys.has(key_id);
            now.duration_since(*at) < REFRESH_AFTER && knows
        });
        match fresh {
            Some((keys, _)) => Some(Ok(keys.clone())),
            None if asked_just_now => Some(self.last(now)),
            None => None,
        }
    }

    /// Keys that were fetched last, if they are not too old, or else the reason for which there are none.
    fn last(&self, now: Instant) -> Result<Arc<Keys>, NoKeys> {
        match &self.keys {
            Some((keys, at)) if now.duration_since(*at) < MAX_AGE => Ok(keys.clone()),
            _ => Err(self.failure.clone().unwrap_or_else(|| NoKeys("the keys are too old".to_owned()))),
        }
    }

    fn learn(&mut self, fetched: Result<Keys, NoKeys>, now: Instant) {
        self.tried = Some(now);
        match fetched {
            Ok(keys) => {
                self.keys = Some((Arc::new(keys), now));
                self.failure = None;
            }
            Err(failure) => self.failure = Some(failure),
        }
    }
}

impl IssuerKeys {
    /// Fetches keys as `settings` say about issuers (without `https://`), and from public addresses otherwise.
    pub fn new(settings: BTreeMap<String, IssuerSettings>) -> Self {
        let fetching = tokio::sync::Semaphore::new(MAX_FETCHES);
        IssuerKeys { settings, kept: Mutex::new(LruCache::new(capacity::<MAX_ISSUERS>())), fetching }
    }

    /// Keys of an issuer (without `https://`), with the key of an id if the issuer has it.
    ///
    /// # Errors
    /// The issuer does not answer as it should, and no keys are kept that are young enough.
    pub async fn keys(&self, issuer: &str, key_id: Option<&str>) -> Result<Arc<Keys>, NoKeys> {
        let kept = {
            let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            all.get_or_insert(issuer.to_owned(), Arc::default).clone()
        };
        // One request to an issuer at a time: those that wait find its result.
        let mut kept = kept.lock().await;
        if let Some(usable) = kept.usable(key_id, Instant::now()) {
            return usable;
        }
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch(issuer)).await;
        let late = || NoKeys(format!("{issuer} did not answer within {} s", FETCH_TIMEOUT.as_secs()));
        let now = Instant::now();
        kept.learn(fetched.unwrap_or_else(|_| Err(late())), now);
        kept.last(now)
    }

    async fn fetch(&self, issuer: &str) -> Result<Keys, NoKeys> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let _permit = self.fetching.acquire().await.map_err(|error| NoKeys(error.to_string()))?;
        let url = format!("https://{issuer}");
        let document = self.get(&format!("{url}{DISCOVERY}"), issuer).await?;
        let discovery: Discovery = serde_json::from_slice(&document)
            .map_err(|error| NoKeys(format!("the discovery document of {issuer} does not parse: {error}")))?;
        if discovery.issuer.trim_end_matches('/') != url {
            return Err(NoKeys(format!("the discovery document of {issuer} is of another issuer")));
        }
        let keys = self.get(&discovery.jwks_uri, issuer).await?;
        Keys::parse(&keys).map_err(|error| NoKeys(format!("{issuer}: {error}")))
    }

    /// Gets a document over HTTPS.
    async fn get(&self, url: &str, issuer: &str) -> Result<Vec<u8>, NoKeys> {
        let wrong = |reason: &str| NoKeys(format!("{issuer} names {url:.200}, {reason}"));
        let parsed = Url::parse(url).map_err(|_| wrong("which is no URL"))?;
        let host = parsed.host_str().unwrap_or_default().to_owned();
        if parsed.scheme() != "https" || host.is_empty() || !parsed.username().is_empty() {
            return Err(wrong("which is not https"));
        }
        // Settings are about the issuer's own host, and about no other that it names.
        let own = issuer.split('/').next() == Some(host.as_str()) && parsed.port().is_none();
        let settings = self.settings.get(issuer).filter(|_| own);
        if settings.is_none() && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(wrong("an address in place of a name"));
        }
        let failed = |error: reqwest::Error| NoKeys(format!("{host}: {}", chain(&error.without_url())));
        let client = client(settings).map_err(failed)?;
        let mut response = client.get(parsed).header("accept", "application/json").send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(NoKeys(format!("{host} answered with status {}", response.status())));
        }
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            document.extend_from_slice(&chunk);
            if document.len() > MAX_DOCUMENT_BYTES {
                return Err(NoKeys(format!("{host} sent more than {MAX_DOCUMENT_BYTES} bytes")));
            }
        }
        Ok(document)
    }
}

/// Client of one fetch. Fetches are rare, and a client that is not kept keeps no connection.
fn client(settings: Option<&IssuerSettings>) -> reqwest::Result<Client> {
    // Fails if the process has already installed a provider, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT);
    let address = settings.and_then(|settings| settings.address);
    let client = match address {
        Some(address) => client.dns_resolver(Arc::new(Fixed(address))),
        None => client.dns_resolver(Arc::new(PublicOnly)),
    };
    let Some(trusted) = settings.and_then(|settings| settings.certificates.as_ref()) else { return client.build() };
    let trusted: reqwest::Result<Vec<Certificate>> = trusted.iter().map(|one| Certificate::from_der(one)).collect();
    client.tls_certs_only(trusted?).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(id: &str) -> Keys {
        Keys::parse(format!(r#"{{"keys": [{{"kty": "RSA", "kid": "{id}"}}]}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn keys_are_kept_fetched_again_and_given_up() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let failure = || Err(NoKeys("down".into()));
        let mut kept = Kept::default();
        assert!(kept.usable(None, at(0)).is_none());
        kept.learn(failure(), at(0));
        // A provider that is down is asked again after a while only.
        assert_eq!(kept.usable(None, at(29)).unwrap().unwrap_err(), NoKeys("down".into()));
        assert!(kept.usable(None, at(30)).is_none());
        kept.learn(Ok(keys("a")), at(30));
        assert!(kept.usable(Some("a"), at(31)).unwrap().unwrap().has(Some("a")));
        // An unknown key does not make each token a request.
        assert!(!kept.usable(Some("b"), at(59)).unwrap().unwrap().has(Some("b")));
        assert!(kept.usable(Some("b"), at(60)).is_none());
        kept.learn(Ok(keys("b")), at(60));
        assert!(kept.usable(Some("b"), at(60 + 899)).unwrap().is_ok());
        assert!(kept.usable(Some("b"), at(60 + 900)).is_none());
        kept.learn(failure(), at(960));
        assert!(kept.last(at(961)).unwrap().has(Some("b")));
        assert!(kept.usable(Some("b"), at(989)).unwrap().is_ok());
        assert_eq!(kept.last(at(60 + 3_600)).unwrap_err(), NoKeys("down".into()));
    }

    #[tokio::test]
    async fn only_public_https_is_asked() {
        let issuers = IssuerKeys::new(BTreeMap::new());
        for (url, reason) in [
            ("http://issuer.example/keys", "not https"),
            ("file:///etc/passwd", "not https"),
            ("https://user@issuer.example/", "not https"),
            ("https://169.254.169.254/latest/meta-data", "an address in place of a name"),
            ("https://[::1]/", "an address in place of a name"),
            ("https://0x7f000001/", "an address in place of a name"),
            ("https://localhost/keys", "no public address"),
            ("nothing", "no URL"),
        ] {
            let error = issuers.get(url, "issuer.example").await.unwrap_err();
            assert!(error.to_string().contains(reason), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn settings_are_about_the_issuers_own_host() {
        let settings = IssuerSettings { address: Some("127.0.0.1:1".parse().unwrap()), certificates: None };
        let issuers = IssuerKeys::new(BTreeMap::from([("issuer.example".to_owned(), settings)]));
        let refused = issuers.get("https://issuer.example/keys", "issuer.example").await.unwrap_err().to_string();
        assert!(!refused.contains("public"), "{refused}");
        let other = issuers.get("https://localhost/keys", "issuer.example").await.unwrap_err().to_string();
        assert!(other.contains("no public address"), "{other}");
    }
}
