//! Files and sockets of the hosts that `gitferry up` runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use gitferry_config::{AuthConfig, Config, HostConfig, TlsConfig};
use gitferry_host::Host;
use gitferry_host::auth::iam::IamAuthenticator;
use gitferry_host::auth::tokens::TokenFile;
use gitferry_host::listen::Listening;
use gitferry_host::listen::tls::Certificate;
use gitferry_host::ssh::SshListening;
use gitferry_host::ssh::authorized_keys::AuthorizedKeys;
use gitferry_host::ssh::host_keys::HostKeys;
use gitferry_host::ssh::identities::{AnyKey, SshAccess, SshIdentities};
use tokio::sync::watch;

use super::failure::Failure;
use super::reload::Files;

/// Certificate, tokens and SSH keys of one host, as its files hold them.
#[derive(Clone, Debug)]
pub struct HostFiles {
    region: String,
    listen: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    tokens: Option<Arc<TokenFile>>,
    ssh: Option<SshFiles>,
}

/// Files of an SSH server.
#[derive(Clone, Debug)]
struct SshFiles {
    listen: SocketAddr,
    /// User name in the URL that is shown to the operator.
    user: &'static str,
    host_keys: Arc<HostKeys>,
    /// `None` if the account has the keys, or every key logs in.
    authorized: Option<Arc<AuthorizedKeys>>,
}

impl HostFiles {
    /// Reads the files of a host, and makes SSH host keys that are missing.
    pub fn open(config: &Config, region: &str, host: &HostConfig) -> Result<Self, Failure> {
        Ok(HostFiles {
            region: region.to_owned(),
            listen: host.listen,
            certificate: open_certificate(config, host)?,
            tokens: open_tokens(config, region, host)?,
            ssh: open_ssh(config, region, host)?,
        })
    }

    /// Adds the files to those that are read again when they change.
    pub fn reload_with(&self, files: &mut Files) {
        files.certificates.extend(self.certificate.clone());
        files.tokens.extend(self.tokens.clone());
        files.ssh_keys.extend(self.ssh.as_ref().and_then(|ssh| ssh.authorized.clone()));
    }

    /// Tokens of the clients; `None` for a host that authenticates otherwise.
    pub fn tokens(&self) -> Option<Arc<TokenFile>> {
        self.tokens.clone()
    }

    /// Access over SSH by the keys of `account`, or else of the file of keys, or else by every key. `None` for a host
    /// without an SSH server.
    pub fn ssh_access(&self, account: Option<Arc<IamAuthenticator>>) -> Option<SshAccess> {
        let SshFiles { host_keys, authorized, .. } = self.ssh.clone()?;
        let identities: Arc<dyn SshIdentities> = match (account, authorized) {
            (Some(account), _) => account,
            (None, Some(authorized)) => authorized,
            (None, None) => Arc::new(AnyKey),
        };
        Some(SshAccess { identities, host_keys })
    }

    /// Binds the sockets of a host.
    pub fn bind(&self, host: Arc<Host>) -> Result<Sockets, Failure> {
        let region = &self.region;
        let failed = move |address: SocketAddr, what: &'static str| {
            move |error: io::Error| {
                Failure::from(error).about(&format!("cannot listen on {address} for {what}{region}"))
            }
        };
        let ssh = match &self.ssh {
            Some(ssh) => Some(SshListening::bind(host.clone(), ssh.listen).map_err(failed(ssh.listen, "SSH to "))?),
            None => None,
        };
        let http = Listening::bind(host, self.listen, self.certificate.clone()).map_err(failed(self.listen, ""))?;
        Ok(Sockets { http, ssh })
    }

    /// Lines about the SSH server for the operator: its URL, and the fingerprints that clients ask about.
    pub fn ssh_lines(&self) -> Vec<String> {
        let Some(SshFiles { listen, user, host_keys, .. }) = &self.ssh else { return Vec::new() };
        let region = &self.region;
        let url = format!("{region:<12} ssh://{user}@{listen}");
        let prints = host_keys.fingerprints().into_iter().map(|print| format!("{:<12} {print}", ""));
        std::iter::once(url).chain(prints).collect()
    }
}

/// The sockets of one host.
#[derive(Debug)]
pub struct Sockets {
    http: Listening,
    ssh: Option<SshListening>,
}

impl Sockets {
    /// Serves until `stop` turns true, and requests in progress have ended.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let Sockets { http, ssh } = self;
        let http = http.serve(stop.clone());
        match ssh {
            Some(ssh) => tokio::try_join!(http, ssh.serve(stop)).map(|((), ())| ()),
            None => http.await,
        }
    }
}

fn open_certificate(config: &Config, host: &HostConfig) -> Result<Option<Arc<Certificate>>, Failure> {
    let Some(TlsConfig { cert, key }) = &host.tls else { return Ok(None) };
    Ok(Some(Arc::new(Certificate::load(config.path(cert), config.path(key))?)))
}

/// Opens the token file of a host; `None` for a host that authenticates otherwise.
fn open_tokens(config: &Config, region: &str, host: &HostConfig) -> Result<Option<Arc<TokenFile>>, Failure> {
    let AuthConfig::Tokens { tokens } = &host.auth else { return Ok(None) };
    let listen = host.listen;
    if host.tls.is_none() && host.trusted_proxies.is_empty() && !listen.ip().is_loopback() {
        let advice = "set `tls`, or `trusted_proxies` if a proxy in front of the host ends TLS";
        tracing::warn!(region, %listen, advice, "tokens and content cross the network unencrypted");
    }
    let file = TokenFile::load(&config.path(tokens)).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Some(Arc::new(file)))
}

fn open_ssh(config: &Config, region: &str, host: &HostConfig) -> Result<Option<SshFiles>, Failure> {
    let Some(listen) = host.ssh else { return Ok(None) };
    let keys = host.ssh_authorized_keys.as_ref().map(|keys| AuthorizedKeys::load(&config.path(keys)));
    let authorized = keys.transpose().map_err(|error| Failure::usage(error.to_string()))?.map(Arc::new);
    let host_keys = Arc::new(HostKeys::open(&config.ssh_host_keys(region, host))?);
    let user = if matches!(host.auth, AuthConfig::Iam(_)) { "SSH-KEY-ID" } else { "git" };
    Ok(Some(SshFiles { listen, user, host_keys, authorized }))
}
