//! Nobody's idle requests and connections cost others anything.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::raw::{connect, head, text};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::lfs_work::oid_of;
use gitferry_test_support::pair::{Pair, US};

const TOKENS: &str = "ann:0123456789abcdef\nbob:fedcba9876543210:read\n";
const BOB: &str = "Authorization: Bearer fedcba9876543210\r\n";
const ANN: &str = "Authorization: Bearer 0123456789abcdef\r\n";

fn ann(pair: &Pair) -> String {
    pair.url(US, "app").replace("http://", "http://ann:0123456789abcdef@")
}

/// Requests that begin and never end, each on a connection of its own.
fn idle(pair: &Pair, count: usize, head: impl Fn(usize) -> String) -> Vec<TcpStream> {
    (0..count)
        .map(|number| {
            let mut stream = connect(pair, US);
            stream.write_all(format!("{}0", head(number)).as_bytes()).unwrap();
            stream
        })
        .collect()
}

fn idle_fetch(token: &str) -> String {
    format!(
        "POST /app/git-upload-pack HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: 100000\r\n\
         Content-Type: application/x-git-upload-pack-request\r\n\r\n"
    )
}

#[test]
fn idle_requests_of_one_token_cost_another_nothing() {
    let pair = Pair::with_tokens_and_hosts(TOKENS, "limits = { requests = 8, longest_wait = \"20s\" }");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &ann(&pair), "main"]);
    // As many as there are places, and as many more that wait for one.
    let mut silent = idle(&pair, 24, |_| idle_fetch(BOB));
    std::thread::sleep(Duration::from_millis(300));
    // The place that is kept for newcomers, so that the next ones have to be made room for.
    let _own = idle(&pair, 1, |_| idle_fetch(ANN));
    std::thread::sleep(Duration::from_millis(300));
    repo.git(&["ls-remote", &ann(&pair)]);
    repo.commit("main", "more", "more\n");
    repo.git(&["push", "-q", &ann(&pair), "main"]);
    // One that had to make room was told so.
    let told = silent.iter_mut().any(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).is_ok() && text(&answer).ends_with("503")
    });
    assert!(told, "{}", pair.log());
}

#[test]
fn what_one_token_leaves_idle_does_not_stop_its_own_next_request() {
    let pair = Pair::with_tokens_and_hosts(TOKENS, "limits = { requests = 2, longest_wait = \"30s\" }");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &ann(&pair), "main"]);
    let _silent = idle(&pair, 2, |_| idle_fetch(ANN));
    std::thread::sleep(Duration::from_millis(300));
    repo.git(&["ls-remote", &ann(&pair)]);
}

#[test]
fn idle_uploads_make_room_for_uploads_that_go_on() {
    let pair = Pair::with_tokens(TOKENS);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &ann(&pair), "main"]);
    let _silent = idle(&pair, 128, |number| {
        format!(
            "PUT /app/info/lfs/objects/{number:064x}?size=100000000 HTTP/1.1\r\nHost: localhost\r\n{ANN}\
             Content-Length: 100000000\r\n\r\n"
        )
    });
    let content = noise(1, 1000);
    let mut stream = connect(&pair, US);
    let put = format!(
        "PUT /app/info/lfs/objects/{}?size=1000 HTTP/1.1\r\nHost: localhost\r\n{ANN}Content-Length: 1000\r\n\r\n",
        oid_of(&content)
    );
    stream.write_all(put.as_bytes()).unwrap();
    stream.write_all(&content).unwrap();
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A connection from another address of this machine.
fn from(address: &str, pair: &Pair) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&pair.address(US).into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

#[test]
fn idle_connections_of_one_address_make_room_for_others() {
    let pair = Pair::with_host("limits = { connections = 8 }");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", "--mirror", &url]);
    let mut silent: Vec<TcpStream> = (0..20).map(|_| from("127.0.0.2", &pair)).collect();
    // Which of them go is not said: those that come at once are let in in any order.
    let mut still_open = || {
        let is_open = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false).unwrap();
            peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        silent.retain(is_open);
        silent.len()
    };
    while still_open() > 8 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let last = silent.last_mut().unwrap();
    last.write_all(b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let answer = head(last);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}\n{}", pair.log());
    for _ in 0..3 {
        pair.assert_clones_as(&repo, &url);
    }
    pair.wait(|| pair.log().contains("too many connections"));
}

#[test]
fn health_is_answered_when_every_connection_works() {
    let pair = Pair::with_host("limits = { connections = 4, requests = 4, request_silence = \"30s\" }");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let mut working = Vec::new();
    let health = "GET /_health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let refs = "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut full = false;
    // A connection that had not begun to work may have made room for another.
    while !pair.raw(US, refs).starts_with("HTTP/1.1 503") {
        assert!(working.len() < 50);
        working.extend(idle(&pair, 1, |_| idle_fetch("")));
        std::thread::sleep(Duration::from_millis(100));
    }
    for _ in 0..30 {
        assert!(pair.raw(US, health).starts_with("HTTP/1.1 200"));
        let refused = pair.raw(US, refs);
        full |= refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after");
    }
    assert!(full);
}
