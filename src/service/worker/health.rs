//! Health of a worker over HTTP: `/_health` for the supervisor that restarts it, `/_ready` for deployments, `/_metrics`
//! for Prometheus.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics::prometheus;
use super::status::Status;
use gitferry_base::metrics;

/// Listens; returns the bound address, and the server that answers until `stop` turns true.
pub async fn serve(
    address: SocketAddr,
    status: Arc<Status>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<(SocketAddr, impl Future<Output = io::Result<()>>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/_health", get(health))
        .route("/_ready", get(ready))
        .route("/_metrics", get(show_metrics))
        .with_state(status);
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    Ok((address, async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await }))
}

async fn health(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let alive = status.is_alive();
    answer(alive, json!({ "ok": alive, "counters": status.counters.to_json() }))
}

async fn ready(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let missing = status.not_ready();
    answer(missing.is_empty(), json!({ "ok": missing.is_empty(), "not_ready": missing }))
}

async fn show_metrics(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let page = prometheus(&status.metrics()) + &metrics::process().page();
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page)
}

fn answer(ok: bool, body: Value) -> impl IntoResponse {
    let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string())
}
