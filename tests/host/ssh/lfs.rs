//! Git LFS over `ssh://`: objects over SSH, and credentials over SSH for objects over HTTP.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use super::Ssh;
use crate::said;
use gitferry_test_support::git::noise;
use gitferry_test_support::lfs_work::{Work, oid_of};
use gitferry_test_support::pair::US;
use serde_json::Value;

/// A client of SSH that knows no `git-lfs-transfer`.
const OLD_CLIENT: &str = "#!/bin/sh\ncase \"$*\" in *git-lfs-transfer*) exit 1;; esac\nexec ssh \"$@\"\n";

/// Runs Git in a folder as a user, with a client of SSH.
fn git(ssh: &Ssh, user: &str, client: &str, dir: &Path, args: &[&str]) -> Output {
    let mut command = ssh.command(user, dir, &[]);
    let options = ssh.options(&ssh.key(user)).join(" ");
    command.env("GIT_SSH_COMMAND", format!("{client} {options}")).env("GIT_LFS_SKIP_SMUDGE", "0");
    command.args(args).output().unwrap()
}

#[test]
fn objects_are_pushed_and_cloned_over_ssh_and_over_http() {
    let ssh = Ssh::with(&[("ann", "write"), ("bob", "read")], ["", ""], "");
    let old = ssh.pair.path("old-ssh");
    std::fs::write(&old, OLD_CLIENT).unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, client, used, unused) in [
        ("new", "ssh", "ssh_lfs_transfer", "ssh_lfs_authenticate"),
        ("old", old.to_str().unwrap(), "ssh_lfs_authenticate", "ssh_lfs_transfer"),
    ] {
        let before = [used, unused].map(|route| requests(&ssh, route));
        let work = Work::new(ssh.pair.path(&format!("work-{name}")));
        let contents: Vec<Vec<u8>> = (0..4).map(|n| noise(n, 300_000)).chain([b"tiny".to_vec()]).collect();
        for (number, content) in contents.iter().enumerate() {
            work.commit(&format!("large{number}.bin"), content);
        }
        let url = ssh.url(US, &format!("team/{name}"));
        let pushed = git(&ssh, "ann", client, &work.path, &["push", &url, "main"]);
        assert!(pushed.status.success(), "{}\n{}", said(&pushed), ssh.pair.log());
        let to = ssh.pair.path(&format!("clone-{name}"));
        let filters = [
            "filter.lfs.smudge=git-lfs smudge -- %f",
            "filter.lfs.process=git-lfs filter-process",
            "filter.lfs.required=true",
        ];
        let mut args: Vec<&str> = filters.iter().flat_map(|filter| ["-c", filter]).collect();
        args.extend(["clone", "-q", &url, to.to_str().unwrap()]);
        let cloned = git(&ssh, "bob", client, ssh.pair.dir(), &args);
        assert!(cloned.status.success(), "{}\n{}", said(&cloned), ssh.pair.log());
        for (number, content) in contents.iter().enumerate() {
            assert_eq!(&std::fs::read(to.join(format!("large{number}.bin"))).unwrap(), content);
        }
        let after = [used, unused].map(|route| requests(&ssh, route));
        assert!(after[0] > before[0] && after[1] == before[1], "{name}: {before:?} {after:?}");
        let again = git(&ssh, "ann", client, &work.path, &["push", &url, "main:refs/heads/again"]);
        assert!(again.status.success(), "{}", said(&again));
    }
}

/// Number of commands over SSH of a kind that ended well.
fn requests(ssh: &Ssh, route: &str) -> u64 {
    let page = ssh.pair.raw(US, "GET /_metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let name = format!(
        "gitferry_host_request_duration_seconds_count{{region=\"us-east-1\",route=\"{route}\",outcome=\"2xx\"}} "
    );
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

/// Packets as `git-lfs-transfer` reads them: `0000` and `0001` as they are, all else as content.
fn packets(parts: &[&[u8]]) -> Vec<u8> {
    let packet = |part: &&[u8]| match *part {
        b"0000" | b"0001" => part.to_vec(),
        content => [format!("{:04x}", content.len() + 4).as_bytes(), content].concat(),
    };
    parts.iter().flat_map(packet).collect()
}

/// Sends requests to `git-lfs-transfer` and ends the input; the exit status and what came back.
fn transfer(ssh: &Ssh, user: &str, operation: &str, input: &[u8]) -> (Option<i32>, String) {
    let command = format!("git-lfs-transfer app {operation}");
    let mut command = ssh.ssh(&ssh.key(user), &[], &[&command]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Fails if the host has ended the command.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), said(&output))
}

#[test]
fn requests_over_ssh_are_answered_one_by_one() {
    let ssh = Ssh::with(&[("ann", "write"), ("bob", "read")], ["", ""], "");
    ssh.with_app();
    let content = b"content of an object";
    let oid = oid_of(content);
    let size = format!("size={}\n", content.len());
    let put = format!("put-object {oid}\n");
    let other = format!("put-object {}\n", oid_of(b"x"));
    let (status, answer) = transfer(
        &ssh,
        "ann",
        "upload",
        &packets(&[
            b"version 1\n",
            b"0000",
            b"batch\n",
            b"transfer=ssh\n",
            b"0001",
            format!("{oid} {}\n", content.len()).as_bytes(),
            b"0000",
            other.as_bytes(),
            size.as_bytes(),
            b"0001",
            content,
            b"0000",
            put.as_bytes(),
            b"size=3\n",
            b"0001",
            content,
            b"0000",
            put.as_bytes(),
            size.as_bytes(),
            b"0001",
            &content[..7],
            &content[7..],
            b"0000",
            format!("verify-object {oid}\n").as_bytes(),
            size.as_bytes(),
            b"0000",
            format!("get-object {oid}\n").as_bytes(),
            b"0000",
            b"list-lock\n",
            b"0000",
            b"nonsense\n",
            b"0000",
            b"quit\n",
            b"0000",
        ]),
    );
    let statuses: Vec<&str> = answer.lines().filter_map(|line| Some(&line[line.find("status ")? + 7..])).collect();
    assert_eq!(statuses, ["200", "200", "422", "422", "200", "200", "400", "501", "400", "200"], "{answer}");
    assert_eq!(status, Some(0));
    assert!(answer.contains(&format!("{oid} {} upload", content.len())), "{answer}");
    let get = format!("get-object {oid}\n");
    let missing = format!("get-object {}\n", oid_of(b"x"));
    let batch = format!("{oid} {}\n{} 1\n", content.len(), oid_of(b"x"));
    let lines: Vec<&[u8]> = batch.split_inclusive('\n').map(str::as_bytes).collect();
    let input = packets(&[
        b"batch\n",
        b"0001",
        lines[0],
        lines[1],
        b"0000",
        get.as_bytes(),
        b"0000",
        missing.as_bytes(),
        b"0000",
    ]);
    let (status, answer) = transfer(&ssh, "bob", "download", &input);
    assert_eq!(status, Some(0), "{answer}");
    assert!(answer.contains(&format!("{} 1 noop", oid_of(b"x"))) && answer.contains("content of an object0000"));
    assert!(answer.contains("status 404"), "{answer}");
    // Rights are those of the operation.
    let (status, answer) = transfer(&ssh, "bob", "upload", &[]);
    assert!(status == Some(128) && answer.contains("may read app, but not push to it"), "{answer}");
    // What is no request ends the command; what breaks off is not stored.
    let whole = b"an object that breaks off";
    let cut = packets(&[
        format!("put-object {}\n", oid_of(whole)).as_bytes(),
        format!("size={}\n", whole.len()).as_bytes(),
        b"0001",
        whole,
    ]);
    for input in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"0003", b"0000", b"fff9", &cut] {
        let (status, answer) = transfer(&ssh, "ann", "upload", input);
        assert_eq!(status, Some(128), "{answer}");
    }
    let check = packets(&[
        format!("verify-object {}\n", oid_of(whole)).as_bytes(),
        format!("size={}\n", whole.len()).as_bytes(),
        b"0000",
    ]);
    assert!(transfer(&ssh, "ann", "upload", &check).1.contains("status 404"));
    ssh.pair.wait(|| ssh.pair.spooled(US).is_empty());
}

#[test]
fn a_token_is_for_one_repository_and_one_operation() {
    let ssh = Ssh::with(&[("ann", "write"), ("bob", "read")], ["", ""], "");
    ssh.with_app();
    let token = |user: &str, name: &str, operation: &str| {
        let output = ssh.run(user, &["git-lfs-authenticate", name, operation]);
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        (output.status.code(), answer)
    };
    let (status, answer) = token("ann", "app", "upload");
    let answer = answer.unwrap();
    assert_eq!(status, Some(0));
    assert_eq!(answer["href"], ssh.pair.url(US, "app/info/lfs"));
    let seconds = answer["expires_in"].as_i64().unwrap();
    assert!((1..=3600).contains(&seconds), "{answer}");
    assert_eq!(token("bob", "app", "upload"), (Some(128), None));
    let upload = answer["header"]["Authorization"].as_str().unwrap().to_owned();
    let download = token("bob", "app", "download").1.unwrap()["header"]["Authorization"].as_str().unwrap().to_owned();
    let ask = |name: &str, operation: &str, authorization: &str| {
        let object = format!("{{\"oid\":\"{}\",\"size\":1}}", oid_of(b"x"));
        let body = format!("{{\"operation\":\"{operation}\",\"objects\":[{object}]}}");
        let head = format!(
            "POST /{name}/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Accept: application/vnd.git-lfs+json\r\nContent-Type: application/vnd.git-lfs+json\r\n\
             Authorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = ssh.pair.raw(US, &(head + &body));
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(ask("app", "upload", &upload), 200);
    assert_eq!(ask("app", "download", &download), 200);
    assert_eq!(ask("app", "upload", &download), 403);
    assert_eq!(ask("other", "upload", &upload), 403);
    assert_eq!(ask("app", "download", &format!("{download}x")), 401);
    // Git itself does not take it.
    let git = format!(
        "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: {upload}\r\n\r\n"
    );
    assert!(ssh.pair.raw(US, &git).starts_with("HTTP/1.1 401"));
    assert!(!ssh.pair.log().contains(upload.split('.').nth(1).unwrap()), "a token is in the log");
}
