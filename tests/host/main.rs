//! Real Git against `gitferry up`: push to one region, clone from the other.

#![allow(clippy::match_bool, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account_feed;
mod apis;
mod arbitrary;
mod audit;
mod aws_identities;
mod births;
mod both;
mod busy;
mod changing;
mod clients;
mod codecommit;
mod crowd;
mod damaged;
mod default_branch;
mod encryption;
mod forward;
mod forward_iam;
mod full;
mod held;
mod hooks;
mod hostile;
mod iam;
mod iam_kms;
mod intake;
mod killed;
mod lfs;
mod logs;
mod many_refs;
mod matrix;
mod metrics;
mod mirror;
mod nginx;
mod older;
mod parity;
mod policies;
mod policy_oracle;
mod pushes;
mod quotas;
mod raw;
mod recent;
mod revocation;
mod shares;
mod shutdown;
mod slow;
mod ssh;
mod tokens;
mod transport;
mod warm;

use std::collections::BTreeSet;
use std::process::Output;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, US};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn push_to_one_region_and_clone_from_the_other() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "--mirror", &pair.url(US, "team/app")]);
    for url in [pair.url(US, "team/app"), pair.url(US, "team/app.git"), pair.url(US, "v1/repos/team/app")] {
        pair.assert_clones_as(&repo, &url);
    }
    pair.wait_until_same(&repo, "team/app");
    pair.assert_clones_as(&repo, &pair.url(EU, "team/app"));
    // And every later change.
    repo.commit("main", "more", "more\n");
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    repo.git(&["push", "--mirror", &pair.url(US, "team/app")]);
    pair.wait_until_same(&repo, "team/app");
    pair.assert_clones_as(&repo, &pair.url(EU, "team/app"));
}

#[test]
fn versions_of_the_protocol_and_shapes_of_clones() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "--mirror", &url]);
    for (number, options) in
        [&["-c", "protocol.version=0"][..], &["-c", "protocol.version=2"], &["-c", "http.postBuffer=65536"]]
            .into_iter()
            .enumerate()
    {
        let to = pair.path(&format!("clone-{number}"));
        let mut args = options.to_vec();
        args.extend(["clone", "-q", "--mirror", &url, to.to_str().unwrap()]);
        repo.git(&args);
        assert_eq!(GitRepo::at(&to).refs(), repo.refs());
    }
    let shallow = pair.path("shallow");
    repo.git(&["clone", "-q", "--depth", "1", &url, shallow.to_str().unwrap()]);
    assert_eq!(GitRepo::at(shallow.join(".git")).git(&["rev-list", "--count", "HEAD"]), "1");
    let partial = pair.path("partial");
    repo.git(&["clone", "-q", "--filter=blob:none", &url, partial.to_str().unwrap()]);
    GitRepo::at(partial.join(".git")).git(&["log", "-p", "--all"]);
}

#[test]
fn a_replica_names_the_place_to_push_to() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "--mirror", &pair.url(US, "app")]);
    pair.wait_until_same(&repo, "app");
    let output = repo.try_git(&["push", &pair.url(EU, "app"), "main"]);
    assert!(!output.status.success());
    assert!(said(&output).contains(&pair.url(US, "app")), "{}", said(&output));
}

#[test]
fn a_replica_behind_the_url_of_its_primary_names_the_region() {
    let url = "url = \"http://git.example\"";
    let pair = Pair::with_hosts([url, url]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "--mirror", &pair.url(US, "app")]);
    pair.wait_until_same(&repo, "app");
    let output = repo.try_git(&["push", &pair.url(EU, "app"), "main"]);
    let said = said(&output);
    assert!(!output.status.success() && said.contains("push to a host of region us-east-1"), "{said}");
    assert!(!said.contains("git.example"), "{said}");
}

#[test]
fn what_is_not_there_or_not_allowed() {
    let pair = Pair::with_tokens("ann:0123456789abcdef\nbob:fedcba9876543210:read\n");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let with = |user: &str, secret: &str| pair.url(US, "app").replace("http://", &format!("http://{user}:{secret}@"));
    for (url, verb) in [
        (pair.url(US, "app"), "push"),
        (with("ann", "wrong-wrong-wrong"), "push"),
        (with("bob", "fedcba9876543210"), "push"),
    ] {
        let output = repo.try_git(&[verb, &url, "main"]);
        assert!(!output.status.success(), "{verb} {url}");
    }
    repo.git(&["push", "--mirror", &with("ann", "0123456789abcdef")]);
    repo.git(&["ls-remote", &with("bob", "fedcba9876543210")]);
    let output = repo.try_git(&["ls-remote", &pair.url(US, "app")]);
    assert!(!output.status.success());
    let output = repo.try_git(&["ls-remote", &with("ann", "0123456789abcdef").replace("/app", "/other")]);
    assert!(said(&output).contains("not found"), "{}", said(&output));
    let log = pair.log();
    assert!(!log.contains("0123456789abcdef") && !log.contains("fedcba9876543210"), "a secret is in the log");
}

#[test]
fn lost_races_lose_nothing() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "--mirror", &url]);
    let accepted: Vec<String> = std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..20)
            .map(|number| {
                let (pair, url) = (&pair, &url);
                scope.spawn(move || {
                    let own = pair.path(&format!("own-{number}"));
                    gitferry_test_support::git::command(pair.dir())
                        .args(["clone", "-q", "--bare", url])
                        .arg(&own)
                        .status()
                        .unwrap();
                    let own = GitRepo::at(own);
                    let id = own.commit(&format!("branch-{number}"), "file", &format!("{number}\n"));
                    own.git(&["push", "-q", url, &format!("branch-{number}")]);
                    id
                })
            })
            .collect();
        pushing.into_iter().map(|push| push.join().unwrap()).collect()
    });
    let listed = repo.git(&["ls-remote", &url]);
    let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    assert!(accepted.iter().all(|id| listed.contains(id.as_str())));
}

#[test]
fn state_is_there_the_next_time() {
    let mut pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "--mirror", &pair.url(US, "app")]);
    pair.restart();
    pair.assert_clones_as(&repo, &pair.url(US, "app"));
    pair.wait_until_same(&repo, "app");
}

#[test]
fn tricks_in_paths_lead_nowhere() {
    let pair = Pair::open();
    for path in ["/../table.db", "/%2e%2e/table.db", "/app/../../x/info/refs", "//info/refs", "/.git/info/refs"] {
        let answer = pair.raw(
            US,
            &format!("GET {path}?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let answer = pair.raw(US, "GET /_health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    let answer = pair.raw(US, "GET /app/info/refs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer = pair.raw(US, "PUT /app/info/refs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}
