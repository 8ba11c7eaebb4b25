//! All modules: variables and outputs say what they are, environments have variables that the program reads, and no secret
//! is in an environment, an output or the state.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hcl::Block;

use crate::hcl_files::{at, root, text};
use crate::older::files;

/// Blocks of all Terraform files, with the file.
fn blocks() -> Vec<(PathBuf, Block)> {
    let mut all = Vec::new();
    for file in files(&root("infra")) {
        let body = hcl::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        all.extend(body.into_blocks().map(|block| (file.clone(), block)));
    }
    assert!(all.len() > 150, "{} blocks", all.len());
    all
}

#[test]
fn variables_and_outputs_say_what_they_are() {
    for (file, block) in blocks() {
        let kind = block.identifier();
        if !["variable", "output"].contains(&kind) {
            continue;
        }
        let name = format!("{}: {kind} {}", file.display(), block.labels()[0].as_str());
        let description = at(block.body(), "description").concat();
        assert!(description.len() >= 12 && description.ends_with('.'), "{name}: {description:?}");
        let wanted = if kind == "variable" { "type" } else { "value" };
        assert!(!at(block.body(), wanted).is_empty(), "{name} has no {wanted}");
        // One of any type takes every mistake.
        assert_ne!(at(block.body(), "type"), ["any"], "{name}");
        let conditions = block.body().blocks().filter(|inner| inner.identifier() == "validation");
        for condition in conditions {
            assert!(at(condition.body(), "error_message").concat().ends_with('.'), "{name}");
        }
    }
}

/// Terraform keeps what it writes in its state, for all who may read that.
#[test]
fn terraform_knows_no_secret() {
    let writers = ["aws_secretsmanager_secret_version", "aws_ssm_parameter", "random_password", "tls_private_key"];
    let readers = ["aws_secretsmanager_secret_version", "aws_ssm_parameter", "aws_kms_secrets"];
    let words = ["secret_string", "password", "private_key", "secret_access_key"];
    for (file, block) in blocks() {
        let of = block.labels().first().map(|label| label.as_str().to_owned()).unwrap_or_default();
        let name = format!("{}: {} {of}", file.display(), block.identifier());
        match block.identifier() {
            "resource" => assert!(!writers.contains(&of.as_str()), "{name}"),
            "data" => assert!(!readers.contains(&of.as_str()), "{name}"),
            "variable" | "output" => assert!(!words.contains(&of.as_str()), "{name}"),
            _ => {}
        }
        let whole = hcl::format::to_string(&block).unwrap();
        assert!(!words.iter().any(|word| whole.contains(&format!("{word} ="))), "{name}");
    }
}

/// The environment of containers and functions, by the names that the program reads.
#[test]
fn environments_have_variables_that_the_program_reads() {
    let mut read = BTreeSet::new();
    let mut folders = vec![root("src/cli"), root("src/service"), root("src/engine")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                read.extend(names(&path));
            }
        }
    }
    let mut set: Vec<(PathBuf, String)> = Vec::new();
    let docker = ["docker/Dockerfile", "docker/compose.yaml"].map(root);
    for file in files(&root("infra")).into_iter().chain(docker) {
        set.extend(names(&file).into_iter().map(|name| (file.clone(), name)));
    }
    assert!(set.len() > 10, "{set:?}");
    for (file, name) in set {
        // These become files, and are gone before the program starts.
        let is_file = name.starts_with("GITFERRY_FILE_") || name.starts_with("GITFERRY_HEX_");
        assert!(is_file || read.contains(&name), "{}: the program does not read {name}", file.display());
        let secret = ["TOKEN", "SECRET", "PASSWORD", "KEY"].iter().any(|word| name.contains(word));
        assert!(!secret, "{}: {name} is a secret in an environment", file.display());
    }
}

/// Names of gitferry's environment variables in a file.
fn names(file: &Path) -> BTreeSet<String> {
    let source = std::fs::read_to_string(file).unwrap();
    let after = source.split("GITFERRY_").skip(1);
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect::<String>();
    after.map(|rest| format!("GITFERRY_{}", name(rest))).collect()
}

/// A container gets the ARN of a secret and no value.
#[test]
fn containers_get_secrets_by_reference() {
    let task = std::fs::read_to_string(root("infra/modules/host/task.tf")).unwrap();
    let body = hcl::parse(&task).unwrap();
    let locals = body.blocks().find(|block| block.identifier() == "locals").unwrap();
    let container =
        locals.body().attributes().find(|one| one.key() == "container").map(|one| text(one.expr())).unwrap();
    assert!(container.contains("valueFrom = arn"), "{container}");
    let outputs = std::fs::read_to_string(root("infra/modules/host/secrets.tf")).unwrap();
    assert!(outputs.contains("secret.arn"));
}

/// The commands of docs/aws.md use variables and outputs that the example has, and give every variable that it needs.
#[test]
fn the_twelve_steps_use_what_the_example_has() {
    let docs = std::fs::read_to_string(root("docs/aws.md")).unwrap();
    let example = root("infra/examples/two-regions");
    let blocks = blocks().into_iter().filter(|(file, _)| file.starts_with(&example)).map(|(_, block)| block);
    let (mut variables, mut outputs, mut needed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for block in blocks {
        let name = || block.labels()[0].as_str().to_owned();
        match block.identifier() {
            "output" => _ = outputs.insert(name()),
            "variable" => {
                variables.insert(name());
                if at(block.body(), "default").is_empty() {
                    needed.insert(name());
                }
            }
            _ => {}
        }
    }
    let file = docs.split("cat >terraform.tfvars <<END\n").nth(1).unwrap().split("END\n").next().unwrap();
    let given: BTreeSet<String> =
        file.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim().to_owned()).collect();
    assert!(given.is_subset(&variables) && needed.is_subset(&given), "{given:?}, {needed:?}");
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let named =
        |option: &str| docs.split(option).skip(1).map(|rest| word(rest.trim_start_matches('\''))).collect::<Vec<_>>();
    let (raw, var) = (named("terraform output -raw "), named("-var "));
    assert!(raw.len() == 1 && raw.iter().all(|name| outputs.contains(name)), "{raw:?}");
    assert!(var.len() == 3 && var.iter().all(|name| variables.contains(name)), "{var:?}");
    let steps = (1..=12).filter(|number| docs.contains(&format!("\n{number}. **"))).count();
    assert!(steps == 12 && !docs.contains("\n13. "), "twelve steps");
}
