//! The same pushes to `git receive-pack` and to a host, answered with the same bytes but for the value of `agent`.
//!
//! The texts of refusals differ on purpose: ours say more. (`tests/upload_pack/parity.rs` does the same for fetches.)

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::raw::{connect, line};
use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{Pair, US};

/// A pack without objects.
const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

/// The body of a host's answer, which an old client gets unchunked.
fn ours(pair: &Pair, request: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = connect(pair, US);
    write!(stream, "{request} HTTP/1.0\r\nHost: localhost\r\n").unwrap();
    if request.starts_with("POST") {
        let kind = "application/x-git-receive-pack-request";
        write!(stream, "Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()).unwrap();
    }
    stream.write_all(b"\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.contains(" 200 "), "{head}");
    answer.split_off(end + 4)
}

fn theirs(repo: &GitRepo, mode: &str, body: &[u8]) -> Vec<u8> {
    let mut command = git::command(&repo.path);
    command.args(["-c", "receive.advertisePushOptions=true", "receive-pack", mode, "."]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn advertisements_and_reports_of_pushes_are_those_of_git() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    let advertised = String::from_utf8(theirs(&repo, "--http-backend-info-refs", b"")).unwrap();
    let answer = ours(&pair, "GET /app/info/refs?service=git-receive-pack", b"");
    let answer = String::from_utf8(answer).unwrap();
    let answer = answer.strip_prefix("001f# service=git-receive-pack\n0000").unwrap();
    // The first packet's length counts the agent's name.
    let without_agent = |text: &str| {
        let (front, rest) = text[4..].split_once("agent=").unwrap();
        format!("{front}{}", rest.split_once('\n').unwrap().1)
    };
    assert_eq!(without_agent(answer), without_agent(&advertised));
    let (main, zero) = (repo.git(&["rev-parse", "main"]), "0".repeat(40));
    for (number, capabilities) in [
        "",
        "report-status",
        "report-status quiet agent=x/1",
        "report-status side-band-64k",
        "report-status-v2",
        "report-status-v2 side-band-64k object-format=sha1",
        "side-band-64k",
        "atomic report-status side-band-64k",
    ]
    .into_iter()
    .enumerate()
    {
        let names = [format!("refs/heads/a{number}"), format!("refs/tags/b{number}")];
        for (old, new, pack) in [(&zero, &main, EMPTY_PACK), (&main, &zero, b"")] {
            let first = format!("{old} {new} {}\0 {capabilities}", names[0]);
            let second = format!("{old} {new} {}", names[1]);
            let body = [line(&first).as_bytes(), line(&second).as_bytes(), b"0000", pack].concat();
            let git = theirs(&repo, "--stateless-rpc", &body);
            let ours = ours(&pair, "POST /app/git-receive-pack", &body);
            let [ours, git] = [ours, git].map(|answer| String::from_utf8_lossy(&answer).into_owned());
            assert_eq!(ours, git, "{capabilities:?}: {old} to {new}");
        }
    }
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app")]), repo.git(&["ls-remote", "."]));
}
