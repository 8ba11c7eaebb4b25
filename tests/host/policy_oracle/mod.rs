//! Policies, evaluated here and by `@cloud-copilot/iam-simulate` of the npm registry, which was written independently
//! and checked against AWS by its author.

mod known;
mod random;

use std::fmt::Write as _;

use gitferry_policy::{
    Context, Decision, DocumentKind, Grant, NamedPolicy, PolicyDocument, PolicySet, Principal, Request, TrustDecision,
    account_of, evaluate, evaluate_trust,
};
use gitferry_test_support::node::Package;
use random::Random;
use serde_json::Value;

const SIMULATOR: (&str, &str) = ("@cloud-copilot/iam-simulate", "0.1.173");

/// Decisions of the other evaluator.
fn simulated(cases: &[Value]) -> Vec<String> {
    let package = Package::install(SIMULATOR.0, SIMULATOR.1);
    let program = package.folder.join("simulate.mjs");
    std::fs::write(&program, include_str!("simulate.mjs")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut lines = String::new();
    for case in cases {
        writeln!(lines, "{case}").unwrap();
    }
    std::fs::write(file.path(), lines).unwrap();
    let output = package.node(&program).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let decisions: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(decisions.len(), cases.len());
    decisions
}

fn context(case: &Value) -> Context {
    let keys = case["context"].as_object().unwrap().iter();
    let values = |value: &Value| match value {
        Value::Array(list) => list.iter().map(|value| value.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    keys.fold(Context::builder(), |builder, (key, value)| builder.insert(key, values(value))).build()
}

fn policies(case: &Value, layer: &str) -> Vec<NamedPolicy> {
    let documents = case[layer].as_array().unwrap().iter();
    let parse = |json: &Value| PolicyDocument::parse(&json.to_string(), DocumentKind::Identity);
    documents
        .map(|json| NamedPolicy::new(layer, parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))))
        .collect()
}

/// Our decision, in the words of the other evaluator.
fn decided(case: &Value) -> &'static str {
    let boundary = policies(case, "boundary").pop();
    let set = PolicySet { identity: policies(case, "identity"), boundary, session: policies(case, "session") };
    let context = context(case);
    let (action, resource) = (case["action"].as_str().unwrap(), case["resource"].as_str().unwrap());
    match evaluate(&set, &Request { action, resource, context: &context }) {
        Decision::Allowed { .. } => "Allowed",
        Decision::ExplicitDeny { .. } => "ExplicitlyDenied",
        Decision::ImplicitDeny { .. } => "ImplicitlyDenied",
    }
}

/// Our decision on assuming a role of the account 111111111111, with and without a permission of the principal's own.
fn trusted(case: &Value) -> &'static str {
    let document = PolicyDocument::parse(&case["trust"].to_string(), DocumentKind::Trust).unwrap();
    let arn = case["principal"].as_str().unwrap();
    let own = case["own"].as_bool().unwrap();
    let is_same_account = account_of(arn) == Some("111111111111");
    match evaluate_trust(&document, Principal::Aws { arn, id: None }, "sts:AssumeRole", &context(case)) {
        TrustDecision::ExplicitDeny { .. } => "ExplicitlyDenied",
        TrustDecision::Trusted { .. } if own => "Allowed",
        TrustDecision::Trusted { grant: Grant::Principal, .. } if is_same_account => "Allowed",
        TrustDecision::Trusted { .. } | TrustDecision::NotTrusted => "ImplicitlyDenied",
    }
}

/// Compares decisions and checks that each of them is frequent among the cases.
fn compare(cases: &[Value], ours: fn(&Value) -> &'static str) {
    let mut counts = std::collections::BTreeMap::new();
    let mut differences = String::new();
    for (case, theirs) in cases.iter().zip(simulated(cases)) {
        let ours = ours(case);
        *counts.entry(ours).or_insert(0) += 1;
        if ours != theirs && differences.len() < 5000 {
            writeln!(differences, "{ours}, by the other {theirs}: {case}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert_eq!(counts.len(), 3);
    assert!(counts.values().all(|count| *count > cases.len() / 20), "{counts:?}");
}

#[test]
fn random_policies_are_decided_alike() {
    let mut random = Random::new(13);
    let cases: Vec<Value> = (0..4_000).map(|_| random::case(&mut random)).collect();
    compare(&cases, decided);
}

#[test]
fn random_trust_policies_are_decided_alike() {
    let mut random = Random::new(31);
    let cases: Vec<Value> = (0..2_000).map(|_| random::trust_case(&mut random)).collect();
    compare(&cases, trusted);
}

/// Ten seeds of the two tests above.
#[test]
#[ignore = "a minute"]
fn many_random_policies_are_decided_alike() {
    for seed in 100..110 {
        let mut random = Random::new(seed);
        let cases: Vec<Value> = (0..4_000).map(|_| random::case(&mut random)).collect();
        compare(&cases, decided);
        let cases: Vec<Value> = (0..2_000).map(|_| random::trust_case(&mut random)).collect();
        compare(&cases, trusted);
    }
}
