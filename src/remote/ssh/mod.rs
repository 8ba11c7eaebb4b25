//! Git over SSH, spoken in this process: no `ssh` is run and none of its configuration is read.
//!
//! Each conversation has a connection of its own. A server is recognised by a key in `known_hosts`, or nothing is sent
//! to it.

mod connection;
mod known_hosts;
mod line;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, ChannelOpenHandle, Config, Handle as Session, Handler, Msg, Session as ClientSession};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, Limits, Preferred, SshId};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::connection::SshConnection;
use self::known_hosts::Known;
use self::line::Line;
use super::limits::Patience;
use super::said;
use super::secret::Secret;
use gitferry_base::error::chain;
use gitferry_config::SshUrl;
use gitferry_git::client::{ClientError, Connection};
use gitferry_git::protocol::{Service, Version};

/// How gitferry names itself.
const AGENT: &str = concat!("SSH-2.0-gitferry_", env!("CARGO_PKG_VERSION"));
/// How long the exchange of keys and the login may take, once the connection is open.
const LOGIN_TIME: Duration = Duration::from_secs(30);
/// How often a silent connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// Probes without an answer that end a connection.
const PROBES: usize = 3;
/// Bytes that the server may send before they are taken.
const WINDOW_BYTES: u32 = 2 << 20;
/// Messages of the server that wait to be taken; more stay in the network.
const MAX_MESSAGES: usize = 16;
/// Keys are exchanged anew after this many bytes in one direction, and after this time; servers may ask for it earlier.
const REKEY_BYTES: usize = 1 << 30;
const REKEY_TIME: Duration = Duration::from_hours(1);
/// Largest `known_hosts` that is read, in bytes.
const MAX_KNOWN_HOSTS_BYTES: u64 = 4 << 20;

/// The way to servers over SSH.
#[derive(Debug)]
pub struct Ssh {
    key: PathBuf,
    known_hosts: PathBuf,
    passphrase_env: Option<String>,
    patience: Patience,
    runtime: Handle,
}

/// Why there is no session.
#[derive(Debug)]
enum SessionError {
    Russh(russh::Error),
    Untrusted(String),
}

impl From<russh::Error> for SessionError {
    fn from(error: russh::Error) -> Self {
        SessionError::Russh(error)
    }
}

/// Recognises a server.
struct Recogniser(Known);

impl Handler for Recogniser {
    type Error = SessionError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SessionError> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.0.check(key).map(|()| true).map_err(SessionError::Untrusted)
            }
            // None is asked for.
            PublicKeyOrCertificate::Certificate(_) => {
                Err(SessionError::Untrusted("it shows a certificate instead of its key".into()))
            }
        }
    }

    // A server opens channels only where a client has asked for forwarding, which gitferry never does. russh would
    // accept them, as many as a server likes.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(uninvited())
    }
}

fn uninvited() -> SessionError {
    SessionError::Untrusted("it opens a channel that was not asked for".into())
}

impl Ssh {
    /// For the servers of one remote.
    pub fn new(
        key: PathBuf,
        known_hosts: PathBuf,
        passphrase_env: Option<String>,
        patience: Patience,
        runtime: Handle,
    ) -> Self {
        Ssh { key, known_hosts, passphrase_env, patience, runtime }
    }

    /// Asks a repository for a service.
    pub fn connect(
        &self,
        url: &SshUrl,
        shown: &str,
        service: Service,
        version: Version,
    ) -> Result<Box<dyn Connection>, ClientError> {
        let unusable =
            |reason: String| ClientError::Unauthorized { server: shown.into(), reason: format!("gitferry {reason}") };
        // Read each time, so that exchanged ones are noticed.
        let key = self.key().map_err(unusable)?;
        let known = self.known(url).map_err(|reason| ClientError::Untrusted { server: shown.into(), reason })?;
        let (session, line) = self.runtime.block_on(self.open(url, shown, known, key))?;
        let command = format!("{} {}", service.name(), quoted(&url.path));
        SshConnection::begin((session, line), shown, &command, version, self.patience.silence, &self.runtime)
            .map(|it| Box::new(it) as Box<dyn Connection>)
    }

    fn key(&self) -> Result<PrivateKey, String> {
        let shown = self.key.display();
        let passphrase = match &self.passphrase_env {
            None => None,
            Some(name) => {
                let text = std::env::var(name).map_err(|_| format!("has no passphrase: {name} is not set"))?;
                Some(Secret::new(text))
            }
        };
        let loaded = russh::keys::load_secret_key(&self.key, passphrase.as_ref().map(Secret::reveal));
        loaded.map_err(|error| match (error, &self.passphrase_env) {
            (russh::keys::Error::IO(error), _) => format!("cannot read the key {shown}: {error}"),
            (russh::keys::Error::KeyIsEncrypted, None) => {
                format!("has no passphrase for the key {shown}: name its variable in passphrase_env")
            }
            (_, Some(_)) => format!("cannot use the key {shown}: it is no private key, or the passphrase is wrong"),
            (_, None) => format!("cannot use the key {shown}: it is no private key that is understood"),
        })
    }

    fn known(&self, url: &SshUrl) -> Result<Known, String> {
        let text = read_limited(&self.known_hosts, MAX_KNOWN_HOSTS_BYTES);
        let text = text.map_err(|error| format!("{} cannot be read: {error}", self.known_hosts.display()))?;
        Ok(Known::read(&text, &url.host, url.port))
    }

    /// A session with a server that was recognised, as the user of the URL; its connection is cut when the guard is dropped.
    async fn open(
        &self,
        url: &SshUrl,
        shown: &str,
        known: Known,
        key: PrivateKey,
    ) -> Result<(Session<Recogniser>, DropGuard), ClientError> {
        let broken = |doing, error| ClientError::Connection { server: shown.into(), doing, error };
        let late = |doing, time: Duration| {
            let text = format!("the server did not answer for {time:?}");
            broken(doing, std::io::Error::new(std::io::ErrorKind::TimedOut, text))
        };
        let connecting = "connecting";
        let tcp = dial(&url.host, url.port, self.patience.connect).await;
        let tcp = tcp.map_err(|error| match error {
            Some(error) => broken(connecting, error),
            None => late(connecting, self.patience.connect),
        })?;
        let config = Arc::new(config(&known));
        let login = "logging in";
        let patience = LOGIN_TIME.min(self.patience.silence);
        let cut = CancellationToken::new();
        let tcp = Line::new(tcp, &cut);
        let guard = cut.drop_guard();
        let open = async {
            let mut session = russh::client::connect_stream(config, tcp, Recogniser(known)).await?;
            let accepted = authenticate(&mut session, &url.user, key).await?;
            Ok::<_, SessionError>((session, accepted))
        };
        let server = || shown.to_owned();
        match tokio::time::timeout(patience, open).await {
            Err(_) => Err(late(login, patience)),
            Ok(Ok((session, Ok(())))) => Ok((session, guard)),
            Ok(Ok((_, Err(reason)))) => Err(ClientError::Unauthorized { server: server(), reason }),
            Ok(Err(SessionError::Untrusted(reason))) => Err(ClientError::Untrusted { server: server(), reason }),
            Ok(Err(SessionError::Russh(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. }))) => {
                let reason = "it has no key of a kind that known_hosts has for it".into();
                Err(ClientError::Untrusted { server: server(), reason })
            }
            Ok(Err(SessionError::Russh(error))) => Err(broken(login, failed(&error))),
        }
    }
}

/// An error of the session, which may quote the server, as text that is fit to be shown.
fn failed(error: &russh::Error) -> std::io::Error {
    let text = said::shown(chain(error).as_bytes());
    std::io::Error::other(text.unwrap_or_else(|| "the session failed".into()))
}

/// Connects to the first address of a host that answers, each of which has its share of the time that is left: one that
/// swallows what it is sent keeps nobody from the next. Where time was not enough, there is no error.
async fn dial(host: &str, port: u16, time: Duration) -> Result<TcpStream, Option<std::io::Error>> {
    let end = Instant::now() + time;
    let addresses = tokio::time::timeout_at(end, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<_> = addresses.map_err(|_| None)?.map_err(Some)?.collect();
    let mut failed = Some(std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address"));
    for (tried, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = end.saturating_duration_since(Instant::now()) / others;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = None,
        }
    }
    Err(failed)
}

/// A server is asked for a key of a kind that it is known by; RSA only with SHA-2.
fn config(known: &Known) -> Config {
    let mut preferred = Preferred::default();
    let wanted = |algorithm: &&Algorithm| {
        !matches!(algorithm, Algorithm::Rsa { hash: None }) && (known.is_empty() || known.has_kind(algorithm))
    };
    preferred.key = preferred.key.iter().filter(wanted).cloned().collect::<Vec<_>>().into();
    Config {
        client_id: SshId::Standard(AGENT.into()),
        window_size: WINDOW_BYTES,
        channel_buffer_size: MAX_MESSAGES,
        preferred,
        keepalive_interval: Some(PROBE_EVERY),
        keepalive_max: PROBES,
        nodelay: true,
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        ..Config::default()
    }
}

/// Logs in. The inner error is a refusal.
async fn authenticate(
    session: &mut Session<Recogniser>,
    user: &str,
    key: PrivateKey,
) -> Result<Result<(), String>, russh::Error> {
    let mut hash = None;
    if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        hash = match session.best_supported_rsa_hash().await? {
            Some(Some(hash)) => Some(hash),
            None => Some(HashAlg::Sha512),
            Some(None) => return Ok(Err("it takes RSA keys with SHA-1 only, which is broken".into())),
        };
    }
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    Ok(match session.authenticate_publickey(user, key).await? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } => Err(format!("the key is not accepted for {user}")),
    })
}

/// A path as one word of a shell, as Git quotes it.
fn quoted(path: &str) -> String {
    let mut word = String::from("'");
    for c in path.chars() {
        match c {
            '\'' | '!' => word.extend(['\'', '\\', c, '\'']),
            c => word.push(c),
        }
    }
    word.push('\'');
    word
}

fn read_limited(file: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word() {
        for (path, word) in [
            ("/srv/app.git", "'/srv/app.git'"),
            ("~ann/x", "'~ann/x'"),
            ("/a'b; rm -rf !", "'/a'\\''b; rm -rf '\\!''"),
            ("/$(x)`y`", "'/$(x)`y`'"),
        ] {
            assert_eq!(quoted(path), word);
        }
    }
}
