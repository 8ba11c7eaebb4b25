//! Pushes: policies, hooks, rights, replicas.

use std::io::Write as _;
use std::process::Stdio;

use super::Ssh;
use crate::raw::{line, push_body};
use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, US};

const POLICIES: &str = r#"
[[push_policies]]
repositories = ["guarded"]
protect = [{ refs = ["refs/heads/main"], forbid = ["force", "delete"] }]

[[push_policies]]
repositories = ["hooked"]
pre_receive = { command = ["sh", "-c", "cat >/dev/null; echo hello from the hook >&2; exit $(cat verdict)"] }
"#;

#[test]
fn policies_and_hooks_answer_as_over_http() {
    let verdict = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(verdict.path(), "0").unwrap();
    let policies = POLICIES.replace("verdict", verdict.path().to_str().unwrap());
    let ssh = Ssh::with(&[("ann", "write")], ["", ""], &policies);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    let guarded = ssh.url(US, "guarded");
    ssh.git("ann", &repo, &["push", "-q", &guarded, "main", "side"]);
    let output = ssh.try_git("ann", &repo, &["push", "-f", &guarded, "main~1:main", "side:other"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("protected ref: non-fast-forward"), "{}", said(&output));
    assert!(said(&output).contains("side -> other"), "{}", said(&output));
    // A deletion sends no pack, and its client keeps its side open until it has the report.
    let output = ssh.try_git("ann", &repo, &["push", &guarded, ":main"]);
    assert!(said(&output).contains("protected ref: no deletion"), "{}", said(&output));
    ssh.git("ann", &repo, &["push", "-q", &guarded, ":side"]);
    let hooked = ssh.url(US, "hooked");
    let output = ssh.try_git("ann", &repo, &["push", &hooked, "main"]);
    assert!(output.status.success() && said(&output).contains("remote: hello from the hook"), "{}", said(&output));
    std::fs::write(verdict.path(), "1").unwrap();
    let output = ssh.try_git("ann", &repo, &["push", &hooked, "side"]);
    assert!(!output.status.success() && said(&output).contains("remote: hello from the hook"), "{}", said(&output));
}

#[test]
fn a_key_writes_where_it_may_and_its_name_is_in_the_ledger() {
    let users = [("ann", "write"), ("ci", "write team/*,app"), ("bob", "read")];
    let ssh = Ssh::with(&users, ["", ""], "");
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    ssh.git("ci", &repo, &["push", "-q", &ssh.url(US, "team/app"), "main"]);
    let output = ssh.try_git("ci", &repo, &["push", &ssh.url(US, "other"), "main"]);
    assert_eq!(output.status.code(), Some(128));
    assert!(said(&output).contains("there is no repository other, or this key"), "{}", said(&output));
    ssh.git("bob", &repo, &["ls-remote", &ssh.url(US, "team/app")]);
    let output = ssh.try_git("bob", &repo, &["push", &ssh.url(US, "team/app"), "side"]);
    assert!(said(&output).contains("may read team/app, but not push to it"), "{}", said(&output));
    let log = ssh.pair.ok(&["log", "team/app", "--region", "us-east-1"]);
    assert!(log.contains("ci"), "{log}");
    let listed = ssh.pair.ok(&["repo", "list", "--region", "us-east-1"]);
    assert!(!listed.contains("other"), "{listed}");
}

#[test]
fn a_replica_names_the_place_to_push_to() {
    for on_push in ["", "on_push = \"forward\""] {
        let ssh = Ssh::with(&[("ann", "write")], ["", on_push], "");
        let repo = ssh.with_app();
        ssh.pair.wait(|| ssh.try_git("ann", &repo, &["ls-remote", &ssh.url(EU, "app")]).status.success());
        let output = ssh.try_git("ann", &repo, &["push", &ssh.url(EU, "app"), "main:refs/heads/new"]);
        assert_eq!(output.status.code(), Some(128));
        assert!(said(&output).contains(&format!("push to {}", ssh.pair.url(US, "app"))), "{}", said(&output));
        // A repository that is to be replicated is not created at the wrong end.
        let output = ssh.try_git("ann", &repo, &["push", &ssh.url(EU, "born"), "main"]);
        assert!(said(&output).contains(&ssh.pair.url(US, "born")), "{}", said(&output));
    }
}

/// Clients other than Git keep their side of the connection open after the pack.
#[test]
fn a_push_is_answered_before_its_client_closes_anything() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-receive-pack 'app'"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&push_body(&repo, "open")).unwrap();
    stdin.flush().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ok refs/heads/open"));
    drop(stdin);
    // A client that only looks ends with a flush, or by leaving.
    for input in [&b"0000"[..], b""] {
        let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-receive-pack 'app'"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(" refs/heads/main"), "{}", said(&output));
    }
}

/// What a client sends after its commands is not a pack; a client that leaves in the middle of one leaves nothing.
#[test]
fn a_push_that_breaks_off_changes_nothing() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let before = ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app")]);
    let body = push_body(&repo, "broken");
    for cut in [10, body.len() / 2, body.len() - 1] {
        let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-receive-pack 'app'"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&body[..cut]).unwrap();
        stdin.flush().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    ssh.pair.wait(|| ssh.pair.spooled(US).is_empty());
    assert_eq!(ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app")]), before);
    // No slot is left behind: the host is idle once the log has the ends.
    let garbage = [line(&format!("{} {} refs/heads/x\0 report-status", "0".repeat(40), "1".repeat(40))), "0000".into()];
    let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-receive-pack 'app'"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((garbage.concat() + "not a pack at all").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("unpack pack: "), "{}", said(&output));
    assert_eq!(ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app")]), before);
}
