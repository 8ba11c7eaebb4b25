//! Laws of evaluation, over random documents and requests.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::policy;
use crate::{
    Context, Decision, DocumentKind, MAX_TEXT_BYTES, NamedPolicy, PolicyDocument, PolicySet, Request, evaluate,
};

const ACTIONS: &[&str] =
    &["*", "codecommit:*", "codecommit:Git*", "CODECOMMIT:gitpull", "codecommit:GitPush", "s3:Get?*"];
const RESOURCES: &[&str] = &[
    "*",
    "arn:aws:codecommit:*:*:*",
    "arn:aws:codecommit:us-east-1:111111111111:team/app",
    "arn:aws:codecommit:us-east-1:111111111111:${aws:username}/*",
    "arn:aws:codecommit:us-?ast-1:1*:*app",
    "arn:aws:s3",
];
const CONDITIONS: &[(&str, &str, &[&str])] = &[
    ("StringEquals", "aws:username", &["ana", "${aws:PrincipalTag/team}", "a${*}"]),
    ("StringNotEqualsIfExists", "aws:PrincipalTag/team", &["web", "ANA"]),
    ("StringEqualsIgnoreCase", "aws:PrincipalTag/team", &["ANA", "web"]),
    ("StringLike", "codecommit:References", &["refs/heads/*", "refs/tags/v?", "${aws:username}"]),
    ("StringNotLike", "codecommit:References", &["refs/heads/main", "*a*"]),
    ("ForAnyValue:StringLike", "gitferry:ChangedPaths", &["infra/*", "a*", "?"]),
    ("ForAllValues:StringNotLike", "gitferry:ChangedPaths", &["infra/*", "web/"]),
    ("NumericLessThan", "aws:EpochTime", &["10", "1.5", "-3"]),
    ("DateGreaterThanEquals", "aws:CurrentTime", &["2020-01-01", "2026-01-31T09:30:00Z", "5"]),
    ("Bool", "aws:SecureTransport", &["true", "false"]),
    ("BinaryEquals", "a:blob", &["YQ==", "Yg=="]),
    ("NotIpAddress", "aws:SourceIp", &["10.0.0.0/8", "::1", "192.0.2.1"]),
    ("ArnNotLike", "aws:PrincipalArn", &["arn:aws:iam::*:user/*", "arn:aws:iam::1:user/${aws:username}"]),
    ("Null", "codecommit:References", &["true", "false"]),
];
const VALUES: &[(&str, &[&str])] = &[
    ("aws:username", &["ana", "team", "*", "a*", ""]),
    ("aws:PrincipalTag/team", &["ana", "web", "?"]),
    ("codecommit:References", &["refs/heads/main", "refs/tags/v1", "ana"]),
    ("gitferry:ChangedPaths", &["infra/x", "a", "web/", ""]),
    ("aws:EpochTime", &["1", "9.99", "10", "x"]),
    ("aws:CurrentTime", &["2019-12-31T23:59:59Z", "2026-01-31T09:30:00Z", "6"]),
    ("aws:SecureTransport", &["true", "FALSE", "x"]),
    ("a:blob", &["YQ==", "!"]),
    ("aws:SourceIp", &["10.1.2.3", "192.0.2.1", "::1"]),
    ("aws:PrincipalArn", &["arn:aws:iam::1:user/ana", "arn:aws:iam::1:role/x"]),
];

/// A few of these, at least one.
fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(of, 1..=of.len().min(3))
}

fn conditions() -> impl Strategy<Value = Value> {
    let condition = |(operator, key, values): (&'static str, &'static str, &'static [&'static str])| {
        some(values).prop_map(move |values| (operator, json!({ key: values })))
    };
    let chosen = subsequence(CONDITIONS, 0..=3);
    let all = chosen.prop_flat_map(move |chosen| chosen.into_iter().map(condition).collect::<Vec<_>>());
    all.prop_map(|all| Value::Object(all.into_iter().map(|(operator, keys)| (operator.to_owned(), keys)).collect()))
}

fn statement(effect: &'static str) -> impl Strategy<Value = Value> {
    (any::<(bool, bool)>(), some(ACTIONS), some(RESOURCES), conditions()).prop_map(
        move |((not_action, not_resource), actions, resources, conditions)| {
            let action = if not_action { "NotAction" } else { "Action" };
            let resource = if not_resource { "NotResource" } else { "Resource" };
            json!({"Effect": effect, action: actions, resource: resources, "Condition": conditions})
        },
    )
}

fn statements() -> impl Strategy<Value = Vec<Value>> {
    let one = prop_oneof![3 => statement("Allow"), 1 => statement("Deny")];
    prop::collection::vec(one, 1..5)
}

fn document(statements: &[Value]) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn set(statements: &[Value]) -> PolicySet {
    PolicySet { identity: vec![policy(&document(statements))], ..PolicySet::default() }
}

fn context() -> impl Strategy<Value = Context> {
    let value = |(key, values): (&'static str, &'static [&'static str])| {
        subsequence(values, 0..=values.len().min(2)).prop_map(move |values| (key, values))
    };
    let all: Vec<_> = VALUES.iter().copied().map(value).collect();
    all.prop_map(|all| {
        all.into_iter().fold(Context::builder(), |builder, (key, values)| builder.insert(key, values)).build()
    })
}

#[derive(Debug)]
struct Asked {
    action: &'static str,
    resource: &'static str,
    context: Context,
}

impl Asked {
    fn of(&self, policies: &PolicySet) -> Decision {
        evaluate(policies, &Request { action: self.action, resource: self.resource, context: &self.context })
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let actions = select(vec!["codecommit:GitPull", "codecommit:GitPush", "s3:GetObject"]);
    let resources = select(vec![
        "arn:aws:codecommit:us-east-1:111111111111:team/app",
        "arn:aws:codecommit:eu-west-1:222222222222:ana/x",
        "arn:aws:s3:::bucket/key",
        "*",
    ]);
    (actions, resources, context()).prop_map(|(action, resource, context)| Asked { action, resource, context })
}

/// Decision without the statement, which depends on the order of statements.
fn kind(decision: &Decision) -> u8 {
    match decision {
        Decision::Allowed { .. } => 0,
        Decision::ExplicitDeny { .. } => 1,
        Decision::ImplicitDeny { .. } => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn an_explicit_deny_always_wins(
        allowed in statements(),
        denied in statement("Deny"),
        at in 0usize..5,
        asked in asked(),
    ) {
        let alone = asked.of(&set(std::slice::from_ref(&denied)));
        let mut all = allowed.clone();
        all.insert(at.min(all.len()), denied);
        let decision = asked.of(&set(&all));
        if kind(&alone) == 1 {
            prop_assert_eq!(kind(&decision), 1);
        } else {
            prop_assert_eq!(kind(&decision), kind(&asked.of(&set(&allowed))));
        }
    }

    #[test]
    fn another_allowance_never_denies(before in statements(), more in statement("Allow"), asked in asked()) {
        let (old, new) = (asked.of(&set(&before)), asked.of(&set(&[before, vec![more]].concat())));
        prop_assert!(kind(&new) == kind(&old) || (kind(&old) == 2 && kind(&new) == 0));
    }

    #[test]
    fn the_order_of_statements_and_policies_is_irrelevant(
        (before, after) in statements().prop_flat_map(|before| (Just(before.clone()), Just(before).prop_shuffle())),
        asked in asked(),
    ) {
        prop_assert_eq!(kind(&asked.of(&set(&before))), kind(&asked.of(&set(&after))));
        let each: Vec<NamedPolicy> = after.iter().map(|one| policy(&document(std::slice::from_ref(one)))).collect();
        let split = PolicySet { identity: each, ..PolicySet::default() };
        prop_assert_eq!(kind(&asked.of(&split)), kind(&asked.of(&set(&before))));
    }

    #[test]
    fn layers_intersect(identity in statements(), boundary in statements(), session in statements(), asked in asked()) {
        let alone = [&identity, &boundary, &session].map(|statements| kind(&asked.of(&set(statements))));
        let policies = PolicySet {
            identity: vec![policy(&document(&identity))],
            boundary: Some(policy(&document(&boundary))),
            session: vec![policy(&document(&session))],
        };
        let expected = if alone.contains(&1) { 1 } else if alone == [0; 3] { 0 } else { 2 };
        prop_assert_eq!(kind(&asked.of(&policies)), expected);
    }

    #[test]
    fn a_document_that_is_written_is_read_again(statements in statements()) {
        let json = document(&statements);
        let parsed = PolicyDocument::parse(&json, DocumentKind::Identity).unwrap();
        let again = PolicyDocument::parse(&parsed.to_json(), DocumentKind::Identity).unwrap();
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(again.to_json(), parsed.to_json());
    }

    #[test]
    fn keys_that_no_policy_reads_change_nothing(statements in statements(), asked in asked(), other in context()) {
        let policies = set(&statements);
        let before = asked.of(&policies);
        let mut context = asked.context.to_builder();
        for (key, _) in VALUES.iter().filter(|(key, _)| !policies.reads(key)) {
            let values = other.values(&crate::Key::new(*key)).unwrap_or_default();
            context = context.insert(key, values.to_vec());
        }
        let context = context.build();
        prop_assert_eq!(Asked { context, ..asked }.of(&policies), before);
    }

    #[test]
    fn the_value_of_a_variable_is_no_pattern(name in "[ab*?${}:/]{1,6}", resource in "[ab*?${}:/]{0,8}") {
        let json = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*",
            "Resource": "arn:aws:s3:::b/${aws:username}"}}"#;
        let policies = PolicySet { identity: vec![policy(json)], ..PolicySet::default() };
        let context = Context::builder().username(&name).build();
        for resource in [&resource, &name] {
            let arn = format!("arn:aws:s3:::b/{resource}");
            let request = Request { action: "s3:GetObject", resource: &arn, context: &context };
            prop_assert_eq!(evaluate(&policies, &request).is_allowed(), *resource == name, "{}", resource);
        }
        for operator in ["StringLike", "StringEquals"] {
            let json = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*",
                "Condition": {operator: {"s3:prefix": "${aws:username}"}}}});
            let policies = PolicySet { identity: vec![policy(&json.to_string())], ..PolicySet::default() };
            for prefix in [&resource, &name] {
                let context = context.to_builder().insert("s3:prefix", [prefix.as_str()]).build();
                let request = Request { action: "s3:GetObject", resource: "*", context: &context };
                prop_assert_eq!(evaluate(&policies, &request).is_allowed(), *prefix == name, "{}", prefix);
            }
        }
    }

    #[test]
    fn damaged_documents_are_refused_or_read(
        statements in statements(),
        at in any::<prop::sample::Index>(),
        with in "[ -~]{0,3}",
    ) {
        let json = document(&statements);
        prop_assume!(json.is_ascii() && json.len() < MAX_TEXT_BYTES);
        let at = at.index(json.len());
        let (before, after) = json.split_at(at);
        let longer = format!("{before}{with}{after}");
        let changed = format!("{before}{with}{}", &after[1..]);
        for damaged in [longer.as_str(), &changed, before] {
            for kind in [DocumentKind::Identity, DocumentKind::Trust] {
                if let Ok(document) = PolicyDocument::parse(damaged, kind) {
                    prop_assert_eq!(PolicyDocument::parse(&document.to_json(), kind), Ok(document));
                }
            }
        }
    }
}
