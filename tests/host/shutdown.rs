//! How a host ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::raw::{HalfPush, connect, head, rest, text};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, US};

#[test]
fn a_running_push_ends_before_the_host_does() {
    let mut pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "side"]);
    let mut push = HalfPush::start(&pair, US, "app", &repo, "late");
    let mut idle = connect(&pair, US);
    idle.write_all(b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(head(&mut idle).starts_with("HTTP/1.1 200"));
    idle.read_exact(&mut [0; 3]).unwrap();
    pair.signal("TERM");
    assert_eq!(rest(&mut idle).0, b"", "a connection that nobody uses is closed");
    pair.wait(|| TcpStream::connect(pair.address(US)).is_err());
    push.stream.write_all(&push.rest).unwrap();
    let (answer, whole) = rest(&mut push.stream);
    assert!(whole && text(&answer).contains("ok refs/heads/late"), "{}", text(&answer));
    assert_eq!(pair.exit_code(), Some(0), "{}", pair.log());
    pair.restart();
    let listed = repo.git(&["ls-remote", &pair.url(US, "app"), "refs/heads/late"]);
    assert!(listed.starts_with(&repo.git(&["rev-parse", "main"])), "{listed}");
}

#[test]
fn the_second_signal_does_not_wait() {
    let mut pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "side"]);
    let mut push = HalfPush::start(&pair, US, "app", &repo, "late");
    pair.signal("INT");
    pair.wait(|| pair.log().contains("stopping"));
    pair.signal("INT");
    assert_eq!(pair.exit_code(), Some(3), "{}", pair.log());
    assert!(!rest(&mut push.stream).1);
    pair.restart();
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app"), "refs/heads/late"]), "");
}

#[test]
fn what_does_not_end_in_time_is_cut_off_and_said() {
    let mut pair = Pair::with_hosts(["limits = { grace = \"1s\" }", ""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "side"]);
    let mut push = HalfPush::start(&pair, US, "app", &repo, "late");
    pair.signal("TERM");
    assert_eq!(pair.exit_code(), Some(0), "{}", pair.log());
    assert!(!rest(&mut push.stream).1);
    assert!(pair.log().contains("cut off"), "{}", pair.log());
}
