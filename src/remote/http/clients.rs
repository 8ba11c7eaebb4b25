//! What speaks HTTP for a remote: its certificates, its proxy.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, Url};

use crate::limits::Patience;
use gitferry_base::certificates::read_certificates;
use gitferry_base::error::chain;
use gitferry_config::RemoteConfig;

/// How often a silent connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// Probes without an answer that end a connection.
const PROBES: u32 = 3;
/// Idle connections kept to each host.
const MAX_IDLE_CONNECTIONS: usize = 8;
/// How gitferry names itself. Some servers speak the smart protocol only with what calls itself `git/`.
const USER_AGENT: &str = concat!("git/2.0 (gitferry ", env!("CARGO_PKG_VERSION"), ")");
/// Variables that name a proxy for `http:`.
const PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The HTTP clients of a remote. The certificates that the system trusts are hundreds of files: they are read when a
/// server is first spoken to that is to be recognised by them, and never for `http:`. Clones are the same ones.
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
    /// As configured; `ca` is read at once.
    pub fn new(config: &RemoteConfig, ca: Option<&Path>, patience: &Patience) -> Result<Clients, String> {
        // Where somebody else has chosen already, that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = config.proxy.as_ref().map(Proxy::all).transpose().map_err(text)?;
        let mut clients = Inner { proxy, connect: patience.connect, plain: None, secure: OnceLock::new() };
        match ca {
            Some(ca) => clients.secure = OnceLock::from(clients.make(Some(certificates(ca)?))?),
            None if is_proxy_secure(config) => {}
            None => clients.plain = Some(clients.make(Some(Vec::new()))?),
        }
        Ok(Clients(Arc::new(clients)))
    }

    /// What speaks to a server.
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
    /// Recognises servers by some certificates only, or else by those that the system trusts.
    fn make(&self, certificates: Option<Vec<Certificate>>) -> Result<Client, String> {
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .connect_timeout(self.connect)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(PROBE_EVERY)
            .tcp_keepalive_interval(PROBE_EVERY)
            .tcp_keepalive_retries(PROBES)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PROBE_EVERY);
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

/// Whether a proxy on the way to `http:` is itself spoken to over TLS.
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
        let clients = Clients::new(&config, None, &Patience::new(&config.limits)).unwrap();
        clients.of(&url("http://h/x")).unwrap();
        assert!(clients.0.secure.get().is_none());
        clients.of(&url("https://h/x")).unwrap();
        assert!(clients.0.secure.get().is_some());
        // The way to a proxy is a way, too.
        let config: RemoteConfig = toml::from_str("url = \"http://h/{name}\"\nproxy = \"https://p\"").unwrap();
        let clients = Clients::new(&config, None, &Patience::new(&config.limits)).unwrap();
        clients.of(&url("http://h/x")).unwrap();
        assert!(clients.0.secure.get().is_some());
    }
}
