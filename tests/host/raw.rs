//! Requests by hand, for what real Git never does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::Pair;

/// A connection on which nothing takes for ever.
pub fn connect(pair: &Pair, region: usize) -> TcpStream {
    let stream = TcpStream::connect(pair.address(region)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

pub fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// The body of a push that makes a branch.
pub fn push_body(repo: &GitRepo, branch: &str) -> Vec<u8> {
    let id = repo.git(&["rev-parse", "main"]);
    let zero = "0".repeat(40);
    let command = format!("{zero} {id} refs/heads/{branch}\0 report-status side-band-64k");
    let mut pack = git::command(&repo.path);
    pack.args(["pack-objects", "--revs", "--stdout", "-q"]).stdin(std::process::Stdio::piped());
    let mut child = pack.stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"main\n").unwrap();
    let pack = child.wait_with_output().unwrap();
    assert!(pack.status.success());
    [line(&command).as_bytes(), b"0000", &pack.stdout].concat()
}

/// The head of a POST.
pub fn post(path: &str, service: &str, bytes: usize, more: &str) -> String {
    format!(
        "POST /{path}/git-{service} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-git-{service}-request\r\n\
         Content-Length: {bytes}\r\n{more}\r\n"
    )
}

/// Reads to the end of the next head of an answer.
pub fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read_exact(&mut byte) {
            Ok(()) => head.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => panic!("{error}; so far {}", text(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

/// All that still comes, and whether it ended in order.
pub fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all);
    assert!(
        !ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the connection stays open"
    );
    // The last chunk of a chunked body.
    let whole = ended.is_ok() && all.ends_with(b"0\r\n\r\n");
    (all, whole)
}

/// A push of which half has arrived and is being taken in.
pub struct HalfPush {
    pub stream: TcpStream,
    pub rest: Vec<u8>,
}

impl HalfPush {
    pub fn start(pair: &Pair, region: usize, path: &str, repo: &GitRepo, branch: &str) -> HalfPush {
        HalfPush::start_watching(pair, region, region, path, repo, branch)
    }

    /// A push to one region whose pack arrives in another.
    pub fn start_watching(
        pair: &Pair,
        region: usize,
        arrives: usize,
        path: &str,
        repo: &GitRepo,
        branch: &str,
    ) -> HalfPush {
        let mut body = push_body(repo, branch);
        let mut stream = connect(pair, region);
        let request = post(path, "receive-pack", body.len(), "Connection: close\r\n");
        let rest = body.split_off(body.len() / 2);
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        pair.wait(|| !pair.spooled(arrives).is_empty());
        HalfPush { stream, rest }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
