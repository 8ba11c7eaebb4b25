//! Layers, and statements that decide.

use super::{decide, identity, policy};
use crate::{Context, Decider, Decision, Layer, PolicySet, StatementId};

const REPOSITORY: &str = "arn:aws:codecommit:us-east-1:111111111111:team/app";

fn allow(action: &str) -> String {
    format!(r#"{{"Statement": [{{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}]}}"#)
}

fn deny(action: &str) -> String {
    allow(action).replace("Allow", "Deny")
}

fn pull(policies: &PolicySet) -> Decision {
    decide(policies, "codecommit:GitPull", REPOSITORY, &Context::default())
}

#[test]
fn every_layer_must_allow() {
    let (yes, no) = (policy(&allow("codecommit:Git*")), policy(&allow("codecommit:GitPush")));
    for (identity, boundary, session, missing) in [
        (&yes, None, vec![], None),
        (&no, None, vec![], Some(Layer::Identity)),
        (&yes, Some(&yes), vec![], None),
        (&yes, Some(&no), vec![], Some(Layer::Boundary)),
        (&yes, None, vec![no.clone()], Some(Layer::Session)),
        (&yes, None, vec![no.clone(), yes.clone()], None),
        (&yes, Some(&yes), vec![yes.clone()], None),
        (&no, Some(&yes), vec![yes.clone()], Some(Layer::Identity)),
        (&yes, Some(&no), vec![no.clone()], Some(Layer::Boundary)),
    ] {
        let policies = PolicySet { identity: vec![identity.clone()], boundary: boundary.cloned(), session };
        match (pull(&policies), missing) {
            (Decision::Allowed { by }, None) => assert_eq!(by.layer, Layer::Identity),
            (Decision::ImplicitDeny { missing: found }, Some(missing)) => assert_eq!(found, missing),
            (decision, missing) => panic!("{decision:?}, expected {missing:?}"),
        }
    }
}

#[test]
fn a_denial_in_any_layer_wins() {
    let (yes, no) = (policy(&allow("*")), policy(&deny("codecommit:GitPull")));
    let all = PolicySet { identity: vec![yes.clone()], boundary: Some(yes.clone()), session: vec![yes.clone()] };
    assert!(pull(&all).is_allowed());
    let with = [
        (Layer::Identity, PolicySet { identity: vec![yes.clone(), no.clone()], ..all.clone() }),
        (Layer::Boundary, PolicySet { boundary: Some(no.clone()), ..all.clone() }),
        (Layer::Session, PolicySet { session: vec![no.clone(), yes], ..all }),
    ];
    for (layer, policies) in with {
        let Decision::ExplicitDeny { by } = pull(&policies) else { panic!("{layer}") };
        assert_eq!(by.layer, layer);
    }
    // A denial is reported as one, even where nothing allows.
    let alone = PolicySet { identity: vec![no], ..PolicySet::default() };
    assert!(matches!(pull(&alone), Decision::ExplicitDeny { .. }));
}

#[test]
fn the_statement_that_decides_is_named() {
    let json = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "codecommit:GitPull", "Resource": "*"},
        {"Sid": "NoPush", "Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*"}]}"#;
    let policies = identity(&[&allow("iam:*"), json]);
    let decider = |statement| Decider { layer: Layer::Identity, policy: "test".into(), statement };
    assert_eq!(pull(&policies), Decision::Allowed { by: decider(StatementId::Index(1)) });
    let push = decide(&policies, "codecommit:GitPush", REPOSITORY, &Context::default());
    let by = decider(StatementId::Sid("NoPush".into()));
    assert_eq!(by.to_string(), "NoPush of test (identity)");
    assert_eq!(push, Decision::ExplicitDeny { by });
    assert_eq!(decider(StatementId::Index(1)).to_string(), "Statement[1] of test (identity)");
}

#[test]
fn actions_are_compared_without_case_and_with_wildcards() {
    for (pattern, action, expected) in [
        ("codecommit:GitPull", "codecommit:GitPull", true),
        ("CodeCommit:gitpull", "codecommit:GitPull", true),
        ("codecommit:Git*", "codecommit:GitPush", true),
        ("codecommit:*", "codecommit:DeleteRepository", true),
        ("codecommit:?itPull", "codecommit:GitPull", true),
        ("*", "anything:AtAll", true),
        ("codecommit:Git", "codecommit:GitPull", false),
        ("codecommit:*Pull", "codecommit:GitPush", false),
        ("s3:*", "codecommit:GitPull", false),
        ("code:*", "codecommit:GitPull", false),
    ] {
        let policies = identity(&[&allow(pattern)]);
        let decision = decide(&policies, action, REPOSITORY, &Context::default());
        assert_eq!(decision.is_allowed(), expected, "{pattern} {action}");
        let not = allow(pattern).replace("Action", "NotAction");
        let decision = decide(&identity(&[&not]), action, REPOSITORY, &Context::default());
        assert_eq!(decision.is_allowed(), !expected, "not {pattern} {action}");
    }
}

fn on(element: &str, resource: &str, context: &Context) -> bool {
    let json = format!(r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*", {element}}}}}"#);
    decide(&identity(&[&json]), "codecommit:GitPull", resource, context).is_allowed()
}

#[test]
fn resources_and_those_that_are_not() {
    let none = Context::default();
    for (list, resource, expected) in [
        (r#""*""#, REPOSITORY, true),
        (r#""*""#, "*", true),
        (r#"["arn:aws:codecommit:*:*:web/*", "arn:aws:codecommit:*:*:team/*"]"#, REPOSITORY, true),
        (r#"["arn:aws:codecommit:*:*:web/*"]"#, REPOSITORY, false),
        (r#""arn:aws:codecommit:*:*:*""#, "*", false),
        (r#""arn:*:*:*:*:*""#, "*", false),
    ] {
        assert_eq!(on(&format!(r#""Resource": {list}"#), resource, &none), expected, "{list} {resource}");
        assert_eq!(on(&format!(r#""NotResource": {list}"#), resource, &none), !expected, "not {list} {resource}");
    }
}

/// "The resource that includes a policy variable with no value will not match any resource."
#[test]
fn a_resource_with_a_variable_without_value_matches_nothing() {
    let ana = Context::builder().username("team").build();
    let own = r#""arn:aws:codecommit:*:*:${aws:username}/*""#;
    assert!(on(&format!(r#""Resource": {own}"#), REPOSITORY, &ana));
    assert!(!on(&format!(r#""Resource": {own}"#), REPOSITORY, &Context::default()));
    assert!(!on(&format!(r#""NotResource": {own}"#), REPOSITORY, &ana));
    assert!(!on(&format!(r#""NotResource": {own}"#), REPOSITORY, &Context::default()));
    let star = Context::builder().username("*").build();
    assert!(!on(&format!(r#""Resource": {own}"#), REPOSITORY, &star));
    assert!(on(&format!(r#""Resource": [{own}, "*"]"#), REPOSITORY, &Context::default()));
}

#[test]
fn all_conditions_of_a_statement_must_hold() {
    let json = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {
        "StringEquals": {"aws:PrincipalTag/department": ["finance", "hr", "legal"], "aws:PrincipalTag/role": ["audit", "security"]},
        "ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::222222222222:user/Ana", "arn:aws:iam::222222222222:user/Mary"]}}}}"#;
    let policies = identity(&[json]);
    let decide = |department: Option<&str>, role: Option<&str>, user: &str| {
        let builder = Context::builder().principal_arn(&format!("arn:aws:iam::222222222222:user/{user}"));
        let builder = builder.insert("aws:PrincipalTag/department", department).insert("aws:PrincipalTag/role", role);
        decide(&policies, "s3:ListBucket", "arn:aws:s3:::amzn-s3-demo-bucket", &builder.build()).is_allowed()
    };
    assert!(decide(Some("legal"), Some("audit"), "Mary"));
    assert!(!decide(Some("hr"), Some("audit"), "Nikki"));
    assert!(!decide(Some("hr"), Some("payroll"), "Mary"));
    assert!(!decide(Some("hr"), None, "Mary"));
    assert!(!decide(None, None, "Mary"));
    let keys: Vec<String> = policies.keys().iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["aws:PrincipalArn", "aws:PrincipalTag/department", "aws:PrincipalTag/role"]);
}
