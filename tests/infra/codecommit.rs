//! `aws_codecommit_repository` of Terraform's AWS provider against a host: applied, without drift, changed, destroyed.

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, REGIONS, US};
use serde_json::Value;

use crate::older;
use crate::terraform::{APPLY, command, output, run};

const RESOURCES: &str = r#"
variable "endpoint" {}
variable "access_key" {}
variable "secret_key" {}
variable "description" {}
variable "branch" {}
variable "tags" {
  type = map(string)
}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = var.access_key
  secret_key                  = var.secret_key
  skip_metadata_api_check     = true
  skip_get_ec2_platforms      = true
  endpoints {
    codecommit = var.endpoint
    iam        = var.endpoint
    sts        = var.endpoint
  }
}

resource "aws_codecommit_repository" "app" {
  repository_name = "app"
  description     = var.description
  default_branch  = var.branch
  tags            = var.tags
}

data "aws_codecommit_repository" "app" {
  repository_name = aws_codecommit_repository.app.repository_name
}

output "arn" {
  value = data.aws_codecommit_repository.app.arn
}
output "url" {
  value = aws_codecommit_repository.app.clone_url_http
}
"#;

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn terraform_manages_a_repository() {
    let pair = Pair::with_iam();
    let text = std::fs::read_to_string(pair.path("administrator.json")).unwrap();
    let administrator: Value = serde_json::from_str(&text).unwrap();
    let text = |name: &str| administrator[name].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.tf"), RESOURCES).unwrap();
    older::init(folder.path());
    let step = |what: &[&str], description: &str, branch: &str, tags: &str| {
        let values = [
            format!("endpoint={}", pair.url(US, "").trim_end_matches('/')),
            format!("access_key={}", text("access_key_id")),
            format!("secret_key={}", text("secret_access_key")),
            format!("description={description}"),
            format!("branch={branch}"),
            format!("tags={tags}"),
        ];
        let mut args = what.to_vec();
        for value in &values {
            args.extend(["-var", value]);
        }
        args.push("-no-color");
        run(command(folder.path(), &args), APPLY).unwrap_or_else(|said| panic!("{what:?}: {said}\n{}", pair.log()))
    };
    let no_drift = |description: &str, branch: &str, tags: &str| {
        let said = step(&["plan", "-detailed-exitcode"], description, branch, tags);
        assert!(said.contains("No changes."), "{said}");
    };
    let infra = r#"{team="infra",cost="7"}"#;
    step(&["apply", "-auto-approve"], "first", "main", infra);
    assert_eq!(output(folder.path(), "arn"), format!("arn:aws:codecommit:us-east-1:{}:app", text("account")));
    assert_eq!(output(folder.path(), "url"), pair.url(US, "app"));
    // Terraform shows no default branch as long as there is none.
    let source = GitRepo::with_history(pair.path("source"), &[]);
    pair.ok(&["import", source.path.to_str().unwrap(), "app", "--region", REGIONS[US]]);
    no_drift("first", "main", infra);
    let platform = r#"{team="platform"}"#;
    let said = step(&["apply", "-auto-approve"], "second", "side", platform);
    assert!(said.contains("1 changed, 0 destroyed"), "{said}");
    no_drift("second", "side", platform);
    let shown = pair.ok(&["repo", "show", "app", "--region", REGIONS[US], "--json"]);
    assert!(shown.contains("refs/heads/side"), "{shown}");
    step(&["destroy", "-auto-approve"], "second", "side", platform);
    assert!(!pair.gitferry(&["repo", "show", "app", "--region", REGIONS[US]]).status.success());
}
