//! Known differences between the two evaluators, each with the sentence of AWS that decides it. A difference that
//! disappears in a newer version of the other evaluator fails here, and moves to the random policies.

use serde_json::{Value, json};

use super::{decided, simulated};

struct Difference {
    /// Sentence of the IAM User Guide, or the reason where the guide says nothing.
    why: &'static str,
    /// Element `Condition`, and the context. The statement allows everything else.
    condition: Value,
    context: Value,
    ours: &'static str,
    theirs: &'static str,
}

const REPOSITORY: &str = "arn:aws:codecommit:us-east-1:111111111111:team/app";

fn differences() -> Vec<Difference> {
    let difference = |why, condition, context, ours, theirs| Difference { why, condition, context, ours, theirs };
    let (yes, no) = ("Allowed", "ImplicitlyDenied");
    let inverted = "Inverted condition operators like StringNotEquals or StringNotLike do match against a null value, as the \
        value of the condition key they are testing against is not equal to or like the effectively null value.";
    let null_set = "It also returns true if there are no context keys in the request or if the context key value resolves to a \
        null dataset, such as an empty string.";
    let no_match = "The values do not match; and if the policy condition requires that the key is not matched, the condition is \
        true. (Said of an absent key; the guide is silent on a value of another type.)";
    let epoch = "You must specify date/time values with one of the W3C implementations of the ISO 8601 date formats or in epoch \
        (UNIX) time. (The other compares seconds with milliseconds.)";
    vec![
        difference(inverted, json!({"StringNotEquals": {"a:b": "${aws:userid}"}}), json!({"a:b": "x"}), yes, no),
        difference(inverted, json!({"StringNotLike": {"a:b": "${aws:userid}*"}}), json!({"a:b": "x"}), yes, no),
        difference(null_set, json!({"ForAllValues:StringEquals": {"a:b": "x"}}), json!({"a:b": ""}), yes, no),
        difference(
            "For no matching context key or a null dataset, the condition returns false.",
            json!({"ForAnyValue:StringEquals": {"a:b": ""}}),
            json!({"a:b": ""}),
            no,
            yes,
        ),
        difference(no_match, json!({"NumericNotEquals": {"a:b": "1"}}), json!({"a:b": "one"}), yes, no),
        difference(no_match, json!({"DateNotEquals": {"a:b": "2026-01-31"}}), json!({"a:b": "now"}), yes, no),
        difference(no_match, json!({"NotIpAddress": {"a:b": "10.0.0.0/8"}}), json!({"a:b": "host"}), yes, no),
        difference(no_match, json!({"ArnNotLike": {"a:b": "arn:*:*:*:*:*"}}), json!({"a:b": "x"}), yes, no),
        difference(
            epoch,
            json!({"DateGreaterThan": {"a:b": "1577836800"}}),
            json!({"a:b": "2019-12-31T00:00:00Z"}),
            no,
            yes,
        ),
        difference(
            "Numeric condition operators compare a key to an integer or decimal value. (The other reads `10x` as 10.)",
            json!({"NumericEquals": {"a:b": "10"}}),
            json!({"a:b": "10x"}),
            no,
            yes,
        ),
        difference(
            "Comparing a key to an integer or decimal value. (The other rounds to 53 bits.)",
            json!({"NumericEquals": {"a:b": "9007199254740993"}}),
            json!({"a:b": "9007199254740992"}),
            no,
            yes,
        ),
        difference(
            "These predefined policy variables can be used in any string where you can use regular policy variables.",
            json!({"StringEquals": {"a:b": "${*}${?}${$}"}}),
            json!({"a:b": "*?$"}),
            yes,
            no,
        ),
        difference(
            "The value must be in the standard CIDR format. (The other shifts 32 bits by 32 for a prefix of none.)",
            json!({"IpAddress": {"a:b": "0.0.0.0/0"}}),
            json!({"a:b": "203.0.113.9"}),
            yes,
            no,
        ),
        difference(
            "NotIpAddress: all IP addresses except the specified IP address or range.",
            json!({"NotIpAddress": {"a:b": "198.51.100.7"}}),
            json!({"a:b": "2001:db8::1"}),
            yes,
            no,
        ),
        difference(
            "Comparing a key to an IPv4 or IPv6 address or range of IP addresses. (The other compares texts.)",
            json!({"IpAddress": {"a:b": "2001:DB8::1"}}),
            json!({"a:b": "2001:db8::1"}),
            yes,
            no,
        ),
    ]
}

#[test]
fn conditions_differ_where_the_guide_decides() {
    let differences = differences();
    let case = |difference: &Difference| {
        let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": difference.condition});
        json!({"identity": [{"Version": "2012-10-17", "Statement": [statement]}], "boundary": [], "session": [],
            "action": "codecommit:GitPull", "resource": REPOSITORY, "context": difference.context})
    };
    let cases: Vec<Value> = differences.iter().map(case).collect();
    for ((difference, case), theirs) in differences.iter().zip(&cases).zip(simulated(&cases)) {
        assert_eq!(
            (decided(case), theirs.as_str()),
            (difference.ours, difference.theirs),
            "{case}: {}",
            difference.why
        );
    }
}

/// Resources: element of the statement, reason, our decision and the other's.
#[test]
fn resources_differ_where_the_guide_decides() {
    let (yes, no) = ("Allowed", "ImplicitlyDenied");
    let differences = [
        (
            json!({"Resource": "arn:aws:codecommit:us-east-1:111111111111:t*/app"}),
            "You can use wildcard characters (* and ?) within ARN segments. (The other takes `team/` for a type of resources, \
             which has no wildcards; repositories have no types, and gitferry's may have slashes in their names.)",
            yes,
            no,
        ),
        (
            json!({"NotResource": "arn:aws:codecommit:*:*:web/${aws:userid}"}),
            "If a variable that has no value is used as part of the Resource or NotResource element, the resource that includes \
             it will not match any resource. (The other compares the text before the variable first.)",
            no,
            yes,
        ),
        (
            json!({"NotResource": "arn:aws:s3"}),
            "Allow with NotResource covers all resources that are not specified. (The other never inverts an ARN that is cut short.)",
            yes,
            no,
        ),
    ];
    let case = |element: &Value| {
        let mut statement = element.clone();
        statement["Effect"] = json!("Allow");
        statement["Action"] = json!("*");
        json!({"identity": [{"Version": "2012-10-17", "Statement": [statement]}], "boundary": [], "session": [],
            "action": "codecommit:GitPull", "resource": REPOSITORY, "context": {}})
    };
    let cases: Vec<Value> = differences.iter().map(|(element, ..)| case(element)).collect();
    for (((_, why, ours, theirs), case), found) in differences.iter().zip(&cases).zip(simulated(&cases)) {
        assert_eq!((decided(case), found.as_str()), (*ours, *theirs), "{case}: {why}");
    }
}
