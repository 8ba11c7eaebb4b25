//! From the listening socket to sessions, with graceful shutdown.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::server::{Config, Handle, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::host_keys::HostKeys;
use super::identities::{SshAccess, SshIdentities};
use super::link::{Link, Socket};
use super::session::SshSession;
use crate::Host;
use crate::client::connections::Connections;
use crate::listen::{bind_socket, prepare_stream};

/// Identification of the server, without a version.
const SERVER_ID: SshId = SshId::Standard(Cow::Borrowed("SSH-2.0-gitferry"));
/// Time that every refused key takes, known or not.
const REJECTION_TIME: Duration = Duration::from_millis(100);
/// Most refused keys of one connection.
const MAX_REJECTIONS: usize = 10;
/// Window of a channel, in bytes, as OpenSSH's.
const WINDOW_BYTES: u32 = 2 << 20;
/// Largest packet that clients are asked to send, in bytes.
const MAX_PACKET_BYTES: u32 = 32 * 1024;
/// Time for a client to leave by itself once the host stops and its commands have ended.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a client to end a connection in order that the host ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an error of accepting a connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Key exchange. All have forward secrecy; none takes the exponentiations of finite fields, which cost the server most.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// Algorithms of host keys and of users' keys, without `ssh-rsa` (SHA-1).
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];
/// Ciphers.
const CIPHERS: &[cipher::Name] =
    &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];
/// Message authentication codes.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];

/// What all SSH connections of a host share.
#[derive(Debug)]
pub(super) struct SshServer {
    host: Arc<Host>,
    identities: Arc<dyn SshIdentities>,
    config: Arc<Config>,
    connections: Arc<Connections>,
}

/// The SSH server of a host with its listening socket.
#[derive(Debug)]
pub struct SshListening {
    server: Arc<SshServer>,
    listener: std::net::TcpListener,
}

impl SshServer {
    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn identities(&self) -> &dyn SshIdentities {
        &*self.identities
    }

    /// Serves a connection to its end, or until the host stops and its conversations have ended.
    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
        let open = self.connections.open(Some(peer));
        if open.connection().is_reserved() {
            tracing::debug!(%peer, "an SSH connection is closed: there are too many");
            return;
        }
        if let Err(error) = prepare_stream(&stream) {
            tracing::debug!(%peer, %error, "an SSH connection could not be set up");
            return;
        }
        let link = Link::new(self.host.limits().response_silence);
        let _cut = CutOnDrop(link.clone());
        let session = SshSession::new(self.clone(), link.clone(), open.connection().clone(), stop.clone());
        let socket = Socket::new(stream, link.clone(), open);
        let stopped = async {
            wait_for_stop(&mut stop).await;
            link.conversations_ended().await;
        };
        tokio::pin!(stopped);
        let running = tokio::select! {
            running = run_stream(self.config.clone(), socket, session) => running,
            () = &mut stopped => return,
        };
        let mut running = match running {
            Ok(running) => running,
            Err(error) => return tracing::debug!(%peer, %error, "an SSH connection failed before its key exchange"),
        };
        let handle = running.handle();
        tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "an SSH connection ended early");
                }
            }
            () = &mut stopped => {
                // A client that has its answer leaves by itself. Asked to, OpenSSH leaves without having read it.
                if tokio::time::timeout(LEAVING_TIMEOUT, &mut running).await.is_err() {
                    disconnect(&handle).await;
                    // Its error changes nothing: the connection ends either way.
                    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, running).await;
                }
            }
        }
    }
}

/// Asks the client to end the connection.
async fn disconnect(handle: &Handle) {
    let reason = "the host is stopping".to_owned();
    // Fails if the connection has ended.
    let _ = handle.disconnect(Disconnect::ByApplication, reason, String::new()).await;
}

/// Returns once `stop` is true; never without a sender.
async fn wait_for_stop(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Cuts a connection when the task that serves it ends: `russh` reads it on a task of its own.
struct CutOnDrop(Arc<Link>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SshListening {
    /// Binds the socket and listens; the system queues connections until [`SshListening::serve`].
    ///
    /// # Errors
    /// Errors of the system; `Unsupported` for a host without [`crate::HostOptions::ssh`], and `PermissionDenied` if
    /// every key logs in and the address is not a loopback address.
    pub fn bind(host: Arc<Host>, address: SocketAddr) -> io::Result<Self> {
        let Some(SshAccess { identities, host_keys }) = host.ssh().cloned() else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the host has no access over SSH"));
        };
        if identities.allows_anonymous() && !address.ip().is_loopback() {
            let reason = "an SSH server on which every key logs in listens on loopback addresses only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let connections = Connections::new(host.limits().connections);
        let config = Arc::new(config(&host_keys));
        let listener = bind_socket(address)?;
        Ok(SshListening { server: Arc::new(SshServer { host, identities, config, connections }), listener })
    }

    /// Serves until `stop` turns true. Then new connections and commands are refused, and commands in progress have the
    /// grace period of the limits to end.
    ///
    /// # Errors
    /// Errors of the listening socket.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let SshListening { server, listener } = self;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut running = JoinSet::new();
        let stopping = stop.clone();
        let stopped = wait_for_stop(&mut stop);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        running.spawn(server.clone().serve(stream, peer, stopping.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting an SSH connection failed; the listener tries again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = running.join_next() => note_panic(ended),
                () = &mut stopped => break,
            }
        }
        drop(listener);
        let draining = async {
            while let Some(ended) = running.join_next().await {
                note_panic(ended);
            }
        };
        if tokio::time::timeout(server.host.limits().grace, draining).await.is_err() {
            tracing::warn!(
                region = server.host.region_name(),
                connections = running.len(),
                "SSH commands that did not end within the grace period are cut off"
            );
        }
        Ok(())
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of an SSH connection panicked; its client was cut off");
    }
}

fn config(keys: &HostKeys) -> Config {
    Config {
        server_id: SERVER_ID,
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECTION_TIME,
        // The first request of a client asks for the methods, and is refused to all.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: keys.private().to_vec(),
        window_size: WINDOW_BYTES,
        maximum_packet_size: MAX_PACKET_BYTES,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(KEYS),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            // Packs are compressed already, and a decompressor is one more thing that a client can make work.
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::default()
        },
        max_auth_attempts: MAX_REJECTIONS,
        // `Link` has the timeouts: this one would also end a connection whose client waits for the host.
        inactivity_timeout: None,
        ..Config::default()
    }
}
