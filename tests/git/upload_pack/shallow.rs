//! Shallow clones and their changes of depth.

use std::path::Path;

use crate::upload_pack::cloning::{assert_same_clones, clone};
use crate::upload_pack::repo::{FORMATS, Repo, git};
use crate::upload_pack::traced::run;
use gitferry_test_support::serving::Server;

fn shallow_file(repo: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(repo.join(".git/shallow")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn every_change_of_depth_is_that_of_git() {
    let since = "--shallow-since=2023-12-20";
    let starts: &[&[&str]] =
        &[&["--depth=1"], &["--depth=4", "--no-single-branch"], &[since], &["--shallow-exclude=v1"], &["--depth=1000"]];
    let steps: &[&[&str]] = &[
        &["--deepen=2"],
        &["--depth=6"],
        &["--depth=2", "origin", "side"],
        &["--shallow-since=2023-12-05"],
        &["--shallow-exclude=light"],
        &[],
        &["--unshallow"],
    ];
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let server = Server::start(repo.view());
        let dir = tempfile::tempdir().unwrap();
        for (at, start) in starts.iter().enumerate() {
            for version in ["0", "2"] {
                for (transport, url) in [("git", server.git_url()), ("http", server.http_url())] {
                    let name = |who: &str| format!("{who}{at}{version}{transport}");
                    // Git's server of version 2 trips over its own shallow commits when the client, over the
                    // same connection, asks for tags next. The answers are the same in both versions.
                    let theirs = clone(&dir, &name("theirs"), &repo.url(), "0", start);
                    let ours = clone(&dir, &name("ours"), &url, version, start);
                    assert_eq!(shallow_file(&ours), shallow_file(&theirs), "{start:?} {version} {transport}");
                    assert_same_clones(&ours, &theirs);
                    for step in steps {
                        if step == &["--unshallow"] && shallow_file(&theirs).is_empty() {
                            continue;
                        }
                        for (repo, version) in [(&ours, version), (&theirs, "0")] {
                            let version = format!("protocol.version={version}");
                            git(repo, &[&["-c", &version, "fetch", "-q"], *step].concat());
                        }
                        assert_eq!(
                            shallow_file(&ours),
                            shallow_file(&theirs),
                            "{start:?} {step:?} {version} {transport}"
                        );
                        assert_same_clones(&ours, &theirs);
                    }
                    assert_eq!(shallow_file(&ours), [""; 0]);
                }
                if format == FORMATS[1] {
                    break;
                }
            }
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}

#[test]
fn a_shallow_clone_follows_new_commits() {
    let repo = Repo::with_history(FORMATS[0]);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let ours = clone(&dir, "ours", &server.git_url(), "2", &["--depth=2"]);
    server.sent();
    repo.commit("main", 3, "new");
    server.show(repo.view());
    git(&ours, &["pull", "-q"]);
    assert_eq!(git(&ours, &["rev-parse", "HEAD"]), repo.git(&["rev-parse", "main"]));
    git(&ours, &["fsck", "--strict"]);
    assert_eq!(server.sent()[0].objects, 3 * 4);
    let error = crate::upload_pack::repo::git_fails(&ours, &["fetch", "--shallow-since=2040-01-01"]);
    assert!(error.contains("no commits selected"), "{error}");
    let error = crate::upload_pack::repo::git_fails(&ours, &["fetch", "--shallow-exclude=nothing"]);
    assert!(error.contains("deepen-not: nothing"), "{error}");
}

/// What every CI runner does. The objects that the client keeps from before are not sent again.
#[test]
fn a_fetch_of_depth_1_into_a_kept_work_folder_brings_what_is_new() {
    let repo = Repo::empty(FORMATS[0]);
    let mut script = String::from("commit refs/heads/main\ncommitter C <c@x> 1700000000 +0000\ndata 1\nx\n");
    for number in 0..300 {
        script += &format!("M 100644 inline dir{}/file{number}\ndata 4\n{number:04}\n", number % 10);
    }
    repo.import(script.as_bytes());
    repo.pack();
    repo.git(&["config", "uploadpack.allowRefInWant", "false"]);
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    let mut clients = Vec::new();
    for version in ["0", "2"] {
        for (name, url) in [("git", repo.url()), ("stateful", server.git_url()), ("http", server.http_url())] {
            clients.push((name, version, clone(&dir, &format!("{name}{version}"), &url, version, &["--depth=1"])));
        }
    }
    repo.commit("main", 2, "new");
    server.show(repo.view());
    server.sent();
    let mut theirs = Vec::new();
    for (name, version, client) in clients {
        let version = format!("protocol.version={version}");
        let traced = run(&client, &["-c", &version, "-c", "fetch.unpackLimit=1", "fetch", "--progress", "--depth=1"]);
        assert!(traced.ok, "{}", traced.said);
        // Commit, root tree, directory, file.
        assert_eq!(traced.objects, 4, "{name} {version}");
        match name {
            "git" => theirs.push(traced),
            _ => {
                let sent = server.sent();
                assert!(sent.len() == 1 && sent[0].bytes < 1500, "{sent:?}");
            }
        }
        git(&client, &["checkout", "-q", "FETCH_HEAD"]);
        assert_eq!(git(&client, &["status", "--porcelain"]), "");
        git(&client, &["fsck"]);
    }
    assert_eq!(theirs.len(), 2);
}
