//! `infra/first-start` and `infra/run-task`, with a program in the place of the AWS command line that keeps secrets in
//! files and writes down what it is asked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::hcl_files::root;

const AWS: &str = r#"#!/bin/sh
set -eu
printf '%s\n' "$*" >>"$STATE/calls"
[ "$1" = --region ] || exit 9
region=$2
shift 2
last() { for one; do :; done; printf '%s' "$one"; }
after() { name=$1; shift; while [ "$1" != "$name" ]; do shift; done; printf '%s' "$2"; }
secret() { id=$(after --secret-id "$@"); printf '%s' "$STATE/$region-${id##*/}"; }
case "$1 $2" in
  "ecs describe-services")
    case "$*" in
      *no-such*) echo None ;;
      *taskDefinition*) echo "arn:aws:ecs:$region:1:task-definition/$(after --services "$@"):7" ;;
      *) echo '{ "awsvpcConfiguration": { "subnets": ["subnet-1"] } }' ;;
    esac ;;
  "ecs run-task")
    case "$*" in
      *-found*)
        [ "$(cat "$STATE/found-exit")" != 0 ] || cp "$STATE/key" "$STATE/$region-administrator"
        echo "arn:aws:ecs:$region:1:task/c/found" ;;
      *) echo "arn:aws:ecs:$region:1:task/c/0123" ;;
    esac ;;
  "ecs list-tasks") cat "$STATE/running" ;;
  "ecs describe-tasks")
    case "$(last "$@")" in
      *lastStatus) echo STOPPED ;;
      *.name) echo gitferry ;;
      *exitCode*) case "$*" in *task/c/found*) cat "$STATE/found-exit" ;; *) cat "$STATE/exit" ;; esac ;;
      *) echo "CannotPullContainerError" ;;
    esac ;;
  "logs get-log-events") echo "a line of the log" ;;
  "secretsmanager list-secret-version-ids")
    if [ -s "$(secret "$@")" ]; then echo version; else echo None; fi ;;
  "secretsmanager get-secret-value") cat "$(secret "$@")" ;;
  "secretsmanager put-secret-value")
    [ "$(after --secret-string "$@")" = file:///dev/stdin ] || exit 9
    cat >"$(secret "$@")" ;;
  "ecs wait")
    case "$*" in
      *tasks-stopped*) cp "$STATE/key" "$STATE/$region-administrator" ;;
    esac ;;
  "ecs update-service") ;;
  *) exit 9 ;;
esac
"#;

/// The access key that the task puts into the secret.
const KEY: &str = "{\"Version\":1,\"AccessKeyId\":\"AKIAEXAMPLE\",\"SecretAccessKey\":\"the-secret\"}\n";

/// A folder with the program and what it keeps.
struct Aws(tempfile::TempDir);

impl Aws {
    fn new() -> Aws {
        let aws = Aws(tempfile::tempdir().unwrap());
        let program = aws.path("aws");
        std::fs::write(&program, AWS).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(aws.path("exit"), "0\n").unwrap();
        std::fs::write(aws.path("found-exit"), "0\n").unwrap();
        std::fs::write(aws.path("calls"), "").unwrap();
        std::fs::write(aws.path("running"), "None\n").unwrap();
        std::fs::write(aws.path("key"), KEY).unwrap();
        aws
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        let mut command = Command::new(root("infra").join(script));
        command.args(arguments).env("PATH", path).env("STATE", self.0.path()).output().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        std::fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
    }

    /// The value of a secret in a region.
    fn secret(&self, region: &str, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{region}-{name}"))).unwrap()
    }

    /// The place of the first call with this part.
    fn at(&self, part: &str) -> usize {
        let calls = self.calls();
        calls.iter().position(|call| call.contains(part)).unwrap_or_else(|| panic!("no {part}: {calls:?}"))
    }

    fn count(&self, part: &str) -> usize {
        self.calls().iter().filter(|call| call.contains(part)).count()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

const HOSTS: [&str; 2] = ["us-east-1/c-us/gitferry-us-east-1", "eu-west-1/c-eu/gitferry-eu-west-1"];

/// Values of secrets are in no argument and in no output.
fn is_kept_secret(aws: &Aws, ran: &Output, value: &str) {
    let calls = aws.calls();
    for line in value.lines().filter(|line| line.len() > 20) {
        assert!(!calls.iter().any(|call| call.contains(line)), "it is an argument: {calls:?}");
        assert!(!said(ran).contains(line), "{}", said(ran));
    }
}

#[test]
fn the_first_start_founds_the_account_and_starts_all() {
    let aws = Aws::new();
    let arguments = ["--auth", "iam", "--ssh", HOSTS[0], HOSTS[1], "--workers", "eu-west-1/c-eu/gitferry-us-to-eu"];
    let ran = aws.run("first-start", &arguments);
    assert!(ran.status.success(), "{}", said(&ran));
    for key in ["ssh_host_ed25519_key", "ssh_host_ecdsa_key"] {
        let value = aws.secret("us-east-1", key);
        assert!(value.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"), "{key}");
        assert_eq!(aws.secret("eu-west-1", key), value, "every task of every region shows the same key");
        is_kept_secret(&aws, &ran, &value);
        let file = aws.path("private");
        std::fs::write(&file, &value).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let shown = Command::new("ssh-keygen").arg("-lf").arg(&file).output().unwrap();
        let fingerprint = String::from_utf8(shown.stdout).unwrap();
        assert!(fingerprint.contains("SHA256:") && said(&ran).contains(fingerprint.trim_end()), "{}", said(&ran));
    }
    is_kept_secret(&aws, &ran, KEY);
    let found = aws.at("--task-definition gitferry-us-east-1-found");
    assert!(aws.calls()[found].starts_with("--region us-east-1 ecs run-task --cluster c-us"), "{:?}", aws.calls());
    assert!(!aws.calls()[found].contains("--overrides"), "the definition has the command");
    assert_eq!(aws.count("-found --network"), 1, "the account is founded in one region");
    for region in ["us-east-1", "eu-west-1"] {
        let put = format!(
            "--region {region} secretsmanager put-secret-value --secret-id gitferry-{region}/ssh_host_ed25519_key"
        );
        let init = aws.at(&format!("\"command\": [\"region\", \"init\", \"{region}\"]"));
        let start = aws.at(&format!("ecs update-service --cluster c-{} --service gitferry-{region}", &region[..2]));
        assert!(aws.at(&put) < init && init < found && found < start, "{:?}", aws.calls());
        assert!(aws.calls()[init].starts_with(&format!("--region {region} ecs run-task")), "{}", aws.calls()[init]);
    }
    aws.at("--region eu-west-1 ecs update-service --cluster c-eu --service gitferry-us-to-eu --force-new-deployment");
    assert!(said(&ran).contains("--secret-id gitferry-us-east-1/administrator"), "{}", said(&ran));
}

/// A founding whose access key did not reach the secret is made up for, and no other is.
#[test]
fn a_first_start_that_was_cut_off_ends_with_one_account_and_its_key() {
    let aws = Aws::new();
    std::fs::write(aws.path("found-exit"), "0\nNone\n").unwrap();
    let ran = aws.run("first-start", &HOSTS);
    assert!(ran.status.code() == Some(2) && said(&ran).contains("did not run"), "{}", said(&ran));
    assert_eq!((aws.count("-found --network"), aws.count("update-service")), (1, 0));
    std::fs::write(aws.path("found-exit"), "0\n").unwrap();
    assert!(aws.run("first-start", &HOSTS).status.success());
    assert_eq!((aws.count("-found --network"), aws.secret("us-east-1", "administrator").as_str()), (2, KEY));
    // With the key kept, nothing is founded, whichever region is named first.
    assert!(aws.run("first-start", &HOSTS).status.success());
    assert!(aws.run("first-start", &[HOSTS[1], HOSTS[0]]).status.success());
    assert_eq!(aws.count("-found --network"), 2);
    // A task of an earlier run goes on: its key is the one that counts.
    let aws = Aws::new();
    std::fs::write(aws.path("running"), "arn:aws:ecs:us-east-1:1:task/c/0007\n").unwrap();
    let ran = aws.run("first-start", &HOSTS);
    assert!(ran.status.success(), "{}", said(&ran));
    aws.at("ecs wait tasks-stopped --cluster c-us --tasks arn:aws:ecs:us-east-1:1:task/c/0007");
    assert_eq!(aws.count("-found --network"), 0);
}

#[test]
fn tokens_are_the_same_in_all_regions_and_stay() {
    let aws = Aws::new();
    let arguments = ["--auth", "tokens", "--ssh", HOSTS[0], HOSTS[1]];
    let ran = aws.run("first-start", &arguments);
    assert!(ran.status.success(), "{}", said(&ran));
    let tokens = aws.secret("us-east-1", "tokens");
    let (name, token) = tokens.trim_end().split_once(':').unwrap();
    assert!(name == "admin" && token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tokens}");
    assert_eq!(aws.secret("eu-west-1", "tokens"), tokens, "a forwarded push comes with the token of the other region");
    is_kept_secret(&aws, &ran, token);
    assert!(aws.secret("eu-west-1", "ssh_authorized_keys").starts_with("# "), "a file without users");
    assert_eq!(aws.count("-found"), 0);
    let puts = aws.count("put-secret-value");
    assert!(aws.run("first-start", &arguments).status.success());
    assert_eq!((aws.count("put-secret-value"), aws.secret("eu-west-1", "tokens")), (puts, tokens));
    let aws = Aws::new();
    std::fs::write(aws.path("eu-west-1-tokens"), "ann:0123456789abcdef\n").unwrap();
    assert!(aws.run("first-start", &["--auth", "tokens", HOSTS[0], HOSTS[1]]).status.success());
    assert_eq!(aws.secret("us-east-1", "tokens"), "ann:0123456789abcdef\n", "those that another host has");
}

#[test]
fn hosts_for_identities_of_aws_share_a_key() {
    let aws = Aws::new();
    let ran = aws.run("first-start", &["--auth", "aws", HOSTS[0], HOSTS[1]]);
    assert!(ran.status.success(), "{}", said(&ran));
    let key = aws.secret("us-east-1", "account_key");
    assert!(key.len() == 65 && key.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{key:?}");
    assert_eq!(aws.secret("eu-west-1", "account_key"), key);
    is_kept_secret(&aws, &ran, &key);
}

/// A region that is not made starts no host.
#[test]
fn a_step_that_fails_is_the_last_one() {
    let aws = Aws::new();
    std::fs::write(aws.path("exit"), "1\n").unwrap();
    let ran = aws.run("first-start", &HOSTS);
    assert!(!ran.status.success() && said(&ran).contains("a line of the log"), "{}", said(&ran));
    assert!(!aws.calls().iter().any(|call| call.contains("update-service")));
    for wrong in [&["us-east-1"][..], &[], &["--workers"], &["--auth", "none", HOSTS[0]], &["--auth"]] {
        let ran = aws.run("first-start", wrong);
        assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
    }
}

#[test]
fn a_task_prints_its_log_and_ends_with_its_code() {
    let aws = Aws::new();
    let status = ["eu-west-1", "c-eu", "gitferry-us-to-eu", "status", "us-to-eu", "--json"];
    let ran = aws.run("run-task", &status);
    assert!(ran.status.success() && said(&ran) == "a line of the log\n", "{}", said(&ran));
    let calls = aws.calls();
    let run = calls.iter().find(|call| call.contains("ecs run-task")).unwrap();
    for part in [
        "--region eu-west-1",
        "--cluster c-eu",
        "--task-definition arn:aws:ecs:eu-west-1:1:task-definition/gitferry-us-to-eu:7",
        "{ \"awsvpcConfiguration\": { \"subnets\": [\"subnet-1\"] } }",
        "{\"containerOverrides\": [{\"name\": \"gitferry\", \"command\": [\"status\", \"us-to-eu\", \"--json\"]}]}",
    ] {
        assert!(run.contains(part), "no {part} in {run}");
    }
    let log = "--log-group-name /ecs/gitferry-us-to-eu --log-stream-name gitferry/gitferry/0123";
    assert!(calls.iter().any(|call| call.contains(log)), "{calls:?}");
    // In the network of the service, by a definition of its own.
    let list =
        ["--definition", "gitferry-eu-west-1-admin", "eu-west-1", "c-eu", "gitferry-eu-west-1", "iam", "data-key"];
    assert!(aws.run("run-task", &list).status.success());
    let run = aws.calls().into_iter().rfind(|call| call.contains("ecs run-task")).unwrap();
    assert!(
        run.contains("--task-definition gitferry-eu-west-1-admin --network") && run.contains("\"data-key\""),
        "{run}"
    );
    std::fs::write(aws.path("exit"), "3\nNone\n").unwrap();
    assert_eq!(aws.run("run-task", &status).status.code(), Some(3));
    std::fs::write(aws.path("exit"), "None\n").unwrap();
    let ran = aws.run("run-task", &status);
    assert!(ran.status.code() == Some(2) && said(&ran).contains("CannotPullContainerError"), "{}", said(&ran));
}

#[test]
fn a_task_that_cannot_be_is_refused() {
    let aws = Aws::new();
    for (arguments, expected) in [
        (&["us-east-1", "c", "no-such", "status"][..], "there is no service no-such"),
        (&["us-east-1", "c", "s", "repo", "create", "a\"b"][..], "an argument has a quote"),
        (&["us-east-1", "c", "s"][..], "usage"),
        (&["--definition", "f", "us-east-1", "c"][..], "usage"),
        (&["--definition"][..], "usage"),
    ] {
        let ran = aws.run("run-task", arguments);
        assert!(ran.status.code() == Some(2) && said(&ran).contains(expected), "{}", said(&ran));
    }
    assert!(!aws.calls().iter().any(|call| call.contains("ecs run-task")));
}
