//! The wire: TLS, versions of HTTP, bodies in all shapes.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::raw::{connect, head, line, post, rest, text};
use crate::said;
use gitferry_test_support::git::{GitRepo, command, noise};
use gitferry_test_support::pair::{Pair, US, new_certificate};

const TOKENS: &str = "ann:0123456789abcdef\n";

fn trusting(pair: &Pair, name: &str) -> GitRepo {
    let repo = GitRepo::with_history(pair.path(name), &[]);
    repo.git(&["config", "http.sslCAInfo", pair.path("cert.pem").to_str().unwrap()]);
    repo
}

/// Git with a trace of what goes over the wire.
fn traced(repo: &GitRepo, args: &[&str]) -> String {
    let output = command(&repo.path).args(args).env("GIT_TRACE_CURL", "1").output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn over_tls_with_either_version_of_http() {
    let pair = Pair::with_tls(TOKENS, ["", ""]);
    let repo = trusting(&pair, "src.git");
    let url = pair.url(US, "app").replace("https://", "https://ann:0123456789abcdef@");
    let trace = traced(&repo, &["-c", "http.version=HTTP/2", "push", "--mirror", &url]);
    assert!(trace.contains("HTTP/2 200"), "{trace}");
    let trace = traced(&repo, &["-c", "http.version=HTTP/1.1", "ls-remote", &url]);
    assert!(trace.contains("HTTP/1.1 200"), "{trace}");
    for version in ["HTTP/2", "HTTP/1.1"] {
        let to = pair.path(&format!("clone-{}", version.replace('/', "-")));
        repo.git(&[
            "-c",
            &format!("http.version={version}"),
            "-c",
            &format!("http.sslCAInfo={}", pair.path("cert.pem").display()),
            "clone",
            "-q",
            "--mirror",
            &url,
            to.to_str().unwrap(),
        ]);
        assert_eq!(GitRepo::at(&to).refs(), repo.refs());
    }
    let stranger = GitRepo::with_history(pair.path("stranger.git"), &[]);
    let output = stranger.try_git(&["ls-remote", &url]);
    assert!(said(&output).contains("certificate"), "{}", said(&output));
}

#[test]
fn certificates_are_exchanged_while_serving() {
    let pair = Pair::with_tls(TOKENS, ["", ""]);
    let repo = trusting(&pair, "src.git");
    let url = pair.url(US, "app").replace("https://", "https://ann:0123456789abcdef@");
    repo.git(&["push", "-q", "--mirror", &url]);
    new_certificate(pair.dir());
    assert!(!repo.try_git(&["ls-remote", &url]).status.success(), "the old one is still in use");
    pair.signal("HUP");
    pair.wait(|| repo.try_git(&["ls-remote", &url]).status.success());
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[regions.us]\nobjects = \"file:o\"\ntable = \"sqlite:t.db\"\n[hosts.us]\nlisten = \"127.0.0.1:0\"\n\
                  auth = \"none\"\ntls = { cert = \"missing.pem\", key = \"key.pem\" }\n";
    std::fs::write(dir.path().join("gitferry.toml"), config).unwrap();
    let mut made = std::process::Command::new(gitferry_test_support::paths::gitferry());
    assert!(made.args(["region", "init"]).current_dir(dir.path()).output().unwrap().status.success());
    let started = std::process::Command::new(gitferry_test_support::paths::gitferry())
        .arg("up")
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!started.status.success() && said(&started).contains("missing.pem cannot be read"), "{}", said(&started));
}

#[tokio::test]
async fn http_2_without_tls_by_prior_knowledge() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = pair.url(US, "app/info/refs?service=git-upload-pack");
    let answer = client.get(url).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (axum::http::Version::HTTP_2, 200));
    assert!(answer.text().await.unwrap().contains("refs/heads/main"));
}

#[test]
fn a_refused_push_is_not_asked_for_its_body() {
    let pair = Pair::with_tokens("ann:0123456789abcdef\nbob:fedcba9876543210:read\n");
    let known = |token: &str| format!("Authorization: Bearer {token}\r\nExpect: 100-continue\r\n");
    let ask = |path: &str, more: &str| {
        let mut stream = connect(&pair, US);
        stream.write_all(post(path, "receive-pack", 4, more).as_bytes()).unwrap();
        (head(&mut stream), stream)
    };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app").replace("http://", "http://ann:0123456789abcdef@"), "main"]);
    assert!(ask("app", "Expect: 100-continue\r\n").0.starts_with("HTTP/1.1 401"));
    assert!(ask("app", &known("fedcba9876543210")).0.starts_with("HTTP/1.1 403"));
    assert!(ask("-other", &known("0123456789abcdef")).0.starts_with("HTTP/1.1 404"));
    let (answer, mut stream) = ask("app", &known("0123456789abcdef"));
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
    stream.write_all(b"0000").unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
}

#[test]
fn one_connection_for_many_requests() {
    let pair = Pair::open();
    let mut stream = connect(&pair, US);
    for _ in 0..2 {
        stream.write_all(b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
        let mut body = [0; 3];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"ok\n");
    }
}

#[test]
fn heads_and_bodies_that_are_not_accepted() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    let answer = pair.raw(
        US,
        "POST /app/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\
         Connection: close\r\n\r\n0000",
    );
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    let mut stream = connect(&pair, US);
    let _ = stream.write_all(
        format!("GET /_health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes(),
    );
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!text(&answer).starts_with("HTTP/1.1 200"), "{}", text(&answer));
    let mut stream = connect(&pair, US);
    stream
        .write_all(post("app", "upload-pack", 4, "Content-Encoding: br\r\nConnection: close\r\n").as_bytes())
        .unwrap();
    stream.write_all(b"0000").unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 400"));
}

#[test]
fn chunked_and_compressed_bodies_of_real_git() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", "--mirror", &url]);
    repo.commit_bytes("main", "noise", &noise(1, 2 << 20));
    let trace = traced(&repo, &["-c", "http.postBuffer=65536", "push", &url, "main"]);
    assert!(trace.to_lowercase().contains("transfer-encoding: chunked"), "{trace}");
    // A history of its own makes a negotiation long enough to be compressed.
    let other = GitRepo::init(pair.path("other.git"), &[]);
    for number in 0..60 {
        other.commit("own", "file", &format!("{number}\n"));
    }
    let trace = traced(&other, &["fetch", &url, "main:theirs"]);
    assert!(trace.to_lowercase().contains("content-encoding: gzip"), "{trace}");
    assert_eq!(other.git(&["rev-parse", "theirs"]), repo.git(&["rev-parse", "main"]));
}

/// Starts well, and becomes `bytes` of nothing.
fn bomb(front: &[u8], bytes: usize) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(front).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        out.write_all(&zeros).unwrap();
    }
    out.finish().unwrap()
}

#[test]
fn compressed_bodies_that_become_immense() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    let id = repo.git(&["rev-parse", "main"]);
    let zero = "0".repeat(40);
    let push = line(&format!("{zero} {id} refs/heads/new\0 report-status")) + "0000PACK\0\0\0\x02\0\0\0\x01\x3f";
    let fetch = line("command=fetch") + "0001" + &line(&format!("want {id}\n"));
    for (service, front) in [("receive-pack", push), ("upload-pack", fetch)] {
        let body = bomb(front.as_bytes(), 512 << 20);
        let mut stream = connect(&pair, US);
        let more = "Content-Encoding: gzip\r\nGit-Protocol: version=2\r\nConnection: close\r\n";
        stream.write_all(post("app", service, body.len(), more).as_bytes()).unwrap();
        // It may be refused before all has been sent.
        let _ = stream.write_all(&body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!text(&answer).contains("ok refs/heads/new"), "{service}: {}", text(&answer));
    }
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app"), "refs/heads/new"]), "");
    pair.wait(|| pair.spooled(US).is_empty());
    // A request in the middle of which the compression breaks.
    let mut body = bomb(b"0014command=ls-refs\n", 1 << 20);
    body.truncate(body.len() / 2);
    let mut stream = connect(&pair, US);
    let more = "Content-Encoding: gzip\r\nGit-Protocol: version=2\r\nConnection: close\r\n";
    stream.write_all(post("app", "upload-pack", body.len(), more).as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    assert!(!text(&rest(&mut stream).0).contains("refs/heads/main"));
    pair.assert_clones_as(&repo, &pair.url(US, "app"));
}
