//! The query APIs of IAM and STS at hosts with an account, seen by boto3, the AWS CLI and Git.

mod audited;
pub mod cli;
mod git;
mod issuer;
mod web_identity;

use std::process::Command;

use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::python;
use serde_json::{Value, json};

pub const BOTO3: &str = "1.44.5";

/// The administrator's access key, as the API names its parts.
pub fn administrator(pair: &Pair) -> Value {
    let founded: Value =
        serde_json::from_str(&std::fs::read_to_string(pair.path("administrator.json")).unwrap()).unwrap();
    json!({"AccessKeyId": founded["access_key_id"], "SecretAccessKey": founded["secret_access_key"]})
}

/// Id of the account.
pub fn account(pair: &Pair) -> String {
    let founded: Value =
        serde_json::from_str(&std::fs::read_to_string(pair.path("administrator.json")).unwrap()).unwrap();
    founded["account"].as_str().unwrap().to_owned()
}

/// Address of the APIs of a region.
pub fn endpoint(pair: &Pair, region: usize) -> String {
    pair.url(region, "").trim_end_matches('/').to_owned()
}

/// Runs a script of this folder with boto3; what it printed.
fn script(pair: &Pair, name: &str, args: &[&str]) -> String {
    let python = python::environment("boto3", BOTO3, "");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/apis");
    let mut command = Command::new(python);
    command.arg(folder.join(name)).args(args).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("ENDPOINT", endpoint(pair, US)).env("REPLICA", endpoint(pair, EU)).env("REGION", REGIONS[US]);
    command.env("ADMINISTRATOR", administrator(pair).to_string()).env("ACCOUNT", account(pair));
    let output = command.output().unwrap();
    let said = crate::said(&output);
    assert!(output.status.success(), "{name}: {said}\n{}", last_lines(&pair.log()));
    said
}

pub fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("API request") || line.contains("ERROR")).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[test]
fn boto3_calls_every_operation_and_its_model_judges_the_answers() {
    let pair = Pair::with_iam();
    let operations: Vec<&str> = gitferry_api::iam_operations().chain(gitferry_api::STS_OPERATIONS).collect();
    assert!(operations.len() > 100, "{}", operations.len());
    let said = script(&pair, "operations.py", &operations);
    assert!(said.contains("all operations answered"), "{said}");
    // The ledger names who changed the account, and from where.
    let log = pair.ok(&["log", "gitferry/account", "--region", REGIONS[US], "--json"]);
    let newest: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let actor = format!("arn:aws:iam::{}:user/administrator", account(&pair));
    assert_eq!((&newest["actor"], &newest["origin"]), (&actor.into(), &"127.0.0.1".into()), "{newest}");
    let administrator = administrator(&pair);
    let secret = administrator["SecretAccessKey"].as_str().unwrap();
    assert!(!pair.log().contains(secret), "a secret is in the log");
}

#[test]
fn policies_decide_on_each_call() {
    assert!(script(&Pair::with_iam(), "rights.py", &[]).contains("rights hold"));
}

#[test]
fn requests_that_mean_harm_are_refused() {
    assert!(script(&Pair::with_iam(), "attacks.py", &[]).contains("attacks are refused"));
}

#[test]
fn a_replica_reads_and_names_the_region_of_writes() {
    assert!(script(&Pair::with_iam(), "replica.py", &[]).contains("the replica answers"));
}

#[test]
fn only_hosts_with_an_account_have_apis() {
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for pair in [Pair::open(), Pair::with_tokens("ann:0123456789abcdef\n")] {
        let answer = pair.raw(US, request);
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    let answer = Pair::with_iam_but_no_account().raw(US, request);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("<Code>ServiceUnavailable</Code>"), "{answer}");
}

#[test]
fn the_command_simulates_a_principal_of_the_account() {
    let pair = Pair::with_iam();
    let arn = format!("arn:aws:iam::{}:user", account(&pair));
    let iam = |args: &[&str]| pair.ok(&[&["iam"], args, &["--region", REGIONS[US]]].concat());
    iam(&["user", "create", "ann", "--tag", "team=infra"]);
    let policy = pair.path("policy.json");
    let text = r#"{"Version": "2012-10-17", "Statement": [
        {"Sid": "Own", "Effect": "Allow", "Action": "iam:GetUser", "Resource": "arn:aws:iam::*:user/${aws:username}"},
        {"Sid": "Team", "Effect": "Deny", "Action": "iam:*", "Resource": "*",
         "Condition": {"StringEquals": {"aws:PrincipalTag/team": "${aws:SourceIp}"}}}]}"#;
    std::fs::write(&policy, text).unwrap();
    iam(&["policy", "put", "own", policy.to_str().unwrap(), "--user", "ann"]);
    let simulate = |of: &str, on: &str, more: &[&str]| {
        let (of, on) = (format!("{arn}/{of}"), format!("{arn}/{on}"));
        let args = [
            "iam",
            "simulate",
            "--as",
            &of,
            "--region",
            REGIONS[US],
            "--action",
            "iam:GetUser",
            "--resource",
            &on,
            "--json",
        ];
        let output = pair.gitferry(&[&args, more].concat());
        let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), result["results"][0].clone())
    };
    let (code, allowed) = simulate("ann", "ann", &[]);
    assert_eq!((code, &allowed["decision"], &allowed["statement"]), (Some(0), &json!("allowed"), &json!("Own")));
    assert_eq!(simulate("ann", "bob", &[]).1["decision"], "implicitDeny");
    let (code, denied) = simulate("ann", "ann", &["--context", "aws:SourceIp=infra"]);
    assert_eq!((code, &denied["decision"], &denied["statement"]), (Some(2), &json!("explicitDeny"), &json!("Team")));
    assert_eq!(simulate("administrator", "bob", &[]).0, Some(0));
    assert_eq!(simulate("nobody", "ann", &[]).0, Some(2));
}
