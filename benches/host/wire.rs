//! Requests without a Git client, so that only the server is timed.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Body;
use tokio::runtime::Runtime;
use tokio_util::io::ReaderStream;

use super::support::place::{git, git_says};

/// A client that speaks Git's protocol by hand.
#[derive(Debug)]
pub struct Wire {
    runtime: Runtime,
    client: reqwest::Client,
}

/// A line as Git sends it: its length, then the line.
pub fn packet(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

impl Wire {
    pub fn new() -> io::Result<Wire> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = reqwest::Client::builder().tcp_nodelay(true).build().map_err(io::Error::other)?;
        Ok(Wire { runtime, client })
    }

    fn post(&self, url: &str, service: &str, body: Body) -> io::Result<bytes::Bytes> {
        let request = self.client.post(format!("{url}/git-{service}"));
        let request = request.header("content-type", format!("application/x-git-{service}-request"));
        let request = request.header("git-protocol", "version=2").body(body);
        self.runtime.block_on(async {
            let response = request.send().await.and_then(reqwest::Response::error_for_status);
            response.map_err(io::Error::other)?.bytes().await.map_err(io::Error::other)
        })
    }

    /// All refs; how many bytes the answer has.
    pub fn ls_refs(&self, url: &str) -> io::Result<usize> {
        Ok(self.ls_refs_of(url, &[])?.len())
    }

    /// The refs with some prefixes, as they are answered.
    pub fn ls_refs_of(&self, url: &str, prefixes: &[&str]) -> io::Result<bytes::Bytes> {
        let mut request = packet("command=ls-refs\n") + &packet("agent=bench") + &packet("object-format=sha1") + "0001";
        request += &(packet("peel\n") + &packet("symrefs\n"));
        for prefix in prefixes {
            request += &packet(&format!("ref-prefix {prefix}\n"));
        }
        self.post(url, "upload-pack", (request + "0000").into())
    }

    /// Sends a prepared push.
    pub fn push(&self, url: &str, prepared: &Path) -> io::Result<()> {
        let file = self.runtime.block_on(tokio::fs::File::open(prepared))?;
        self.push_body(url, Body::wrap_stream(ReaderStream::with_capacity(file, 64 * 1024)))
    }

    /// Sends a push that is held in memory.
    pub fn push_bytes(&self, url: &str, request: Vec<u8>) -> io::Result<()> {
        self.push_body(url, request.into())
    }

    fn push_body(&self, url: &str, request: Body) -> io::Result<()> {
        let answer = self.post(url, "receive-pack", request)?;
        match answer.windows(9).any(|window| window == b"unpack ok") && !answer.windows(3).any(|w| w == b"ng ") {
            true => Ok(()),
            false => Err(io::Error::other(format!("the push failed: {}", String::from_utf8_lossy(&answer)))),
        }
    }
}

/// Writes the request of a push of all branches and tags of a repository to a new one.
pub fn prepare_push(source: &Path, to: PathBuf) -> io::Result<PathBuf> {
    let listed = git_says(source, &["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/", "refs/tags/"])?;
    let mut file = std::fs::File::create(&to)?;
    let zero = "0".repeat(40);
    for (number, line) in listed.lines().enumerate() {
        let capabilities = if number == 0 { "\0report-status agent=bench" } else { "" };
        file.write_all(packet(&format!("{zero} {line}{capabilities}")).as_bytes())?;
    }
    file.write_all(b"0000")?;
    let ids: String = listed.lines().filter_map(|line| line.split(' ').next()).map(|id| format!("{id}\n")).collect();
    let mut packing = git(source, &["pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"]);
    let mut packing = packing.stdin(Stdio::piped()).stdout(file).spawn()?;
    packing.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?.write_all(ids.as_bytes())?;
    match packing.wait()?.success() {
        true => Ok(to),
        false => Err(io::Error::other("git pack-objects failed")),
    }
}
