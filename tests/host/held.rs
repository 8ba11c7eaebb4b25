//! No answer goes out before its request's body has been read, or its connection is given up.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use axum::body::Bytes;
use futures::channel::mpsc;

use crate::raw::{connect, head, text};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, US};

const ANN: &str = "Authorization: Bearer 0123456789abcdef\r\n";
const BOB: &str = "Authorization: Bearer fedcba9876543210\r\n";
const TOKENS: &str = "ann:0123456789abcdef\nbob:fedcba9876543210:read\n";
const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
/// An answer that came at once would have come by then. If it comes later all the same, the test sees less.
const A_MOMENT: Duration = Duration::from_millis(300);
const BODY_BYTES: usize = 1 << 20;

/// Requests that are refused for all kinds of reasons, with the status of the answer.
fn refused() -> Vec<(u16, &'static str, String, String)> {
    let git = |service: &str| format!("Content-Type: application/x-git-{service}-request\r\n");
    let lfs = "Content-Type: application/vnd.git-lfs+json\r\n";
    let object = format!("/app/info/lfs/objects/{OID}");
    vec![
        (401, "POST", "/app/git-receive-pack".into(), git("receive-pack")),
        (401, "POST", "/app/git-upload-pack".into(), git("upload-pack")),
        (401, "POST", "/app/info/lfs/objects/batch".into(), lfs.into()),
        (401, "PUT", object.clone(), String::new()),
        (403, "POST", "/app/git-receive-pack".into(), git("receive-pack") + BOB),
        (403, "PUT", object.clone(), BOB.into()),
        (404, "POST", "/no/where".into(), ANN.into()),
        (404, "POST", "/other/git-upload-pack".into(), git("upload-pack") + ANN),
        (405, "PUT", "/app/git-receive-pack".into(), git("receive-pack") + ANN),
        (405, "DELETE", object.clone(), ANN.into()),
        (413, "PUT", object.clone(), ANN.into()),
        (415, "POST", "/app/git-receive-pack".into(), format!("Content-Type: text/plain\r\n{ANN}")),
        (415, "PUT", object, format!("Content-Encoding: br\r\n{ANN}")),
        (400, "POST", "/app/git-upload-pack".into(), git("upload-pack") + ANN + "Content-Encoding: br\r\n"),
        (501, "POST", "/app/info/lfs/locks".into(), format!("{lfs}{ANN}")),
    ]
}

fn with_app() -> Pair {
    let policies = "[[push_policies]]\nrepositories = [\"*\"]\nmax_lfs_object = \"1 KiB\"\n";
    let pair = Pair::with_tokens_and(TOKENS, policies);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app").replace("http://", "http://ann:0123456789abcdef@"), "main"]);
    pair
}

/// What has come from a host that should have said nothing yet.
fn said_early(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(A_MOMENT)).unwrap();
    let mut answer = [0; 500];
    let came = loop {
        match stream.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            came => break came,
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match came {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => Some(error.to_string()),
        Ok(count) => Some(text(&answer[..count])),
    }
}

#[test]
fn refusals_come_after_the_body_and_leave_the_connection_usable() {
    let pair = with_app();
    for (status, method, path, headers) in refused() {
        for length in [format!("Content-Length: {BODY_BYTES}\r\n"), "Transfer-Encoding: chunked\r\n".into()] {
            let chunked = length.starts_with('T');
            let mut stream = connect(&pair, US);
            let start = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n");
            stream.write_all(start.as_bytes()).unwrap();
            let half = vec![b'0'; BODY_BYTES / 2];
            let send = |stream: &mut TcpStream| {
                if chunked {
                    stream.write_all(format!("{:x}\r\n", half.len()).as_bytes()).unwrap();
                }
                stream.write_all(&half).unwrap();
                if chunked {
                    stream.write_all(b"\r\n").unwrap();
                }
            };
            send(&mut stream);
            let early = said_early(&mut stream);
            assert_eq!(early, None, "{method} {path} ({status}) was answered in the middle of its body");
            send(&mut stream);
            if chunked {
                stream.write_all(b"0\r\n\r\n").unwrap();
            }
            let answer = head(&mut stream);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
            let length = answer.to_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
            stream.read_exact(&mut vec![0; length]).unwrap();
            stream.write_all(b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let next = head(&mut stream);
            assert!(next.starts_with("HTTP/1.1 200"), "after {method} {path}: {next}");
        }
    }
}

#[test]
fn a_push_that_is_refused_by_its_first_line_is_read_to_its_end() {
    let pair = with_app();
    let mut stream = connect(&pair, US);
    let mut body = b"0011not a command".to_vec();
    body.resize(4 << 20, b'x');
    let start = format!(
        "POST /app/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{ANN}\
         Content-Type: application/x-git-receive-pack-request\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(start.as_bytes()).unwrap();
    let (front, rest) = body.split_at(body.len() - 1);
    stream.write_all(front).unwrap();
    assert_eq!(said_early(&mut stream), None);
    stream.write_all(rest).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("ERR "), "{answer}");
}

#[tokio::test]
async fn the_same_over_http_2() {
    let pair = tokio::task::spawn_blocking(with_app).await.unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for (status, method, path, headers) in refused() {
        let (sender, pieces) = mpsc::unbounded::<std::io::Result<Bytes>>();
        let url = pair.url(US, path.trim_start_matches('/'));
        let mut request = client.request(method.parse().unwrap(), url).body(reqwest::Body::wrap_stream(pieces));
        for header in headers.lines().filter(|line| !line.is_empty()) {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let mut answer = Box::pin(request.send());
        let half = Bytes::from(vec![b'0'; BODY_BYTES / 2]);
        sender.unbounded_send(Ok(half.clone())).unwrap();
        let early = tokio::time::timeout(A_MOMENT, &mut answer).await;
        assert!(early.is_err(), "{method} {path} was answered in the middle of its body");
        sender.unbounded_send(Ok(half)).unwrap();
        drop(sender);
        let answer = answer.await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
        assert_eq!((answer.version(), answer.status().as_u16()), (axum::http::Version::HTTP_2, status), "{path}");
    }
}

#[test]
fn a_client_that_does_not_go_on_after_a_refusal_is_told_and_cut_off() {
    let pair = Pair::with_host("limits = { request_silence = \"500ms\" }");
    let mut stream = connect(&pair, US);
    let start = "POST /no/where HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n0";
    stream.write_all(start.as_bytes()).unwrap();
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 404") && answer.to_lowercase().contains("connection: close"), "{answer}");
    stream.read_to_end(&mut Vec::new()).unwrap();
}
