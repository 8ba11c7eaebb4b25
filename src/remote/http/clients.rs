//! HTTP clients of a remote, with its certificates and proxy.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, Url};

use crate::limits::Timeouts;
use gitferry_base::certificates::read_certificates;
use gitferry_base::error::chain;
use gitferry_config::RemoteConfig;

/// Interval of keepalive probes on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered keepalive probes after which a connection is closed.
const KEEPALIVE_RETRIES: u32 = 3;
/// Most idle connections kept per host.
const MAX_IDLE_CONNECTIONS: usize = 8;
/// `User-Agent` of requests. Some servers offer the smart protocol only to agents that begin with `git/`.
const USER_AGENT: &str = concat!("git/2.0 (gitferry ", env!("CARGO_PKG_VERSION"), ")");
/// Environment variables that name a proxy for `http:` URLs.
const PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// HTTP clients of a remote; clones share connections.
///
/// The system's trusted certificates, often hundreds of files, are read before the first request that needs them, and
/// never for `http:` URLs.
#[derive(Clone, Debug)]
pub struct Clients(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    proxy: Option<Proxy>,
    connect: Duration,
    plain: Option<Client>,
    secure: OnceLock<Client>,
}

impl Clients {
    /// Prepares the clients of a remote. Reads the file `ca` at once.
    pub fn new(config: &RemoteConfig, ca: Option<&Path>, timeouts: &Timeouts) -> Result<Clients, String> {
        // Fails if the process has already installed a provider, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = config.proxy.as_ref().map(Proxy::all).transpose().map_err(text)?;
        let mut clients = Inner { proxy, connect: timeouts.connect, plain: None, secure: OnceLock::new() };
        match ca {
            Some(ca) => clients.secure = OnceLock::from(clients.make(Some(certificates(ca)?))?),
            None if is_proxy_secure(config) => {}
            None => clients.plain = Some(clients.make(Some(Vec::new()))?),
        }
        Ok(Clients(Arc::new(clients)))
    }

    /// Returns the client for a URL.
    pub fn of(&self, url: &Url) -> Result<&Client, String> {
        let clients = &*self.0;
        match (&clients.plain, clients.secure.get()) {
            (Some(plain), _) if url.scheme() == "http" => Ok(plain),
            (_, Some(secure)) => Ok(secure),
            (_, None) => {
                let secure = clients.make(None)?;
                Ok(clients.secure.get_or_init(|| secure))
            }
        }
    }
}

impl Inner {
    /// Builds a client that trusts only `certificates`, or those of the system for `None`.
    fn make(&self, certificates: Option<Vec<Certificate>>) -> Result<Client, String> {
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .connect_timeout(self.connect)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE_INTERVAL)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_RETRIES)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL);
        if let Some(certificates) = certificates {
            client = client.tls_certs_only(certificates);
        }
        if let Some(proxy) = &self.proxy {
            client = client.proxy(proxy.clone());
        }
        client.build().map_err(text)
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, String> {
    let read = read_certificates("the certificates of a remote", file).map_err(|error| error.to_string())?;
    read.iter().map(|one| Certificate::from_der(one)).collect::<Result<_, _>>().map_err(text)
}

/// Returns true if a proxy for `http:` URLs is itself reached over TLS.
fn is_proxy_secure(config: &RemoteConfig) -> bool {
    let named = PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    let mut proxies = config.proxy.iter().cloned().chain(named);
    proxies.any(|proxy| proxy.to_ascii_lowercase().starts_with("https:"))
}

fn text(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_certificates_are_read_where_they_are_needed() {
        let url = |text: &str| Url::parse(text).unwrap();
        let config: RemoteConfig = toml::from_str("url = \"http://h/{name}\"").unwrap();
        let clients = Clients::new(&config, None, &Timeouts::new(&config.limits)).unwrap();
        clients.of(&url("http://h/x")).unwrap();
        assert!(clients.0.secure.get().is_none());
        clients.of(&url("https://h/x")).unwrap();
        assert!(clients.0.secure.get().is_some());
        // The way to a proxy is a way, too.
        let config: RemoteConfig = toml::from_str("url = \"http://h/{name}\"\nproxy = \"https://p\"").unwrap();
        let clients = Clients::new(&config, None, &Timeouts::new(&config.limits)).unwrap();
        clients.of(&url("http://h/x")).unwrap();
        assert!(clients.0.secure.get().is_some());
    }
}
