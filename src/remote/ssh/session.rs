//! A session with an identified server: connected, its host key verified, logged in.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, ChannelOpenHandle, Config, Handle as Session, Handler, Msg, Session as ClientSession};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, Limits, Preferred, SshId};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cancellable::CancellableTcp;
use super::known_hosts::HostKeys;
use crate::limits::Timeouts;
use crate::server_text;
use gitferry_base::error::chain;
use gitferry_config::SshUrl;
use gitferry_git::client::ClientError;

/// Identification string (RFC 4253, section 4.2).
const AGENT: &str = concat!("SSH-2.0-gitferry_", env!("CARGO_PKG_VERSION"));
/// Limit for key exchange and login, once the connection is open.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of keepalive requests on an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered keepalive requests after which a connection is closed.
const MAX_KEEPALIVES: usize = 3;
/// Channel window: bytes that the server may send ahead of the reader.
const WINDOW_BYTES: u32 = 2 << 20;
/// Most messages of the server queued in memory.
const MAX_MESSAGES: usize = 16;
/// Bytes in one direction after which keys are exchanged again; servers may ask earlier.
const REKEY_BYTES: usize = 1 << 30;
/// Time after which keys are exchanged again.
const REKEY_TIME: Duration = Duration::from_hours(1);

/// Failure to establish a session.
#[derive(Debug)]
pub enum SessionError {
    Russh(russh::Error),
    Untrusted(String),
}

impl From<russh::Error> for SessionError {
    fn from(error: russh::Error) -> Self {
        SessionError::Russh(error)
    }
}

/// Verifies the server's host key and refuses channels that the server opens.
pub struct HostVerifier(HostKeys);

impl Handler for HostVerifier {
    type Error = SessionError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, SessionError> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.0.verify(key).map(|()| true).map_err(SessionError::Untrusted)
            }
            // gitferry offers no certificate algorithm.
            PublicKeyOrCertificate::Certificate(_) => {
                Err(SessionError::Untrusted("the server presents a certificate instead of a host key".into()))
            }
        }
    }

    // A server may open channels only after a client has requested forwarding, which gitferry never does. russh would
    // accept any number of them.

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
        Err(unsolicited_channel())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(unsolicited_channel())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(unsolicited_channel())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(unsolicited_channel())
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
        Err(unsolicited_channel())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(unsolicited_channel())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut ClientSession,
    ) -> Result<(), SessionError> {
        Err(unsolicited_channel())
    }
}

fn unsolicited_channel() -> SessionError {
    SessionError::Untrusted("the server opened a channel that gitferry did not request".into())
}

/// Connects, verifies the host key and logs in as the user of the URL. Dropping the guard cuts the connection.
pub async fn open(
    url: &SshUrl,
    shown: &str,
    known: HostKeys,
    key: PrivateKey,
    timeouts: Timeouts,
) -> Result<(Session<HostVerifier>, DropGuard), ClientError> {
    let broken = |doing, error| ClientError::Connection { server: shown.into(), doing, error };
    let late = |doing, time: Duration| {
        let text = format!("the server did not answer for {time:?}");
        broken(doing, std::io::Error::new(std::io::ErrorKind::TimedOut, text))
    };
    let connecting = "connecting";
    let tcp = dial(&url.host, url.port, timeouts.connect).await;
    let tcp = tcp.map_err(|error| match error {
        Some(error) => broken(connecting, error),
        None => late(connecting, timeouts.connect),
    })?;
    let config = Arc::new(config(&known));
    let login = "logging in";
    let time = LOGIN_TIMEOUT.min(timeouts.idle);
    let token = CancellationToken::new();
    let tcp = CancellableTcp::new(tcp, &token);
    let guard = token.drop_guard();
    let open = async {
        let mut session = russh::client::connect_stream(config, tcp, HostVerifier(known)).await?;
        let accepted = authenticate(&mut session, &url.user, key).await?;
        Ok::<_, SessionError>((session, accepted))
    };
    let server = || shown.to_owned();
    match tokio::time::timeout(time, open).await {
        Err(_) => Err(late(login, time)),
        Ok(Ok((session, Ok(())))) => Ok((session, guard)),
        Ok(Ok((_, Err(reason)))) => Err(ClientError::Unauthorized { server: server(), reason }),
        Ok(Err(SessionError::Untrusted(reason))) => Err(ClientError::Untrusted { server: server(), reason }),
        Ok(Err(SessionError::Russh(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. }))) => {
            let reason = "the server offers no host key of an algorithm that known_hosts lists for it".into();
            Err(ClientError::Untrusted { server: server(), reason })
        }
        Ok(Err(SessionError::Russh(error))) => Err(broken(login, failed(&error))),
    }
}

/// Converts an error of the session, which may quote the server, with sanitized text.
pub fn failed(error: &russh::Error) -> std::io::Error {
    let text = server_text::one_line(chain(error).as_bytes());
    std::io::Error::other(text.unwrap_or_else(|| "the session failed".into()))
}

/// Connects to the first address of a host that answers. Each address gets an equal share of the remaining time, so
/// that one that drops packets does not starve the next. Returns `Err(None)` on timeout.
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

/// Offers only host key algorithms that `known_hosts` has for the server, and RSA only with SHA-2.
fn config(known: &HostKeys) -> Config {
    let mut preferred = Preferred::default();
    let wanted = |algorithm: &&Algorithm| {
        !matches!(algorithm, Algorithm::Rsa { hash: None }) && (known.is_empty() || known.has_algorithm(algorithm))
    };
    preferred.key = preferred.key.iter().filter(wanted).cloned().collect::<Vec<_>>().into();
    Config {
        client_id: SshId::Standard(AGENT.into()),
        window_size: WINDOW_BYTES,
        channel_buffer_size: MAX_MESSAGES,
        preferred,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: MAX_KEEPALIVES,
        nodelay: true,
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        ..Config::default()
    }
}

/// Logs in with a key. The inner error is the server's refusal.
async fn authenticate(
    session: &mut Session<HostVerifier>,
    user: &str,
    key: PrivateKey,
) -> Result<Result<(), String>, russh::Error> {
    let mut hash = None;
    if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        hash = match session.best_supported_rsa_hash().await? {
            Some(Some(hash)) => Some(hash),
            None => Some(HashAlg::Sha512),
            Some(None) => {
                let reason = "the server accepts RSA keys only with SHA-1, which is broken; use an Ed25519 key";
                return Ok(Err(reason.into()));
            }
        };
    }
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    Ok(match session.authenticate_publickey(user, key).await? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } => Err(format!("the server does not accept the key for the user {user}")),
    })
}
