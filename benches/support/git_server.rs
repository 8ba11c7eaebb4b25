//! `git http-backend` as a process of its own, which counts what it is asked.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;

use super::place::{clear, git_says};
use super::process::Process;
use gitferry_test_support::cgi;

/// Where the number of requests is told; no repository is called so.
const COUNT: &str = "/_requests";

/// Serves the repositories below a folder until the process is killed; says the port on standard output.
pub fn serve(root: PathBuf) -> io::Result<()> {
    let counter = Arc::new(AtomicU64::new(0));
    let (counting, told) = (counter.clone(), counter);
    let router = cgi::router(root)
        .layer(from_fn(move |request: Request, next: Next| {
            counting.fetch_add(1, Ordering::Relaxed);
            next.run(request)
        }))
        .route(COUNT, get(move || std::future::ready(told.swap(0, Ordering::Relaxed).to_string())));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        axum::serve(listener, router).await
    })
}

/// Such a process.
#[derive(Debug)]
pub struct GitServer {
    /// So that it can be measured.
    pub process: Process,
    /// Its host and port.
    pub address: String,
    /// Where its repositories are.
    pub dir: PathBuf,
}

impl GitServer {
    /// Starts this program as a server.
    pub fn start(dir: PathBuf) -> io::Result<GitServer> {
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new(std::env::current_exe()?);
        let (process, port) = Process::start_and_hear(command.arg("--cgi").arg(&dir))?;
        Ok(GitServer { process, address: format!("127.0.0.1:{}", port.trim()), dir })
    }

    /// The URL of a repository; `{name}` stands for any.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// The folder of a repository.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes an empty repository in place of what there was.
    pub fn make_empty(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        clear(&path)?;
        git_says(&self.dir, &["init", "-q", "--bare", &path.to_string_lossy()])?;
        open_for_pushes(&path)
    }

    /// How many requests there were since this was asked the last time.
    pub fn requests(&self) -> io::Result<u64> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {COUNT} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let count = answer.rsplit_once("\r\n\r\n").and_then(|(_, body)| body.trim().parse().ok());
        count.ok_or_else(|| io::Error::other(format!("no number of requests: {answer}")))
    }
}

/// A server's repository: it takes pushes, and does no work of its own afterwards.
pub fn open_for_pushes(path: &Path) -> io::Result<()> {
    for (key, value) in [("http.receivepack", "true"), ("gc.auto", "0"), ("receive.autogc", "false")] {
        git_says(path, &["config", key, value])?;
    }
    Ok(())
}
