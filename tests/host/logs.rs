//! Logs: what cannot be written stops nothing, what clients say moves no terminal, and machines can read them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::raw::{connect, head, line, post, rest};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

/// The same hosts with another place for what they say.
struct Saying {
    process: Child,
}

impl Saying {
    fn to(pair: &mut Pair, stdout: Stdio, stderr: Stdio) -> Saying {
        pair.kill();
        let mut command = Command::new(gitferry_test_support::paths::gitferry());
        command.args(["up", "--dir"]).arg(pair.path("data")).env("GITFERRY_LOG", "trace").stdin(Stdio::null());
        let process = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        pair.wait_until_up();
        Saying { process }
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Everything goes on: pushes, and the tasks that bring what other commands commit to the other region.
fn assert_works(pair: &Pair, repo: &GitRepo, round: &str) {
    for number in 0..5 {
        repo.commit("main", "file", &format!("{round} {number}\n"));
        repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    }
    pair.wait_until_same(repo, "app");
    let made = format!("by-command-{round}");
    pair.ok(&["repo", "create", &made, "--region", REGIONS[US]]);
    pair.wait(|| repo.try_git(&["ls-remote", &pair.url(EU, &made)]).status.success());
}

#[test]
fn a_full_disk_a_closed_pipe_and_a_terminal_that_stands_still_stop_nothing() {
    let mut pair = Pair::open();
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let saying = Saying::to(&mut pair, full(), full());
    assert_works(&pair, &repo, "full");
    drop(saying);
    let mut saying = Saying::to(&mut pair, Stdio::piped(), Stdio::piped());
    // Nobody reads, then nobody can.
    assert_works(&pair, &repo, "still");
    drop((saying.process.stdout.take(), saying.process.stderr.take()));
    assert_works(&pair, &repo, "closed");
}

#[test]
fn what_clients_say_is_shown_by_number() {
    let hosts = "ref_in_want = true";
    for format in ["text", "json"] {
        let environment = vec![("GITFERRY_LOG_FORMAT".to_owned(), format.to_owned())];
        let pair = Pair::with_tokens_in("ann:0123456789abcdef\n", hosts, environment);
        let repo = GitRepo::with_history(pair.path("src.git"), &[]);
        let url = pair.url(US, "app").replace("http://", "http://ann:0123456789abcdef@");
        repo.git(&["push", "-q", &url, "main"]);
        let hostile = "refs/heads/\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}x";
        let body = [
            line("command=fetch"),
            "0001".into(),
            line(&format!("want-ref {hostile}\n")),
            line("done\n"),
            "0000".into(),
        ]
        .concat();
        let more = "Git-Protocol: version=2\r\nConnection: close\r\nAuthorization: Bearer 0123456789abcdef\r\n";
        let mut stream = connect(&pair, US);
        stream.write_all((post("app", "upload-pack", body.len(), more) + &body).as_bytes()).unwrap();
        rest(&mut stream);
        let (shown, log) = match format {
            "text" => ("\\u{1b}]0;title\\u{7}", pair.log()),
            _ => ("\\u001b]0;title\\u0007", pair.log()),
        };
        pair.wait(|| pair.log().contains(shown));
        let log = pair.log() + &log;
        let bad = |c: &char| (c.is_control() && !"\n\t".contains(*c)) || ('\u{202a}'..='\u{2069}').contains(c);
        assert_eq!(log.chars().find(bad), None);
    }
}

#[test]
fn machines_read_who_asked_for_what_and_under_which_number() {
    let environment =
        vec![("GITFERRY_LOG_FORMAT".to_owned(), "json".to_owned()), ("GITFERRY_LOG".to_owned(), "info".to_owned())];
    let pair = Pair::with_tokens_in("ann:0123456789abcdef\n", "trusted_proxies = [\"127.0.0.0/8\"]", environment);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "team/app").replace("http://", "http://ann:0123456789abcdef@");
    repo.git(&["push", "-q", &url, "main"]);
    let mut stream = connect(&pair, US);
    let request = "GET /team/app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Authorization: Bearer 0123456789abcdef\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let answer = head(&mut stream);
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
    let found = || {
        let log = pair.log();
        // What is printed for people stands between the lines of the log.
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let all: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        all.into_iter().find(|line| line["span"]["request_id"] == id && line["message"] == "answered")
    };
    pair.wait(|| found().is_some());
    let line = found().unwrap();
    let span = &line["span"];
    assert_eq!((&span["repository"], &span["actor"]), (&"team/app".into(), &"ann".into()), "{line}");
    assert_eq!((&span["address"], &line["status"]), (&"203.0.113.9".into(), &200.into()), "{line}");
    assert!(!pair.log().contains("0123456789abcdef"));
}

#[test]
fn colours_are_for_terminals() {
    let pair = Pair::open();
    pair.raw(US, "GET /_health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    pair.wait(|| pair.log().contains("answered"));
    assert!(!pair.log().contains('\u{1b}'));
    // A reader's broken compression is nothing that an operator has to look at.
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    for service in ["upload-pack", "receive-pack"] {
        for body in [&b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03broken"[..], b"no gzip at all", b"\x1f\x8b"] {
            let mut stream = connect(&pair, US);
            let more = "Content-Encoding: gzip\r\nGit-Protocol: version=2\r\nConnection: close\r\n";
            stream.write_all(post("app", service, body.len(), more).as_bytes()).unwrap();
            stream.write_all(body).unwrap();
            rest(&mut stream);
        }
    }
    assert!(!pair.log().contains("ERROR"), "{}", pair.log());
}
