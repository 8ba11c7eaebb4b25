//! Documents that are accepted, written again, and refused.

use crate::{DocumentKind, MAX_DOCUMENT_BYTES, MAX_TEXT_BYTES, PolicyDocument, Version};

const IDENTITY: DocumentKind = DocumentKind::Identity;
const TRUST: DocumentKind = DocumentKind::Trust;

fn parse(json: &str, kind: DocumentKind) -> PolicyDocument {
    PolicyDocument::parse(json, kind).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Checks the element that a refusal names, and a part of its reason.
#[track_caller]
fn refused(kind: DocumentKind, json: &str, element: &str, reason: &str) {
    let error = PolicyDocument::parse(json, kind).expect_err(json);
    assert_eq!(error.element(), element, "{json}: {error}");
    assert!(error.reason().contains(reason), "{json}: {error}");
}

/// A statement of an identity's policy with other members than usual, which replace the usual ones.
fn statement(members: &str) -> String {
    let mut json = String::from("{");
    for (name, usual) in [("Effect", r#""Allow""#), ("Action", r#""s3:*""#), ("Resource", r#""*""#)] {
        if !members.contains(&format!("{name}\"")) {
            json += &format!(r#""{name}": {usual}, "#);
        }
    }
    format!(r#"{{"Version": "2012-10-17", "Statement": [{json}{members}}}]}}"#)
}

#[test]
fn lists_may_be_written_as_one_value() {
    let one = r#"{"Statement": {"Effect": "Deny", "NotAction": "s3:*", "NotResource": "*",
        "Condition": {"NumericLessThan": {"s3:max-keys": 10}, "bool": {"aws:securetransport": true}}}}"#;
    let lists = r#"{"Version": "2008-10-17", "Statement": [{"NotResource": ["*"], "NotAction": ["s3:*"], "Effect": "Deny",
        "Condition": {"NumericLessThan": {"s3:max-keys": ["10"]}, "Bool": {"aws:SecureTransport": ["true"]}}}]}"#;
    let (one, lists) = (parse(one, IDENTITY), parse(lists, IDENTITY));
    assert_eq!(one.statements(), lists.statements());
    assert_eq!(one.version(), Version::V2008);
    assert_eq!(
        one.to_json(),
        r#"{"Statement":[{"Effect":"Deny","NotAction":["s3:*"],"NotResource":["*"],"Condition":{"NumericLessThan":{"s3:max-keys":["10"]},"Bool":{"aws:securetransport":["true"]}}}]}"#
    );
}

#[test]
fn trust_policies_have_principals() {
    let json = r#"{"Version": "2012-10-17", "Id": "deploy", "Statement": [{"Sid": "", "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Principal": {"Service": "lambda.amazonaws.com", "AWS": ["111111111111", "*"], "Federated": "cognito-identity.amazonaws.com"}}]}"#;
    let document = parse(json, TRUST);
    assert_eq!(document.id(), Some("deploy"));
    assert_eq!(document.statements()[0].sid(), None);
    let written = document.to_json();
    assert!(
        written.contains(r#""Principal":{"AWS":["arn:aws:iam::111111111111:root","*"],"Federated":["cognito"#),
        "{written}"
    );
    assert_eq!(parse(&written, TRUST), document);
    let all = r#"{"Statement": {"Effect": "Deny", "Action": "sts:*", "Principal": "*"}}"#;
    assert!(parse(all, TRUST).to_json().contains(r#""Principal":"*""#));
}

#[test]
fn refusals_name_the_element() {
    refused(IDENTITY, "", "", "not valid JSON");
    refused(IDENTITY, "{", "", "not valid JSON");
    refused(IDENTITY, "[]", "", "must be an object");
    refused(IDENTITY, "{}", "", "`Statement`");
    refused(IDENTITY, r#"{"Statement": []}"#, "Statement", "at least");
    refused(IDENTITY, r#"{"Statement": ["x"]}"#, "Statement[0]", "must be an object");
    refused(IDENTITY, r#"{"Version": "2012-10-18", "Statement": []}"#, "Version", "2012-10-17");
    refused(IDENTITY, r#"{"Version": 2012, "Statement": []}"#, "Version", "must be a string");
    refused(IDENTITY, r#"{"Statement": {}, "statement": {}}"#, "statement", "no element");
    for (members, element, reason) in [
        (r#""Effect": "allow""#, "Effect", "`Allow` or `Deny`"),
        (r#""Effect": 1"#, "Effect", "must be a string"),
        (r#""Sid": "a b""#, "Sid", "letters and digits"),
        (r#""Action": []"#, "Action", "must not be empty"),
        (r#""Action": "GitPull""#, "Action", "`GitPull` is no action"),
        (r#""Action": "*:GitPull""#, "Action", "is no action"),
        (r#""Action": "codecommit:""#, "Action", "is no action"),
        (r#""Action": "codecommit:Git Pull""#, "Action", "is no action"),
        (r#""Action": ["s3:*", 1]"#, "Action[1]", "must be a string"),
        (r#""Action": {"s3": "*"}"#, "Action", "a string or a list"),
        (r#""Resource": []"#, "Resource", "must not be empty"),
        (r#""Resource": "app""#, "Resource", "ARN format"),
        (r#""Resource": "arn:aws:s3:::${aws:username""#, "Resource", "without its `}`"),
        (r#""Resource": "arn:aws:s3:${aws:RequestedRegion}::x""#, "Resource", "before its fifth colon"),
        (r#""Principal": "*""#, "Principal", "should not specify a principal"),
        (r#""NotPrincipal": "*""#, "NotPrincipal", "should not specify a principal"),
        (r#""Conditions": {}"#, "Conditions", "no element"),
        (r#""Condition": []"#, "Condition", "must be an object"),
        (r#""Condition": {"StringIs": {"a:b": "c"}}"#, "Condition.StringIs.a:b", "no condition operator"),
        (r#""Condition": {"StringLike": "c"}"#, "Condition.StringLike", "must be an object"),
        (r#""Condition": {"StringLike": {"b": "c"}}"#, "Condition.StringLike.b", "no condition key"),
        (r#""Condition": {"StringLike": {"a:b": null}}"#, "Condition.StringLike.a:b", "must be a string"),
        (r#""Condition": {"StringLike": {"a:b": [["c"]]}}"#, "Condition.StringLike.a:b", "must be a string"),
        (r#""Condition": {"StringLike": {"a:b": "c", "A:b": "d"}}"#, "Condition.StringLike", "capitalization"),
        (r#""Condition": {"Bool": {"a:b": true}, "bool": {"a:c": true}}"#, "Condition", "capitalization"),
        (r#""Condition": {"IpAddress": {"aws:SourceIp": "x"}}"#, "Condition.IpAddress.aws:SourceIp", "IP address"),
    ] {
        refused(IDENTITY, &statement(members), &format!("Statement[0].{element}"), reason);
    }
    for (missing, statement) in [
        ("Effect", r#"{"Action": "s3:*", "Resource": "*"}"#),
        ("Action", r#"{"Effect": "Deny", "Resource": "*"}"#),
        ("Resource", r#"{"Effect": "Deny", "Action": "s3:*"}"#),
    ] {
        let good = r#"{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}"#;
        let json = format!(r#"{{"Statement": [{good}, {statement}]}}"#);
        refused(IDENTITY, &json, "Statement[1]", &format!("lacks the element `{missing}`"));
    }
    for pair in [r#""Action": "s3:*", "NotAction": "s3:*""#, r#""Resource": "*", "NotResource": "*""#] {
        refused(IDENTITY, &statement(pair), "Statement[0]", "has both");
    }
}

#[test]
fn duplicates_are_refused_everywhere() {
    for json in [
        r#"{"Statement": [], "Statement": []}"#.to_owned(),
        statement(r#""Effect": "Allow", "Effect": "Allow""#),
        statement(r#""Condition": {"StringLike": {"a:b": "c"}, "StringLike": {"a:c": "c"}}"#),
        statement(r#""Condition": {"StringLike": {"a:b": "c", "a:b": "d"}}"#),
    ] {
        refused(IDENTITY, &json, "", "occurs twice");
    }
    let sids = r#"{"Statement": [{"Sid": "A", "Effect": "Deny", "Action": "*", "Resource": "*"},
                                 {"Sid": "A", "Effect": "Deny", "Action": "*", "Resource": "*"}]}"#;
    refused(IDENTITY, sids, "Statement[1].Sid", "unique");
}

#[test]
fn trust_policies_refuse_what_does_not_belong_to_a_role() {
    let trust = |members: &str| format!(r#"{{"Statement": [{{"Effect": "Allow", {members}}}]}}"#);
    let action = r#""Action": "sts:AssumeRole""#;
    for (members, element, reason) in [
        (action.to_owned(), "Statement[0]", "lacks the element `Principal`"),
        (format!(r#"{action}, "Principal": "*", "Resource": "*""#), "Statement[0].Resource", "has no resource"),
        (format!(r#"{action}, "NotPrincipal": "*""#), "Statement[0].NotPrincipal", "cannot have this element"),
        (format!(r#"{action}, "Principal": "x""#), "Statement[0].Principal", "must be `*`"),
        (format!(r#"{action}, "Principal": {{}}"#), "Statement[0].Principal", "must be `*`"),
        (format!(r#"{action}, "Principal": {{"AWS": []}}"#), "Statement[0].Principal.AWS", "must not be empty"),
        (format!(r#"{action}, "Principal": {{"Group": "x"}}"#), "Statement[0].Principal.Group", "no kind of principal"),
        (r#""Action": "s3:*", "Principal": "*""#.into(), "Statement[0].Action", "STS AssumeRole"),
        (r#""Action": "*", "Principal": "*""#.into(), "Statement[0].Action", "STS AssumeRole"),
        (r#""NotAction": "sts:AssumeRole", "Principal": "*""#.into(), "Statement[0].NotAction", "STS AssumeRole"),
    ] {
        refused(TRUST, &trust(&members), element, reason);
    }
    for principal in [
        "x",
        "1111",
        "arn:aws:iam::111111111111:user/*",
        "arn:aws:iam::111111111111:group/g",
        "arn:aws:iam::*:root",
        "arn:aws:s3:::bucket",
        "arn:aws:iam::111111111111:user/",
        "arn:aws:sts::111111111111:assumed-role/",
        "AIDA",
        "",
    ] {
        let members = format!(r#"{action}, "Principal": {{"AWS": "{principal}"}}"#);
        refused(TRUST, &trust(&members), "Statement[0].Principal.AWS", "Invalid principal in policy");
    }
}

#[test]
fn sizes_and_characters_are_limited() {
    let with = |count: usize| statement(&format!(r#""Sid": "{}""#, "a".repeat(count)));
    let room = MAX_DOCUMENT_BYTES - PolicyDocument::size(&with(0));
    parse(&with(room), IDENTITY);
    refused(IDENTITY, &with(room + 1), "", "10241 characters without white space");
    let spaces = |count: usize| format!("{}{}", with(1), " ".repeat(count));
    parse(&spaces(MAX_TEXT_BYTES - with(1).len()), IDENTITY);
    refused(IDENTITY, &spaces(MAX_TEXT_BYTES - with(1).len() + 1), "", "131073 bytes");
    refused(IDENTITY, &statement("\"Resource\": \"arn:aws:s3:::\u{20ac}\""), "", "U+20AC");
    parse(&statement("\"Resource\": \"arn:aws:s3:::\u{ff}\\u20ac\""), IDENTITY);
    let deep = format!(r#"{{"Statement": {}{}}}"#, "[".repeat(9), "]".repeat(9));
    refused(IDENTITY, &deep, "", "within each other");
}
