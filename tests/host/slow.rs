//! Clients that are slow, or gone.

use std::io::{Read as _, Write as _};

use crate::raw::{HalfPush, connect, head, line, post, rest, text};
use crate::said;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pair::{Pair, US};

fn pushed(pair: &Pair) -> GitRepo {
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    pair.wait(|| pair.spooled(US).is_empty());
    repo
}

/// The only slot is free again, and nothing is left of who had it.
fn assert_freed(pair: &Pair, repo: &GitRepo) {
    pair.wait(|| repo.try_git(&["ls-remote", &pair.url(US, "app")]).status.success());
    pair.wait(|| pair.spooled(US).is_empty());
}

#[test]
fn a_push_that_stays_away_fails() {
    let pair = Pair::with_hosts(["limits = { requests = 1, request_silence = \"500ms\" }", ""]);
    let repo = pushed(&pair);
    let mut push = HalfPush::start(&pair, US, "app", &repo, "late");
    let (answer, _) = rest(&mut push.stream);
    assert!(!text(&answer).contains("ok refs/heads/late"));
    assert_freed(&pair, &repo);
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app"), "refs/heads/late"]), "");
}

#[test]
fn a_request_whose_body_never_begins_is_told() {
    let pair = Pair::with_hosts(["limits = { requests = 1, request_silence = \"500ms\" }", ""]);
    let repo = pushed(&pair);
    let mut stream = connect(&pair, US);
    stream.write_all(post("app", "upload-pack", 100, "").as_bytes()).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 408"));
    assert_freed(&pair, &repo);
}

#[test]
fn a_pusher_that_vanishes_leaves_nothing() {
    let pair = Pair::with_hosts(["limits = { requests = 1 }", ""]);
    let repo = pushed(&pair);
    drop(HalfPush::start(&pair, US, "app", &repo, "late"));
    assert_freed(&pair, &repo);
}

/// A request for everything.
fn clone_request(repo: &GitRepo) -> String {
    let want = repo.git(&["rev-parse", "main"]);
    let body = [line("command=fetch"), "0001".into(), line(&format!("want {want}\n")), line("done\n"), "0000".into()];
    let body = body.concat();
    post("app", "upload-pack", body.len(), "Git-Protocol: version=2\r\nConnection: close\r\n") + &body
}

/// More than the system's buffers of a connection hold.
fn large(pair: &Pair) -> GitRepo {
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    for number in 0..2 {
        repo.commit_bytes("main", &format!("file{number}"), &noise(number, 4 << 20));
    }
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    repo
}

#[test]
fn a_client_that_takes_nothing_is_gone() {
    let pair = Pair::with_hosts(["limits = { requests = 1, response_silence = \"500ms\" }", ""]);
    let repo = large(&pair);
    let mut stream = connect(&pair, US);
    stream.write_all(clone_request(&repo).as_bytes()).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
    assert_freed(&pair, &repo);
    pair.wait(|| pair.log().contains("idle for too long"));
    let (answer, whole) = rest(&mut stream);
    assert!(!whole && answer.len() < 8 << 20, "{} bytes came", answer.len());
}

#[tokio::test]
async fn an_answer_that_is_not_taken_on_a_connection_that_is_alive() {
    let pair = Pair::with_hosts(["limits = { requests = 1, response_silence = \"500ms\" }", ""]);
    let repo = large(&pair);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let (_, body) = clone_request(&repo).split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let request = client.post(pair.url(US, "app/git-upload-pack")).body(body).header("git-protocol", "version=2");
    let request = request.header("content-type", "application/x-git-upload-pack-request");
    let answer = request.send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (axum::http::Version::HTTP_2, 200));
    let (pair, repo) = tokio::task::spawn_blocking(move || {
        assert_freed(&pair, &repo);
        (pair, repo)
    })
    .await
    .unwrap();
    assert!(answer.bytes().await.is_err(), "what came looks like the whole");
    drop((pair, repo));
}

#[test]
fn a_clone_that_vanishes_frees_its_slot() {
    let pair = Pair::with_hosts(["limits = { requests = 1 }", ""]);
    let repo = large(&pair);
    let mut stream = connect(&pair, US);
    stream.write_all(clone_request(&repo).as_bytes()).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    assert_freed(&pair, &repo);
}

#[test]
fn one_too_many_is_told_to_come_back() {
    let pair = Pair::with_hosts(["limits = { requests = 1, waiting = 0 }", ""]);
    let repo = pushed(&pair);
    let push = HalfPush::start(&pair, US, "app", &repo, "late");
    let output = repo.try_git(&["ls-remote", &pair.url(US, "app")]);
    assert!(said(&output).contains("503"), "{}", said(&output));
    let mut stream = connect(&pair, US);
    stream.write_all(post("app", "upload-pack", 4, "").as_bytes()).unwrap();
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
    drop(push);
    assert_freed(&pair, &repo);
}

#[test]
fn many_slow_pushers_do_not_keep_others_from_cloning() {
    let pair = Pair::open();
    let repo = pushed(&pair);
    let processors = std::thread::available_parallelism().unwrap().get();
    // More than may compute at a time.
    let count = processors * 2 + 6;
    let slow: Vec<HalfPush> =
        (0..count).map(|number| HalfPush::start(&pair, US, "app", &repo, &format!("slow-{number}"))).collect();
    pair.assert_clones_as(&repo, &pair.url(US, "app"));
    for mut push in slow {
        push.stream.write_all(&push.rest).unwrap();
        let (answer, whole) = rest(&mut push.stream);
        assert!(whole && text(&answer).contains("ok refs/heads/slow-"), "{}", text(&answer));
    }
}

#[test]
fn connections_are_bounded() {
    let pair = Pair::with_hosts(["limits = { connections = 2 }", ""]);
    let health = b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = Vec::new();
    // Those that looked whether it is up may still be there.
    pair.wait(|| pair.raw(US, "GET /_health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").contains("200"));
    while kept.len() < 2 {
        let mut stream = connect(&pair, US);
        if stream.write_all(health).is_ok() && head(&mut stream).starts_with("HTTP/1.1 200") {
            stream.read_exact(&mut [0; 3]).unwrap();
            kept.push(stream);
        }
    }
    // The one that was silent the longest makes room.
    let mut third = connect(&pair, US);
    third.write_all(health).unwrap();
    assert!(head(&mut third).starts_with("HTTP/1.1 200"));
    let mut answer = Vec::new();
    let _ = kept[0].read_to_end(&mut answer);
    kept[1].write_all(health).unwrap();
    assert!(head(&mut kept[1]).starts_with("HTTP/1.1 200"));
    pair.wait(|| pair.log().contains("too many connections"));
}
