//! Which branch HEAD names: by command, and by a link that has a host as its remote.

use std::process::Command;

use serde_json::{Value, json};

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, US};

/// What a host says that HEAD names.
fn head(repo: &GitRepo, url: &str) -> String {
    let said = repo.git(&["ls-remote", "--symref", url, "HEAD"]);
    said.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD").map(str::to_owned)).unwrap()
}

fn pushed(pair: &Pair, name: &str) -> GitRepo {
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    repo.commit("main", "file", "text\n");
    repo.git(&["branch", "topic", "main"]);
    repo.git(&["push", "-q", &pair.url(US, name), "main"]);
    repo.git(&["push", "-q", &pair.url(US, name), "topic"]);
    repo
}

#[test]
fn a_command_sets_it_and_replicas_follow() {
    let pair = Pair::open();
    let repo = pushed(&pair, "app");
    let (us, eu) = (pair.url(US, "app"), pair.url(EU, "app"));
    assert_eq!(head(&repo, &us), "refs/heads/main");
    pair.wait_until_same(&repo, "app");
    let set = |more: &[&str]| {
        let args = [&["repo", "set-head", "app"], more].concat();
        let output = pair.gitferry(&args);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = set(&["topic", "--region", "us-east-1", "--dry-run"]);
    assert!(code == Some(0) && said.contains("would name refs/heads/topic"), "{said}");
    assert_eq!(head(&repo, &us), "refs/heads/main");
    let (code, said) = set(&["refs/heads/topic", "--region", "us-east-1", "--json"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    let [now, before, changed] = ["head", "head_before", "changed"].map(|key| told[key].clone());
    assert_eq!(
        (code, json!([now, before, changed])),
        (Some(0), json!(["ref:refs/heads/topic", "ref:refs/heads/main", true]))
    );
    assert_eq!(head(&repo, &us), "refs/heads/topic");
    pair.wait(|| head(&repo, &eu) == "refs/heads/topic");
    // The branch that came first can go now, and the other one cannot.
    repo.git(&["push", "-q", &us, ":main"]);
    assert!(!repo.try_git(&["push", "-q", &us, ":topic"]).status.success());
    let (code, said) = set(&["topic", "--region", "us-east-1"]);
    assert!(code == Some(0) && said.contains("already"), "{said}");
    // A branch that is not there, one that is none, and a replica.
    for (args, words) in [
        (&["trunk", "--region", "us-east-1"][..], "it has topic"),
        (&["trunk", "--region", "us-east-1", "--dry-run"], "it has topic"),
        (&["refs/tags/v1", "--region", "us-east-1"], "not the name of a branch"),
        (&["a..b", "--region", "us-east-1"], "not the name of a branch"),
        (&["topic", "--region", "eu-west-1", "--dry-run"], "replica"),
    ] {
        let (code, said) = set(args);
        assert!(code != Some(0) && said.contains(words), "{args:?}: {said}");
    }
    let (code, said) = set(&["trunk", "--region", "us-east-1", "--unborn"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn who_may_push_may_set_it_over_http() {
    let pair = Pair::with_tokens("ann:secret-ann-secret\n");
    let url = pair.url(US, "app").replace("http://", "http://ann:secret-ann-secret@");
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    repo.commit("main", "file", "text\n");
    repo.git(&["branch", "topic", "main"]);
    repo.git(&["push", "-q", &url, "main"]);
    repo.git(&["push", "-q", &url, "topic"]);
    let put = |region: usize, who: &str, kind: &str, body: &str| {
        pair.raw(
            region,
            &format!(
                "PUT /app.git/info/head HTTP/1.1\r\nHost: h\r\n{who}Content-Type: {kind}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            ),
        )
    };
    let ann = "Authorization: Basic YW5uOnNlY3JldC1hbm4tc2VjcmV0\r\n";
    for (who, kind, body, status) in [
        ("", "text/plain", "ref: refs/heads/topic\n", "401"),
        (ann, "application/json", "ref: refs/heads/topic\n", "415"),
        (ann, "text/plain", "refs/heads/topic\n", "400"),
        (ann, "text/plain", &"x".repeat(5000), "400"),
        (ann, "text/plain", "ref: refs/heads/none\n", "409"),
    ] {
        let answer = put(US, who, kind, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(head(&repo, &url), "refs/heads/main");
    }
    pair.wait(|| {
        pair.raw(
            EU,
            &format!(
                "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: h\r\n{ann}Connection: close\r\n\r\n"
            ),
        )
        .contains("200 OK")
    });
    let answer = put(EU, ann, "text/plain", "ref: refs/heads/topic\n");
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("replica"), "{answer}");
    let answer = put(US, ann, "text/plain; charset=utf-8", "ref: refs/heads/topic\n");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(head(&repo, &url), "refs/heads/topic");
}

#[test]
fn a_link_to_a_host_as_a_remote_sets_it() {
    let pair = Pair::open();
    let repo = pushed(&pair, "from/app");
    let text = format!(
        "[remotes.a]\nurl = \"{}\"\n[remotes.b]\nurl = \"{}\"\nprovider = \"gitferry\"\n\
         [links.ab]\nsource = \"a\"\ntarget = \"b\"\nrepositories = [\"app\"]\n",
        pair.url(US, "from/{name}"),
        pair.url(US, "to/{name}.git"),
    );
    std::fs::write(pair.path("links.toml"), text).unwrap();
    let pass = || {
        let mut command = Command::new(gitferry_test_support::paths::gitferry());
        let output = command.args(["replicate", "ab", "--config"]).arg(pair.path("links.toml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    };
    pass();
    let to = pair.url(US, "to/app");
    assert_eq!(head(&repo, &to), "refs/heads/main");
    // The default branch of the source gets another name.
    let from = pair.url(US, "from/app");
    pair.ok(&["repo", "set-head", "from/app", "topic", "--region", "us-east-1"]);
    repo.git(&["push", "-q", &from, ":main"]);
    pass();
    assert_eq!(head(&repo, &to), "refs/heads/topic");
    assert_eq!(repo.git(&["ls-remote", &to, "refs/*"]), repo.git(&["ls-remote", &from, "refs/*"]));
}
