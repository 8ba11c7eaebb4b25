//! `git http-backend` behind a small HTTP server that writes down what it is asked.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};

use crate::cgi;

/// Serves all repositories below a folder, for reading and writing, until the test ends.
pub struct Backend {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Backend {
    pub fn serve(root: &Path) -> Backend {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = requests.clone();
        let write_down = from_fn(move |request: Request, next: Next| {
            log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            next.run(request)
        });
        let router = cgi::router(root.into()).layer(write_down);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Backend { address, requests, _runtime: runtime }
    }

    /// What was asked since it was asked last: methods, paths and queries.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}
