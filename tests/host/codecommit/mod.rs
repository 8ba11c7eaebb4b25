//! CodeCommit's API at hosts with an account, seen by boto3, by raw requests, the AWS CLI and Git.

mod content;

use std::path::Path;
use std::process::Command;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::python;
use serde_json::Value;

use crate::apis::cli::{aws, json};
use crate::apis::{BOTO3, account, administrator, endpoint};

/// Small pages and batches, and a template for the URL of clones.
const SETTINGS: &str =
    "codecommit = { page_items = 2, batch_items = 3, clone_url_http = \"https://git.example/clone/{name}\" }\n";
/// Branches that stay as they are.
const POLICY: &str = "[[push_policies]]\nrepositories = [\"app\", \"closed\"]\n\
                      protect = [{ refs = [\"refs/heads/closed/*\"], forbid = [\"push\"] }]\n";

/// A pair with the repository `app`, which has two commits on `main`; with their ids and that of the newer file.
fn pair() -> (Pair, [String; 3]) {
    let pair = Pair::with_iam_hosts_and([SETTINGS, SETTINGS], POLICY);
    let source = GitRepo::init(pair.path("source"), &[]);
    let first = source.commit("main", "file", "first\n");
    let second = source.commit("main", "file", "second\n");
    let blob = source.git(&["rev-parse", "main:file"]);
    pair.ok(&["import", source.path.to_str().unwrap(), "app", "--region", REGIONS[US]]);
    (pair, [first, second, blob])
}

/// Runs a script of this folder with the names of the operations that are served; what it printed.
fn script(pair: &Pair, commits: &[String; 3], name: &str) -> String {
    let python = python::environment("boto3", BOTO3, "");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/codecommit");
    let mut command = Command::new(python);
    command.arg(folder.join(name)).args(gitferry_codecommit::served_operations());
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("COMMITS", commits.join(" "));
    command.env("SOURCE", pair.path("source"));
    command.env("ENDPOINT", endpoint(pair, US)).env("REPLICA", endpoint(pair, EU));
    command.env("REGION", REGIONS[US]).env("REPLICA_REGION", REGIONS[EU]);
    command.env("ADMINISTRATOR", administrator(pair).to_string()).env("ACCOUNT", account(pair));
    let output = command.output().unwrap();
    let said = crate::said(&output);
    assert!(output.status.success(), "{name}: {said}\n{}", crate::apis::last_lines(&pair.log()));
    said
}

#[test]
fn botocore_judges_every_operation_in_both_regions() {
    let (pair, commits) = pair();
    assert!(script(&pair, &commits, "operations.py").contains("all operations answered"));
    // The ledger names the caller and the client, and what the API changed is what Git and the command see.
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    let newest: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let actor = format!("arn:aws:iam::{}:user/administrator", account(&pair));
    assert_eq!((&newest["actor"], &newest["origin"]), (&actor.into(), &"127.0.0.1".into()), "{newest}");
    let shown = pair.ok(&["repo", "show", "app", "--region", REGIONS[US], "--json"]);
    assert!(shown.contains("refs/heads/old"), "{shown}");
    for region in REGIONS {
        pair.ok(&["verify", "app", "--region", region]);
    }
}

#[test]
fn git_judges_edits_and_merges() {
    let (pair, commits) = pair();
    assert!(script(&pair, &commits, "edits.py").contains("edits and merges hold"));
    let log = pair.log();
    assert!(!log.contains("panicked"), "{log}");
    for region in REGIONS {
        pair.ok(&["verify", "app", "--region", region]);
    }
}

#[test]
fn inputs_and_rights_are_checked_to_the_letter() {
    let (pair, commits) = pair();
    assert!(script(&pair, &commits, "inputs.py").contains("inputs and rights hold"));
    let log = pair.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn the_aws_cli_manages_repositories() {
    let (pair, [first, ..]) = pair();
    let admin = administrator(&pair);
    let ok = |args: &[&str]| json(&aws(&pair, &admin, &[&["codecommit"], args].concat()));
    ok(&["create-repository", "--repository-name", "web", "--tags", "team=infra"]);
    ok(&["create-branch", "--repository-name", "app", "--branch-name", "old", "--commit-id", &first]);
    let branches = ok(&["list-branches", "--repository-name", "app", "--query", "branches"]);
    assert_eq!(branches, serde_json::json!(["main", "old"]));
    let missing = aws(&pair, &admin, &["codecommit", "get-branch", "--repository-name", "app", "--branch-name", "x"]);
    assert!(crate::said(&missing).contains("(BranchDoesNotExistException)"), "{}", crate::said(&missing));
}
