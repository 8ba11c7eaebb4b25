//! Tests of whole documents and decisions.

mod branches;
mod cost;
mod decisions;
mod documents;
mod properties;

use crate::{Context, Decision, DocumentKind, NamedPolicy, PolicyDocument, PolicySet, Request, evaluate};

/// Policy of an identity.
fn policy(json: &str) -> NamedPolicy {
    let document =
        PolicyDocument::parse(json, DocumentKind::Identity).unwrap_or_else(|error| panic!("{json}: {error}"));
    NamedPolicy::new("test", document)
}

/// Policies of an identity without limits.
fn identity(policies: &[&str]) -> PolicySet {
    PolicySet { identity: policies.iter().map(|json| policy(json)).collect(), ..PolicySet::default() }
}

fn decide(policies: &PolicySet, action: &str, resource: &str, context: &Context) -> Decision {
    evaluate(policies, &Request { action, resource, context })
}
