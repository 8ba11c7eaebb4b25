//! Listener of a host: HTTP/1.1 and HTTP/2, with or without TLS, from the socket to the router, with graceful shutdown.

mod connection;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use tokio::sync::watch;

use crate::host::Host;
use connection::ConnectionAcceptor;
pub(crate) use connection::prepare_stream;
use gitferry_base::supervise::Supervisor;
use tls::Certificate;

/// Time limit of a TLS handshake, and of the head of a request. Also the time that an HTTP/1.1 connection may wait for
/// its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request over HTTP/1.1, in bytes; also the size of the connection's buffers.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Largest head of a request over HTTP/2, in bytes.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Most concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// Interval of HTTP/2 keep-alive pings, and the time that a client has to answer one.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A host with its listening socket.
#[derive(Debug)]
pub struct Listening {
    host: Arc<Host>,
    listener: std::net::TcpListener,
    certificate: Option<Arc<Certificate>>,
}

impl Listening {
    /// Binds the socket and listens; the system queues connections until [`Listening::serve`].
    ///
    /// # Errors
    /// Errors of the system, and `PermissionDenied` for a host without authentication on an address other than
    /// loopback.
    pub fn bind(host: Arc<Host>, address: SocketAddr, certificate: Option<Arc<Certificate>>) -> io::Result<Self> {
        if host.allows_anonymous() && !address.ip().is_loopback() {
            let reason = "a host without authentication listens on loopback addresses only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        Ok(Listening { host, listener: bind_socket(address)?, certificate })
    }

    /// Serves until `stop` turns true. Then new connections are refused, idle ones are closed, and requests in progress
    /// have the grace period of the limits to end.
    ///
    /// # Errors
    /// Errors of the listening socket.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let Listening { host, listener, certificate } = self;
        let handle = Handle::new();
        // Ends with this function.
        let mut tasks = Supervisor::new(stop.clone());
        keep_metrics_drained(&host, &mut tasks);
        let server = axum_server::from_tcp(listener)?
            .handle(handle.clone())
            .first_request_timeout(HEAD_TIMEOUT)
            .accept_error_handler(note_failed_connection);
        let served = async {
            serve_connections(server, &host, certificate).await?;
            // The request of a client that has disconnected may still be in progress.
            host.wait_until_idle().await;
            Ok(())
        };
        tokio::select! {
            served = served => served,
            () = shut_down(&handle, &host, stop) => Ok(()),
        }
    }
}

fn keep_metrics_drained(host: &Host, tasks: &mut Supervisor) {
    let metrics = host.metrics().clone();
    let stopped = tasks.stop();
    let draining = move || metrics.clone().keep_drained(stopped.clone());
    tasks.keep(format!("the draining of the metrics of {}", host.region_name()), draining);
}

/// Serves connections, over TLS with a certificate, until the server is shut down and the last connection has ended.
async fn serve_connections(
    server: Server<SocketAddr>,
    host: &Host,
    certificate: Option<Arc<Certificate>>,
) -> io::Result<()> {
    let acceptor = ConnectionAcceptor::new(host.limits());
    let service = host.router().into_make_service();
    match certificate {
        None => with_limits(server.acceptor(acceptor)).serve(service).await,
        Some(certificate) => {
            let tls = RustlsAcceptor::new(certificate.config()).handshake_timeout(HEAD_TIMEOUT);
            with_limits(server.acceptor(tls.acceptor(acceptor))).serve(service).await
        }
    }
}

/// Once `stop` turns true, refuses new connections, and cuts off those that the grace period leaves.
async fn shut_down(handle: &Handle<SocketAddr>, host: &Host, mut stop: watch::Receiver<bool>) {
    // Without a sender, `stop` never turns true: serve on.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
    let deadline = tokio::time::Instant::now() + host.limits().grace;
    handle.graceful_shutdown(None);
    tokio::time::sleep_until(deadline).await;
    tracing::warn!(
        region = host.region_name(),
        connections = handle.connection_count(),
        "requests that did not end within the grace period are cut off"
    );
    handle.shutdown();
}

/// Binds a socket and listens.
pub(crate) fn bind_socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // Binds even while connections of a previous process are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn note_failed_connection(client: Option<&SocketAddr>, error: &io::Error) {
    match client {
        Some(client) => tracing::debug!(%client, %error, "a connection failed before its first request"),
        None => tracing::warn!(%error, "accepting a connection failed; the listener tries again"),
    }
}

/// Connections that the system queues until they are accepted.
const BACKLOG: i32 = 1024;

fn with_limits<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    server
}
