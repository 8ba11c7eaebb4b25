//! The AWS CLI with `--endpoint-url`.

use std::process::{Command, Output};

use gitferry_test_support::pair::{Pair, REGIONS, US};
use gitferry_test_support::python;
use serde_json::Value;

use super::{account, administrator, endpoint};

const AWSCLI: &str = "1.46.1";

pub fn aws(pair: &Pair, key: &Value, args: &[&str]) -> Output {
    let aws = python::environment("awscli", AWSCLI, "").with_file_name("aws");
    let mut command = Command::new(aws);
    command.args(["--endpoint-url", &endpoint(pair, US), "--output", "json"]).args(args).current_dir(pair.dir());
    command.env("AWS_ACCESS_KEY_ID", key["AccessKeyId"].as_str().unwrap());
    command.env("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"].as_str().unwrap());
    if let Some(token) = key["SessionToken"].as_str() {
        command.env("AWS_SESSION_TOKEN", token);
    }
    command.env("AWS_DEFAULT_REGION", REGIONS[US]).env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PAGER", "");
    command.output().unwrap()
}

pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", crate::said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn the_aws_cli_manages_users_and_assumes_roles() {
    let pair = Pair::with_iam();
    let admin = administrator(&pair);
    let id = account(&pair);
    let ok = |args: &[&str]| json(&aws(&pair, &admin, args));
    assert_eq!(ok(&["sts", "get-caller-identity"])["Account"], id);
    for name in ["ann", "bob", "cat"] {
        ok(&["iam", "create-user", "--user-name", name, "--tags", "Key=team,Value=infra"]);
    }
    let users = ok(&["iam", "list-users", "--page-size", "2", "--query", "Users[].UserName"]);
    assert_eq!(users, serde_json::json!(["administrator", "ann", "bob", "cat"]));
    let some = ok(&["iam", "list-users", "--max-items", "1"]);
    let rest = ok(&["iam", "list-users", "--starting-token", some["NextToken"].as_str().unwrap()]);
    assert_eq!(rest["Users"].as_array().unwrap().len(), 3);
    let document = pair.path("policy.json");
    let text = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "codecommit:Git*", "Resource": "*"}]}"#;
    std::fs::write(&document, text).unwrap();
    let file = format!("file://{}", document.display());
    ok(&["iam", "put-user-policy", "--user-name", "ann", "--policy-name", "git", "--policy-document", &file]);
    let policy = ok(&["iam", "get-user-policy", "--user-name", "ann", "--policy-name", "git"]);
    assert_eq!(policy["PolicyDocument"], serde_json::from_str::<Value>(text).unwrap());
    let trust = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {{"AWS": "arn:aws:iam::{id}:user/ann"}}}}]}}"#
    );
    ok(&["iam", "create-role", "--role-name", "deploy", "--assume-role-policy-document", &trust]);
    let key = ok(&["iam", "create-access-key", "--user-name", "ann"])["AccessKey"].clone();
    let role = format!("arn:aws:iam::{id}:role/deploy");
    let assume = ["sts", "assume-role", "--role-arn", &role, "--role-session-name", "build"];
    let assumed = json(&aws(&pair, &key, &assume))["Credentials"].clone();
    let session = json(&aws(&pair, &assumed, &["sts", "get-caller-identity"]));
    assert_eq!(session["Arn"], format!("arn:aws:sts::{id}:assumed-role/deploy/build"));
    let refused = aws(&pair, &assumed, &["iam", "list-users"]);
    assert!(crate::said(&refused).contains("(AccessDenied)"), "{}", crate::said(&refused));
    let missing = aws(&pair, &admin, &["iam", "get-user", "--user-name", "nobody"]);
    assert!(crate::said(&missing).contains("(NoSuchEntity)"), "{}", crate::said(&missing));
    ok(&["iam", "wait", "user-exists", "--user-name", "ann"]);
    let summary = ok(&["iam", "get-account-summary", "--query", "SummaryMap.Users"]);
    assert_eq!(summary, 4);
}
