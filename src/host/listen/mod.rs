//! From a socket to a host's router: HTTP/1.1 and HTTP/2, with or without TLS, until it is told to stop.

mod connection;
mod doors;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use tokio::sync::watch;

use super::Host;
use connection::Doorkeeper;
pub use doors::{Busyness, Door};
use tls::Certificate;

/// The head of a request, and a TLS handshake, come within this time. It is also how long HTTP/1.1 waits for
/// the next request on a connection.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Largest head of a request over HTTP/1.1, in bytes; also the size of that connection's buffers.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Largest head of a request over HTTP/2, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Most requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 64;
/// How often a connection of HTTP/2 is asked whether it is alive, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);

/// A host that listens.
#[derive(Debug)]
pub struct Listening {
    host: Arc<Host>,
    listener: std::net::TcpListener,
    certificate: Option<Arc<Certificate>>,
}

impl Listening {
    /// Starts to listen; connections wait until [`Listening::serve`].
    ///
    /// # Errors
    /// Those of the system, and `PermissionDenied` for a host that lets everybody in where others can reach it.
    pub fn bind(host: Arc<Host>, address: SocketAddr, certificate: Option<Arc<Certificate>>) -> io::Result<Self> {
        if host.authorizer.lets_everybody_in() && !address.ip().is_loopback() {
            let reason = "a host that asks nobody who they are is for loopback only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        // A restart does not wait for the last one's connections to be forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listening { host, listener: socket.into(), certificate })
    }

    /// Serves until `stop` turns true: then there are no new connections, those that nobody uses are closed, and
    /// running requests may end, within the host's time of grace.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Listening { host, listener, certificate } = self;
        let limits = host.limits.clone();
        let handle = Handle::new();
        let door = Doorkeeper::new(&limits);
        let server = axum_server::from_tcp(listener)?
            .handle(handle.clone())
            .first_request_timeout(HEAD_TIME)
            .accept_error_handler(note_failed_connection);
        let service = host.clone().router().into_make_service();
        let serving = async move {
            match certificate {
                None => with_limits(server.acceptor(door)).serve(service).await,
                Some(certificate) => {
                    let tls = RustlsAcceptor::new(certificate.config()).handshake_timeout(HEAD_TIME);
                    with_limits(server.acceptor(tls.acceptor(door))).serve(service).await
                }
            }
        };
        let ending = async {
            // Without anybody who could stop it, it is not stopped.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
            let until = tokio::time::Instant::now() + limits.grace;
            handle.graceful_shutdown(None);
            tokio::time::sleep_until(until).await;
            tracing::warn!(
                region = host.region.name,
                connections = handle.connection_count(),
                "requests that had not ended within the time of grace are cut off"
            );
            handle.shutdown();
        };
        // What a vanished client started may still be under way when its connection is gone.
        let served = async {
            serving.await?;
            host.until_idle().await;
            Ok(())
        };
        tokio::select! {
            served = served => served,
            () = ending => Ok(()),
        }
    }
}

fn note_failed_connection(client: Option<&SocketAddr>, error: &io::Error) {
    match client {
        Some(client) => tracing::debug!(%client, %error, "a connection did not come about"),
        None => tracing::warn!(%error, "no connection can be accepted now"),
    }
}

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 1024;

fn with_limits<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    server
}
