//! `gitferry iam simulate`: decisions, and the statements that make them.

use std::path::Path;
use std::process::{Command, Output};

use gitferry_test_support::paths::gitferry;
use serde_json::{Value, json};

const POWER_USER: &str = "arn:aws:iam::aws:policy/AWSCodeCommitPowerUser";
const REPOSITORY: &str = "arn:aws:codecommit:us-east-1:111111111111:team/app";
const DENY_MAIN: &str = r#"{"Version": "2012-10-17", "Statement": [{
    "Sid": "KeepMain", "Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
    "Condition": {"StringEqualsIfExists": {"codecommit:References": "refs/heads/main"},
                  "Null": {"codecommit:References": "false"}}}]}"#;

fn simulate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(gitferry());
    command.current_dir(folder).args(["iam", "simulate"]).args(arguments).output().unwrap()
}

/// Exit code and the JSON that is printed.
fn decided(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = simulate(folder, &[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), json)
}

#[test]
fn decisions_are_printed_with_their_statements() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("deny-main.json"), DENY_MAIN).unwrap();
    let push = ["--policy", POWER_USER, "deny-main.json", "--action", "codecommit:GitPush", "--resource", REPOSITORY];
    let (code, json) = decided(folder.path(), &push);
    assert_eq!(code, Some(0));
    let expected = json!({
        "schema": 1, "allowed": true, "missing_context": ["codecommit:References"],
        "results": [{"action": "codecommit:GitPush", "resource": REPOSITORY, "decision": "allowed", "layer": "identity",
                     "policy": POWER_USER, "statement": "Statement[0]"}],
    });
    assert_eq!(json, expected);

    let main = [&push[..], &["--context", "codecommit:references=refs/heads/main"]].concat();
    let (code, json) = decided(folder.path(), &main);
    assert_eq!((code, &json["allowed"]), (Some(2), &json!(false)));
    let expected = json!([{"action": "codecommit:GitPush", "resource": REPOSITORY, "decision": "explicitDeny",
        "layer": "identity", "policy": "deny-main.json", "statement": "KeepMain"}]);
    assert_eq!(json["results"], expected);
    let output = simulate(folder.path(), &main);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("explicitDeny") && text.contains("KeepMain of deny-main.json (identity)"), "{text}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn limits_of_boundary_and_session_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let reader = "arn:aws:iam::aws:policy/AWSCodeCommitReadOnly";
    let identity =
        ["--policy", POWER_USER, "--action", "codecommit:GitPull", "codecommit:GitPush", "--resource", REPOSITORY];
    for (option, layer) in [("--boundary", "boundary"), ("--session-policy", "session")] {
        let (code, json) = decided(folder.path(), &[&identity[..], &[option, reader]].concat());
        assert_eq!(code, Some(2));
        let results = json["results"].as_array().unwrap();
        assert_eq!(results[0]["decision"], "allowed");
        assert_eq!((&results[1]["decision"], &results[1]["layer"]), (&json!("implicitDeny"), &json!(layer)));
        assert_eq!(results[1]["statement"], Value::Null);
    }
}

#[test]
fn what_cannot_be_simulated_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.json"), DENY_MAIN.replace("Deny", "deny")).unwrap();
    for (arguments, expected) in [
        (&["--policy", "none.json", "--action", "s3:GetObject"][..], "none.json: "),
        (
            &["--policy", "bad.json", "--action", "s3:GetObject"],
            "bad.json: malformed policy document: Statement[0].Effect: ",
        ),
        (&["--policy", "arn:aws:iam::aws:policy/None", "--action", "s3:GetObject"], "is not a managed policy"),
        (&["--policy", POWER_USER, "--action", "codecommit:GitPus"], "no action `codecommit:GitPus`"),
        (&["--policy", POWER_USER, "--action", "s3:GetObject", "--context", "x"], "not a condition key"),
    ] {
        let output = simulate(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}
