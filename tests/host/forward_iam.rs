//! Pushes to a replica that go to the primary, by hosts with `auth = "iam"`: the primary decides for the true client.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;

use serde_json::Value;

use crate::iam::{AWSCLI, GIT_REMOTE_CODECOMMIT, Iam, POWER_USER, works};
use crate::said;
use gitferry_test_support::git::{GitRepo, command};
use gitferry_test_support::lfs_work::{Work, oid_of, stored};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::python;

/// Lines of a host that forwards, behind a proxy on this machine.
const FORWARD: &str = "on_push = \"forward\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
/// Headers of the proxy for a client at an address of the documentation.
const BY_PROXY: [&str; 4] =
    ["-c", "http.extraHeader=X-Forwarded-For: 203.0.113.7", "-c", "http.extraHeader=X-Forwarded-Proto: https"];

/// Text of Git's configuration for the credential helper of the AWS CLI, signing for `eu-west-1`.
fn helper(key: &Value) -> String {
    let aws = python::environment("awscli", AWSCLI, "").with_file_name("aws");
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    format!(
        "!AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_DEFAULT_REGION={} AWS_EC2_METADATA_DISABLED=true \
         {} codecommit credential-helper --ignore-host-check $@",
        text("access_key_id"),
        text("secret_access_key"),
        REGIONS[EU],
        aws.display()
    )
}

/// Runs Git with a key of the account.
fn git(repo: &GitRepo, key: &Value, args: &[&str]) -> Output {
    let helper = format!("credential.helper={}", helper(key));
    let mut git = command(&repo.path);
    git.args(["-c", "credential.helper=", "-c", &helper, "-c", "credential.UseHttpPath=true"]).args(args);
    git.output().unwrap()
}

/// A repository of ann's that both regions have, and a key of hers.
fn replicated(pair: &Pair, iam: &Iam<'_>) -> (GitRepo, Value) {
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    let key = iam.json(&["access-key", "create", "--user", "ann"]);
    iam.settle(US);
    iam.settle(EU);
    repo.git(&["push", "-q", &ann.url(pair, US, "app"), "main"]);
    pair.wait(|| works(&repo.try_git(&["ls-remote", &ann.url(pair, EU, "app"), "main"])));
    (repo, key)
}

/// The value of `main` in a region, by the command.
fn main_of(pair: &Pair, region: usize) -> String {
    let shown = pair.ok(&["log", "app", "--region", REGIONS[region], "--json"]);
    let edits = shown.lines().filter_map(|line| {
        let change: Value = serde_json::from_str(line).unwrap();
        let edits = change["edits"].as_array()?.clone();
        let edit = edits.into_iter().find(|edit| edit["name"] == "refs/heads/main")?;
        Some((change["seq"].as_u64()?, edit["new"].as_str()?.to_owned()))
    });
    edits.max().unwrap().1
}

#[test]
fn a_forwarded_signature_is_the_true_client_at_the_primary() {
    let pair = Pair::with_iam_and_hosts(["", FORWARD]);
    let iam = Iam { pair: &pair };
    let (repo, key) = replicated(&pair, &iam);
    let here = pair.url(EU, "app");
    let id = repo.commit("main", "x", "1");
    let pushed = git(&repo, &key, &[&BY_PROXY[..], &["push", "-q", &here, "main"]].concat());
    assert!(works(&pushed), "{}", said(&pushed));
    // The client reads its own write.
    let listed = git(&repo, &key, &["ls-remote", &here, "main"]);
    assert!(said(&listed).starts_with(&id), "{}", said(&listed));
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    let newest: Value = serde_json::from_str(log.lines().find(|line| line.contains(&id)).unwrap()).unwrap();
    assert_eq!(newest["actor"], format!("arn:aws:iam::{}:user/ann", iam.account()));
    let forwarded = "client=203.0.113.7 forwarded_by=\"eu-west-1\"";
    assert!(pair.log().lines().any(|line| line.contains(forwarded) && line.contains("user/ann")), "{}", pair.log());
    for secret in ["Gitferry-Delegation ", key["secret_access_key"].as_str().unwrap()] {
        assert!(!pair.log().contains(secret), "a secret is in the log");
    }
    // The primary's policies see the address of the client, and if it came over TLS.
    iam.put(
        "ann",
        "office",
        r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "arn:aws:codecommit:us-east-1:*:*",
             "Condition": {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}},
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "arn:aws:codecommit:us-east-1:*:*",
             "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        ]}"#,
    );
    iam.settle(US);
    iam.settle(EU);
    let id = repo.commit("main", "x", "2");
    let office = git(&repo, &key, &[&BY_PROXY[..], &["push", "-q", &here, "main"]].concat());
    assert!(works(&office) && main_of(&pair, US) == id, "{}", said(&office));
    repo.commit("main", "x", "3");
    let clear = [&BY_PROXY[..2], &["push", "-q", &here, "main"]].concat();
    for args in [clear, vec!["push", "-q", &here, "main"]] {
        let refused = git(&repo, &key, &args);
        assert!(!works(&refused) && main_of(&pair, US) == id, "{}", said(&refused));
        assert!(said(&refused).contains("403"), "{}", said(&refused));
    }
}

#[test]
fn the_primary_decides_on_each_ref_of_a_forwarded_push() {
    let pair = Pair::with_iam_and_hosts(["", FORWARD]);
    let iam = Iam { pair: &pair };
    let (repo, key) = replicated(&pair, &iam);
    iam.put(
        "ann",
        "prod",
        r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "arn:aws:codecommit:us-east-1:*:app",
             "Condition": {"StringEquals": {"codecommit:References": "refs/heads/prod"}}}
        ]}"#,
    );
    iam.settle(US);
    iam.settle(EU);
    let id = repo.commit("main", "x", "1");
    let both = git(&repo, &key, &["push", &pair.url(EU, "app"), "main", "main:prod"]);
    assert!(!works(&both), "{}", said(&both));
    assert!(said(&both).contains("explicitly denies codecommit:GitPush on this ref"), "{}", said(&both));
    let listed = git(&repo, &key, &["ls-remote", &pair.url(EU, "app")]);
    assert!(said(&listed).contains(&id) && !said(&listed).contains("prod"), "{}", said(&listed));
    // A push that makes its repository at the primary.
    let made = git(&repo, &key, &["push", "-q", &pair.url(EU, "fresh"), "main"]);
    assert!(works(&made), "{}", said(&made));
    assert!(pair.ok(&["log", "fresh", "--region", REGIONS[US]]).contains("user/ann"));
}

#[test]
fn git_remote_codecommit_pushes_to_a_replica_over_tls() {
    let pair = Pair::with_iam_over_tls(["", "on_push = \"forward\""]);
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    iam.user("ann", &[POWER_USER]);
    let key = iam.json(&["access-key", "create", "--user", "ann"]);
    let python = python::environment("git-remote-codecommit", GIT_REMOTE_CODECOMMIT, "");
    let path = format!("{}:{}", python.parent().unwrap().display(), std::env::var("PATH").unwrap());
    iam.settle(US);
    iam.settle(EU);
    let mut push = command(&repo.path);
    push.args(["push", "-q", "codecommit::eu-west-1://app", "main"]);
    push.env("PATH", &path).env("CODE_COMMIT_ENDPOINT", pair.address(EU).to_string());
    push.env("GIT_SSL_CAINFO", pair.path("cert.pem")).env("AWS_EC2_METADATA_DISABLED", "true");
    push.env("AWS_ACCESS_KEY_ID", key["access_key_id"].as_str().unwrap());
    push.env("AWS_SECRET_ACCESS_KEY", key["secret_access_key"].as_str().unwrap());
    let pushed = push.output().unwrap();
    assert!(works(&pushed), "{}", said(&pushed));
    assert_eq!(main_of(&pair, US), repo.git(&["rev-parse", "main"]));
    assert_eq!(main_of(&pair, EU), main_of(&pair, US));
}

#[test]
fn lfs_objects_go_to_the_primary_with_credentials_for_it() {
    let pair = Pair::with_iam_and_hosts(["", FORWARD]);
    let iam = Iam { pair: &pair };
    let (_, key) = replicated(&pair, &iam);
    let work = Work::new(pair.path("work"));
    work.git(&["config", "credential.helper", &helper(&key)]);
    work.git(&["config", "credential.UseHttpPath", "true"]);
    work.commit("file.bin", b"some content");
    let pushed = work.try_git(&["push", "-q", &pair.url(EU, "app"), "main:refs/heads/lfs"]);
    assert!(works(&pushed), "{}", said(&pushed));
    let oid = oid_of(b"some content");
    for region in REGIONS {
        assert!(stored(&pair.path("data").join(region), &oid).is_some(), "{region} has no object");
    }
    assert!(!pair.log().contains("Gitferry-Delegation "), "a secret is in the log");
}

#[test]
fn a_key_that_the_primary_knows_to_be_revoked_pushes_nothing() {
    let mut pair = Pair::with_iam_and_hosts(["", FORWARD]);
    let (repo, key) = replicated(&pair, &Iam { pair: &pair });
    // The replica no longer learns of changes of the account.
    let file = pair.path("data/gitferry.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.split("[links.dr]").next().unwrap()).unwrap();
    pair.restart();
    let iam = Iam { pair: &pair };
    iam.json(&["access-key", "deactivate", key["access_key_id"].as_str().unwrap(), "--user", "ann"]);
    iam.settle(US);
    let before = main_of(&pair, US);
    repo.commit("main", "x", "1");
    let refused = git(&repo, &key, &["push", "-q", &pair.url(EU, "app"), "main"]);
    assert!(!works(&refused) && main_of(&pair, US) == before, "{}", said(&refused));
    // The replica knows the key still, and the primary said no.
    assert!(works(&git(&repo, &key, &["ls-remote", &pair.url(EU, "app")])));
    assert!(pair.log().contains("the access key id does not exist in this account, or is inactive"), "{}", pair.log());
}

/// Takes one request in the place of the primary's host, and returns its head.
fn intercept(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        head.extend_from_slice(&byte);
    }
    stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(head).unwrap()
}

#[test]
fn an_intercepted_delegation_is_good_for_its_request_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let primary = format!("url = \"http://{}\"", listener.local_addr().unwrap());
    let pair = Pair::with_iam_and_hosts([&primary, FORWARD]);
    let (repo, key) = replicated(&pair, &Iam { pair: &pair });
    let intercepted = std::thread::spawn(move || intercept(&listener));
    assert!(!works(&git(&repo, &key, &["push", "-q", &pair.url(EU, "app"), "main:other"])));
    let head = intercepted.join().unwrap();
    assert!(head.starts_with("GET /app/info/refs?service=git-receive-pack "), "{head}");
    let header =
        head.lines().find(|line| line.to_lowercase().starts_with("authorization: gitferry-delegation ")).unwrap();
    let ask = |region: usize, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n");
        pair.raw(region, &request).split(' ').nth(1).unwrap().to_owned()
    };
    let refs = "/app/info/refs?service=git-receive-pack";
    for path in [
        "/other/info/refs?service=git-receive-pack",
        "/app/info/frontier",
        "/v1/repos/app/info/refs?service=git-receive-pack",
    ] {
        assert_eq!(ask(US, path), "401", "{path}");
    }
    assert_eq!(ask(EU, refs), "401");
    assert_eq!(ask(US, refs), "200");
    assert_eq!(ask(US, refs), "401");
    for made_up in ["Gitferry-Delegation", "Gitferry-Delegation x", "gitferry-delegation AQAA", "Gitferry-Delegation  "]
    {
        let request = format!(
            "GET {refs} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nGitferry-Forwarded-By: eu-west-1\r\n\
             Authorization: {made_up}\r\n\r\n"
        );
        assert!(pair.raw(US, &request).starts_with("HTTP/1.1 401"), "{made_up}");
    }
}
