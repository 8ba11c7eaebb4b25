//! Cost of evaluation, in characters compared.

use super::policy;
use crate::glob::tests::steps;
use crate::{Context, Decision, Layer, MAX_DOCUMENT_BYTES, PolicyDocument, PolicySet, Request, evaluate};

const VALUE_BYTES: usize = 2048;

/// The largest document of copies of one pattern.
fn hostile(condition: bool, unit: &str, repeats: usize) -> String {
    let pattern = format!("{}b", unit.repeat(repeats));
    let mut patterns = Vec::new();
    loop {
        let list = patterns.join(",");
        let element = if condition {
            format!(r#""Resource": "*", "Condition": {{"StringLike": {{"aws:UserAgent": [{list}]}}}}"#)
        } else {
            format!(r#""Resource": [{list}]"#)
        };
        let json =
            format!(r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*", {element}}}}}"#);
        let prefix = if condition { "" } else { "arn:aws:codecommit:::" };
        if PolicyDocument::size(&json) + prefix.len() + pattern.len() + 3 > MAX_DOCUMENT_BYTES {
            return json;
        }
        patterns.push(format!("\"{prefix}{pattern}\""));
    }
}

/// A document of 10 KB against values of 2 KB compares fewer characters than the product of their sizes, and for wildcards in large
/// numbers hardly more than their sum.
#[test]
fn hostile_policies_have_a_bounded_cost() {
    let value = "a".repeat(VALUE_BYTES);
    let resource = format!("arn:aws:codecommit:::{value}");
    let context = Context::builder().user_agent(&value).build();
    for (unit, repeats, limit) in [
        ("a*", 10, 20),
        ("*a", 4000, 20),
        ("?*", 4000, 20),
        ("*?a", 500, 20),
        ("a*a*b*", 100, 20),
        ("*aab", 100, 400),
        ("a", 1000, 1),
        ("*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 20, VALUE_BYTES),
    ] {
        for condition in [false, true] {
            let json = hostile(condition, unit, repeats);
            assert!(PolicyDocument::size(&json) > MAX_DOCUMENT_BYTES / 2, "{unit}");
            let policies = PolicySet { identity: vec![policy(&json)], ..PolicySet::default() };
            let request = Request { action: "codecommit:GitPush", resource: &resource, context: &context };
            let (decision, steps) = steps(|| evaluate(&policies, &request));
            assert_eq!(decision, Decision::ImplicitDeny { missing: Layer::Identity }, "{unit}");
            assert!(steps <= (MAX_DOCUMENT_BYTES * limit) as u64, "{unit}: {steps} steps");
            assert!(steps <= (MAX_DOCUMENT_BYTES * VALUE_BYTES) as u64);
        }
    }
}
