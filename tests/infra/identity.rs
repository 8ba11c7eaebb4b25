//! The identity resources of Terraform's AWS provider against a host's APIs: applied, without drift, changed, destroyed.

use gitferry_test_support::pair::{Pair, REGIONS, US};
use serde_json::Value;

use crate::older;
use crate::terraform::{APPLY, command, output, run};

/// The resources that the provider 3.39 has. `aws_iam_service_specific_credential` is newer.
const RESOURCES: &str = r#"
variable "endpoint" {}
variable "access_key" {}
variable "secret_key" {}
variable "team" {}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = var.access_key
  secret_key                  = var.secret_key
  skip_metadata_api_check     = true
  skip_get_ec2_platforms      = true
  endpoints {
    iam = var.endpoint
    sts = var.endpoint
  }
}

data "aws_caller_identity" "me" {}

resource "aws_iam_user" "ann" {
  name          = "ann"
  path          = "/people/"
  force_destroy = true
  tags          = { team = var.team }
}

resource "aws_iam_user" "bounded" {
  name                 = "bounded"
  permissions_boundary = aws_iam_policy.read.arn
}

resource "aws_iam_access_key" "ann" {
  user = aws_iam_user.ann.name
}

resource "aws_iam_user_ssh_key" "ann" {
  username   = aws_iam_user.ann.name
  encoding   = "SSH"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIhz2GK/XCUj4i6Q5yQJNL1MKMY0RxzPV2QrBqfHrDq"
}

resource "aws_iam_group" "devs" {
  name = "devs"
}

resource "aws_iam_group_membership" "devs" {
  name  = "devs"
  group = aws_iam_group.devs.name
  users = [aws_iam_user.ann.name, aws_iam_user.bounded.name]
}

resource "aws_iam_user_group_membership" "ann" {
  user   = aws_iam_user.bounded.name
  groups = [aws_iam_group.other.name]
}

resource "aws_iam_group" "other" {
  name = "other"
}

data "aws_iam_policy_document" "read" {
  statement {
    actions   = ["codecommit:GitPull", "codecommit:Get*"]
    resources = ["arn:aws:codecommit:*:${data.aws_caller_identity.me.account_id}:${var.team}-*"]
  }
}

resource "aws_iam_policy" "read" {
  name        = "read"
  description = "Reads the repositories of a team."
  policy      = data.aws_iam_policy_document.read.json
}

resource "aws_iam_user_policy" "ann" {
  name   = "own"
  user   = aws_iam_user.ann.name
  policy = data.aws_iam_policy_document.read.json
}

resource "aws_iam_user_policy_attachment" "ann" {
  user       = aws_iam_user.ann.name
  policy_arn = "arn:aws:iam::aws:policy/AWSCodeCommitPowerUser"
}

resource "aws_iam_group_policy" "devs" {
  name   = "own"
  group  = aws_iam_group.devs.name
  policy = data.aws_iam_policy_document.read.json
}

resource "aws_iam_group_policy_attachment" "devs" {
  group      = aws_iam_group.devs.name
  policy_arn = aws_iam_policy.read.arn
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = [aws_iam_user.ann.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = ["42"]
    }
  }
}

resource "aws_iam_role" "deploy" {
  name                 = "deploy"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  max_session_duration = 7200
  description          = "Deploys for ${var.team}."
  tags                 = { team = var.team }
}

resource "aws_iam_role_policy" "deploy" {
  name   = "own"
  role   = aws_iam_role.deploy.name
  policy = data.aws_iam_policy_document.read.json
}

resource "aws_iam_role_policy_attachment" "deploy" {
  role       = aws_iam_role.deploy.name
  policy_arn = aws_iam_policy.read.arn
}

resource "aws_iam_openid_connect_provider" "github" {
  url             = "https://token.actions.githubusercontent.com"
  client_id_list  = ["sts.amazonaws.com"]
  thumbprint_list = ["6938fd4d98bab03faadb97b34396831e3780aea1"]
}

data "aws_iam_user" "ann" {
  user_name = aws_iam_user.ann.name
}

output "arn" {
  value = data.aws_iam_user.ann.arn
}
"#;

fn administrator(pair: &Pair) -> Value {
    serde_json::from_str(&std::fs::read_to_string(pair.path("administrator.json")).unwrap()).unwrap()
}

/// Names of the account's users.
fn users(pair: &Pair) -> Vec<String> {
    let listed = pair.ok(&["iam", "user", "list", "--region", REGIONS[US], "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn terraform_manages_an_account() {
    let pair = Pair::with_iam();
    let administrator = administrator(&pair);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.tf"), RESOURCES).unwrap();
    older::init(folder.path());
    let step = |what: &[&str], team: &str| {
        let endpoint = format!("endpoint={}", pair.url(US, "").trim_end_matches('/'));
        let access_key = format!("access_key={}", administrator["access_key_id"].as_str().unwrap());
        let secret_key = format!("secret_key={}", administrator["secret_access_key"].as_str().unwrap());
        let team = format!("team={team}");
        let mut args = what.to_vec();
        for value in [&endpoint, &access_key, &secret_key, &team] {
            args.extend(["-var", value]);
        }
        args.push("-no-color");
        run(command(folder.path(), &args), APPLY)
    };
    let ok = |what: &[&str], team: &str| step(what, team).unwrap_or_else(|said| panic!("{what:?}: {said}"));
    ok(&["apply", "-auto-approve"], "infra");
    assert_eq!(users(&pair), ["administrator", "ann", "bounded"]);
    let same = |team: &str| {
        let said = ok(&["plan", "-detailed-exitcode"], team);
        assert!(said.contains("No changes."), "{said}");
    };
    same("infra");
    // A change in place, and again no drift.
    let said = ok(&["apply", "-auto-approve"], "platform");
    assert!(said.contains("0 destroyed"), "{said}");
    same("platform");
    assert_eq!(output(folder.path(), "arn"), format!("{}/people/ann", arn_of_users(&administrator)));
    ok(&["destroy", "-auto-approve"], "platform");
    assert_eq!(users(&pair), ["administrator"]);
}

fn arn_of_users(administrator: &Value) -> String {
    format!("arn:aws:iam::{}:user", administrator["account"].as_str().unwrap())
}
