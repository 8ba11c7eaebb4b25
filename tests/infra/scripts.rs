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
case "$1 $2" in
  "ecs describe-services")
    case "$*" in
      *no-such*) echo None ;;
      *taskDefinition*) echo "arn:aws:ecs:$region:1:task-definition/$(after --services "$@"):7" ;;
      *) echo '{ "awsvpcConfiguration": { "subnets": ["subnet-1"] } }' ;;
    esac ;;
  "ecs run-task") echo "arn:aws:ecs:$region:1:task/c/0123" ;;
  "ecs describe-tasks")
    case "$(last "$@")" in
      *lastStatus) echo STOPPED ;;
      *exitCode) cat "$STATE/exit" ;;
      *) echo "CannotPullContainerError" ;;
    esac ;;
  "logs get-log-events") echo "a line of the log" ;;
  "secretsmanager list-secret-version-ids")
    if [ -e "$STATE/$region" ]; then echo version; else echo None; fi ;;
  "secretsmanager get-secret-value") cat "$STATE/$region" ;;
  "secretsmanager put-secret-value")
    [ "$(after --secret-string "$@")" = file:///dev/stdin ] || exit 9
    cat >"$STATE/$region" ;;
  "ecs update-service" | "ecs wait") ;;
  *) exit 9 ;;
esac
"#;

/// A folder with the program and what it keeps.
struct Aws(tempfile::TempDir);

impl Aws {
    fn new() -> Aws {
        let aws = Aws(tempfile::tempdir().unwrap());
        let program = aws.path("aws");
        std::fs::write(&program, AWS).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(aws.path("exit"), "0\n").unwrap();
        std::fs::write(aws.path("calls"), "").unwrap();
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

    fn tokens(&self, region: &str) -> String {
        std::fs::read_to_string(self.path(region)).unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

const HOSTS: [&str; 2] = ["us-east-1/c-us/gitferry-us-east-1", "eu-west-1/c-eu/gitferry-eu-west-1"];

#[test]
fn the_first_start_makes_one_token_both_regions_and_starts_all() {
    let aws = Aws::new();
    let ran = aws.run("first-start", &[HOSTS[0], HOSTS[1], "--workers", "eu-west-1/c-eu/gitferry-us-to-eu"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let tokens = aws.tokens("us-east-1");
    let (name, token) = tokens.trim_end().split_once(':').unwrap();
    assert!(name == "admin" && token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tokens}");
    assert_eq!(aws.tokens("eu-west-1"), tokens, "a forwarded push comes with the token of the other region");
    let calls = aws.calls();
    assert!(!calls.iter().any(|call| call.contains(token)), "the token is an argument: {calls:?}");
    assert!(!said(&ran).contains(token), "{}", said(&ran));
    let at = |part: &str| {
        calls.iter().position(|call| call.contains(part)).unwrap_or_else(|| panic!("no {part}: {calls:?}"))
    };
    for region in ["us-east-1", "eu-west-1"] {
        let init = format!("\"command\": [\"region\", \"init\", \"{region}\"]");
        let put =
            at(&format!("--region {region} secretsmanager put-secret-value --secret-id gitferry-{region}/tokens"));
        let init = at(&init);
        let start = at(&format!("ecs update-service --cluster c-{} --service gitferry-{region}", &region[..2]));
        assert!(put < init && init < start, "{calls:?}");
        assert!(calls[init].starts_with(&format!("--region {region} ecs run-task")), "{}", calls[init]);
    }
    at("--region eu-west-1 ecs update-service --cluster c-eu --service gitferry-us-to-eu --force-new-deployment");
}

#[test]
fn running_it_again_changes_no_token() {
    let aws = Aws::new();
    std::fs::write(aws.path("eu-west-1"), "ann:0123456789abcdef\n").unwrap();
    assert!(aws.run("first-start", &HOSTS).status.success());
    assert_eq!(aws.tokens("us-east-1"), "ann:0123456789abcdef\n", "those that another host has");
    assert!(aws.run("first-start", &HOSTS).status.success());
    assert_eq!(aws.tokens("eu-west-1"), "ann:0123456789abcdef\n");
    let puts = aws.calls().iter().filter(|call| call.contains("put-secret-value")).count();
    assert_eq!(puts, 1);
}

/// A region that is not made starts no host.
#[test]
fn a_step_that_fails_is_the_last_one() {
    let aws = Aws::new();
    std::fs::write(aws.path("exit"), "1\n").unwrap();
    let ran = aws.run("first-start", &HOSTS);
    assert!(!ran.status.success() && said(&ran).contains("a line of the log"), "{}", said(&ran));
    assert!(!aws.calls().iter().any(|call| call.contains("update-service")));
    for wrong in [&["us-east-1"][..], &[], &["--workers"]] {
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
    std::fs::write(aws.path("exit"), "3\n").unwrap();
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
    ] {
        let ran = aws.run("run-task", arguments);
        assert!(ran.status.code() == Some(2) && said(&ran).contains(expected), "{}", said(&ran));
    }
    assert!(!aws.calls().iter().any(|call| call.contains("ecs run-task")));
}
