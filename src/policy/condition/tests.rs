//! Conditions, by the tables of "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys or
//! values".

use super::*;

/// Context of lines `KEY: VALUE, VALUE`; a line that ends with the colon has one empty value.
fn context(lines: &[&str]) -> Context {
    let mut builder = Context::builder();
    for line in lines {
        let (key, values) = line.split_once(": ").unwrap_or_else(|| (line.strip_suffix(':').unwrap(), ""));
        builder = builder.insert(key, values.split(", "));
    }
    builder.build()
}

fn condition(operator: &str, key: &str, values: &[&str]) -> Condition {
    let texts = values.iter().map(|value| (*value).to_owned()).collect();
    Condition::parse(operator, key, texts, Version::V2012).unwrap_or_else(|error| panic!("{operator} {key}: {error}"))
}

#[track_caller]
fn check(operator: &str, key: &str, values: &[&str], cases: &[(&[&str], bool)]) {
    let condition = condition(operator, key, values);
    for (lines, expected) in cases {
        assert_eq!(condition.holds(&context(lines)), *expected, "{operator} {key} {values:?} for {lines:?}");
    }
}

#[test]
fn string_equals() {
    check(
        "StringEquals",
        "aws:PrincipalTag/job-category",
        &["iamuser-admin"],
        &[
            (&["aws:PrincipalTag/job-category: iamuser-admin"], true),
            (&["AWS:principaltag/JOB-CATEGORY: iamuser-admin"], true),
            (&["aws:PrincipalTag/job-category: IAMuser-admin"], false),
            (&["aws:PrincipalTag/job-category: dev-ops"], false),
            (&["aws:PrincipalTag/job-category:"], false),
            (&[], false),
        ],
    );
    check(
        "StringEquals",
        "aws:username",
        &["a*", "b?"],
        &[
            (&["aws:username: a*"], true),
            (&["aws:username: ab"], false),
            (&["aws:username: b?"], true),
            (&["aws:username: bb"], false),
        ],
    );
}

#[test]
fn string_not_equals_holds_for_none_of_the_values_and_without_the_key() {
    check(
        "StringNotEquals",
        "aws:username",
        &["ana", "bob"],
        &[
            (&["aws:username: ana"], false),
            (&["aws:username: bob"], false),
            (&["aws:username: Ana"], true),
            (&["aws:username: eve"], true),
            (&[], true),
        ],
    );
    check("StringNotEquals", "aws:username", &[], &[(&["aws:username: x"], true), (&[], true)]);
    check("StringEquals", "aws:username", &[], &[(&["aws:username: x"], false), (&[], false)]);
}

#[test]
fn string_equals_ignore_case() {
    check(
        "StringEqualsIgnoreCase",
        "aws:username",
        &["JohnDoe", "*"],
        &[
            (&["aws:username: johndoe"], true),
            (&["aws:username: JOHNDOE"], true),
            (&["aws:username: x"], false),
            (&[], false),
        ],
    );
    check(
        "StringNotEqualsIgnoreCase",
        "aws:username",
        &["JohnDoe"],
        &[(&["aws:username: johndoe"], false), (&["aws:username: x"], true), (&[], true)],
    );
}

#[test]
fn string_like_with_variables() {
    check(
        "StringLike",
        "s3:prefix",
        &["", "home/", "home/${aws:username}/"],
        &[
            (&["s3:prefix: home/martha_rivera/", "aws:username: martha_rivera"], true),
            (&["s3:prefix: home/martha_rivera/", "aws:username: nikki_wolf"], false),
            (&["s3:prefix: home/martha_rivera/"], false),
            (&["s3:prefix: home/"], true),
            (&["s3:prefix:"], true),
            (&[], false),
        ],
    );
    check(
        "StringLike",
        "aws:UserAgent",
        &["git/2.?*"],
        &[
            (&["aws:UserAgent: git/2.47.1"], true),
            (&["aws:UserAgent: git/2."], false),
            (&["aws:UserAgent: Git/2.47"], false),
        ],
    );
    check(
        "StringNotLike",
        "aws:UserAgent",
        &["git/*", "JGit/*"],
        &[
            (&["aws:UserAgent: git/2.47.1"], false),
            (&["aws:UserAgent: JGit/6"], false),
            (&["aws:UserAgent: curl/8"], true),
            (&[], true),
        ],
    );
}

/// "Inverted condition operators like StringNotEquals or StringNotLike do match against a null value."
#[test]
fn a_variable_without_a_value_is_like_nothing() {
    let tag = &["${aws:PrincipalTag/Team}"];
    for (lines, equals) in [
        (&["s3:ExistingObjectTag/Team: a", "aws:PrincipalTag/Team: a"][..], true),
        (&["s3:ExistingObjectTag/Team: a", "aws:PrincipalTag/Team: b"], false),
        (&["s3:ExistingObjectTag/Team: a"], false),
        (&["s3:ExistingObjectTag/Team:"], false),
        (&["s3:ExistingObjectTag/Team:", "aws:PrincipalTag/Team:"], false),
        (&["s3:ExistingObjectTag/Team: ${aws:PrincipalTag/Team}"], false),
        (&["s3:ExistingObjectTag/Team: a", "aws:PrincipalTag/Team: a, b"], false),
    ] {
        check("StringEquals", "s3:ExistingObjectTag/Team", tag, &[(lines, equals)]);
        check("StringLike", "s3:ExistingObjectTag/Team", tag, &[(lines, equals)]);
        check("StringNotEquals", "s3:ExistingObjectTag/Team", tag, &[(lines, !equals)]);
        check("StringNotLike", "s3:ExistingObjectTag/Team", tag, &[(lines, !equals)]);
    }
}

#[test]
fn multivalued_strings() {
    let key = "aws:TagKeys";
    for (operator, results) in [
        // Requests with: environment | environment, costcenter | costcenter | nothing | an empty string
        ("ForAnyValue:StringEquals", [true, true, false, false, false]),
        ("ForAllValues:StringEquals", [true, false, false, true, true]),
        ("ForAnyValue:StringNotEquals", [false, true, true, false, false]),
        ("ForAllValues:StringNotEquals", [false, false, true, true, true]),
        ("ForAnyValue:StringLike", [true, true, false, false, false]),
        ("ForAllValues:StringNotLike", [false, false, true, true, true]),
        ("ForAllValues:StringEqualsIfExists", [true, false, false, true, true]),
        ("ForAnyValue:StringEqualsIfExists", [true, true, false, false, false]),
        // Without a set operator, the number of values in the request decides.
        ("StringEquals", [true, false, false, false, false]),
        ("StringNotEquals", [false, false, true, true, true]),
        ("StringEqualsIfExists", [true, false, false, true, false]),
    ] {
        let requests: [&[&str]; 5] = [
            &["aws:TagKeys: environment"],
            &["aws:TagKeys: environment, costcenter"],
            &["aws:TagKeys: costcenter"],
            &[],
            &["aws:TagKeys:"],
        ];
        for (request, expected) in requests.into_iter().zip(results) {
            check(operator, key, &["environment", "owner"], &[(request, expected)]);
        }
    }
    check("ForAnyValue:StringEquals", key, &["environment"], &[(&["aws:TagKeys: Environment"], false)]);
    check(
        "ForAllValues:StringNotLike",
        "aws:ResourceOrgPaths",
        &["o-a/r-a/media/", "o-a/r-a/sports/*"],
        &[
            (&["aws:ResourceOrgPaths: o-a/r-a/sports/costcenter/"], false),
            (&["aws:ResourceOrgPaths: o-a/r-a/media/costcenter/"], true),
        ],
    );
}

#[test]
fn numbers() {
    let key = "s3:max-keys";
    for (operator, results) in [
        // 9.9 | 10 | 10.0 | 11 | no number
        ("NumericEquals", [false, true, true, false, false]),
        ("NumericNotEquals", [true, false, false, true, true]),
        ("NumericLessThan", [true, false, false, false, false]),
        ("NumericLessThanEquals", [true, true, true, false, false]),
        ("NumericGreaterThan", [false, false, false, true, false]),
        ("NumericGreaterThanEquals", [false, true, true, true, false]),
    ] {
        for (value, expected) in ["9.9", "10", "10.0", "11", "ten"].into_iter().zip(results) {
            check(operator, key, &["10"], &[(&[&format!("{key}: {value}")], expected)]);
        }
        check(operator, key, &["10"], &[(&[], operator == "NumericNotEquals")]);
        check(&format!("{operator}IfExists"), key, &["10"], &[(&[], true)]);
    }
    check("NumericEquals", key, &["1", "3"], &[(&["s3:max-keys: 3"], true), (&["s3:max-keys: 2"], false)]);
    check("NumericNotEquals", key, &["1", "3"], &[(&["s3:max-keys: 3"], false), (&["s3:max-keys: 2"], true)]);
}

#[test]
fn dates() {
    let key = "aws:CurrentTime";
    for (operator, results) in [
        ("DateEquals", [false, true, false]),
        ("DateNotEquals", [true, false, true]),
        ("DateLessThan", [true, false, false]),
        ("DateLessThanEquals", [true, true, false]),
        ("DateGreaterThan", [false, false, true]),
        ("DateGreaterThanEquals", [false, true, true]),
    ] {
        let values = ["2019-12-31T23:59:59Z", "2020-01-01T01:00:00+01:00", "2020-01-01T00:00:01Z"];
        for policy in ["2020-01-01T00:00:00Z", "2020-01-01", "1577836800"] {
            for (value, expected) in values.into_iter().zip(results) {
                check(operator, key, &[policy], &[(&[&format!("{key}: {value}")], expected)]);
            }
        }
        check(operator, key, &["2020-01-01"], &[(&[], operator == "DateNotEquals")]);
    }
    let now = "2020-07-01T00:00:00Z".parse().unwrap();
    let now = Context::builder().time(now).build();
    assert!(condition("DateGreaterThan", "aws:EpochTime", &["2020-06-30"]).holds(&now));
    assert!(condition("NumericLessThan", "aws:EpochTime", &["1593561601"]).holds(&now));
}

#[test]
fn booleans() {
    check(
        "Bool",
        "aws:SecureTransport",
        &["false"],
        &[
            (&["aws:SecureTransport: false"], true),
            (&["aws:SecureTransport: False"], true),
            (&["aws:SecureTransport: true"], false),
            (&["aws:SecureTransport: 0"], false),
            (&[], false),
        ],
    );
    check(
        "BoolIfExists",
        "aws:MultiFactorAuthPresent",
        &["false"],
        &[(&[], true), (&["aws:MultiFactorAuthPresent: true"], false)],
    );
    check("ForAllValues:Bool", "a:b", &["true"], &[(&["a:b: true, TRUE"], true), (&["a:b: true, false"], false)]);
    check("ForAnyValue:Bool", "a:b", &["true"], &[(&["a:b: true, false"], true), (&["a:b: false"], false)]);
    check(
        "Bool",
        "a:b",
        &["${aws:PrincipalTag/b}"],
        &[
            (&["a:b: true", "aws:PrincipalTag/b: True"], true),
            (&["a:b: x", "aws:PrincipalTag/b: x"], false),
            (&["a:b: true"], false),
        ],
    );
}

#[test]
fn binary() {
    check(
        "BinaryEquals",
        "a:key",
        &["QmluYXJ5VmFsdWVJbkJhc2U2NA=="],
        &[
            (&["a:key: QmluYXJ5VmFsdWVJbkJhc2U2NA=="], true),
            (&["a:key: ASIAIOSFODNN7EXAMPLE"], false),
            (&["a:key: qmluYXJ5VmFsdWVJbkJhc2U2NA=="], false),
            (&["a:key: !"], false),
            (&[], false),
        ],
    );
}

#[test]
fn addresses() {
    check(
        "IpAddress",
        "aws:SourceIp",
        &["203.0.113.0/24", "2001:DB8:1234:5678::/64"],
        &[
            (&["aws:SourceIp: 203.0.113.1"], true),
            (&["aws:SourceIp: 198.51.100.1"], false),
            (&["aws:SourceIp: 2001:db8:1234:5678::7"], true),
            (&["aws:SourceIp: 2001:db8:1234:5679::7"], false),
            (&[], false),
        ],
    );
    check(
        "NotIpAddress",
        "aws:SourceIp",
        &["192.0.2.0/24", "203.0.113.0/24"],
        &[
            (&["aws:SourceIp: 192.0.2.9"], false),
            (&["aws:SourceIp: 203.0.113.1"], false),
            (&["aws:SourceIp: 198.51.100.1"], true),
            (&["aws:SourceIp: 2001:db8::7"], true),
            (&[], true),
        ],
    );
}

#[test]
fn arns() {
    let topic = "arn:aws:sns:us-west-2:123456789012:TOPIC-ID";
    for operator in ["ArnEquals", "ArnLike"] {
        check(
            operator,
            "aws:SourceArn",
            &[topic],
            &[
                (&["aws:SourceArn: arn:aws:sns:us-west-2:123456789012:TOPIC-ID"], true),
                (&["aws:SourceArn: arn:aws:sns:us-west-2:123456789012:topic-id"], false),
                (&["aws:SourceArn: arn:aws:sns:us-west-2:777788889999:TOPIC-ID"], false),
                (&[], false),
            ],
        );
    }
    for operator in ["ArnNotEquals", "ArnNotLike"] {
        check(
            operator,
            "aws:PrincipalArn",
            &["arn:aws:iam::222222222222:user/Ana", "arn:aws:iam::*:user/M*"],
            &[
                (&["aws:PrincipalArn: arn:aws:iam::222222222222:user/Nikki"], true),
                (&["aws:PrincipalArn: arn:aws:iam::222222222222:user/Mary"], false),
                (&["aws:PrincipalArn: no ARN"], true),
                (&[], true),
            ],
        );
    }
    let patterns =
        ["arn:aws::cloudfront:123456789012:distribution/*", "arn:aws::cloudfront:123456789012:distribution/support*"];
    let value = |resources: &str| format!("logs:LogGeneratingResourceArns: {resources}");
    let one = value("arn:aws::cloudfront:123456789012:distribution/costcenter");
    let other = value("arn:aws::cloudfront:777788889999:distribution/costcenter");
    let both = format!("{one}, arn:aws::cloudfront:123456789012:distribution/support2025");
    check(
        "ForAllValues:ArnLike",
        "logs:LogGeneratingResourceArns",
        &patterns,
        &[(&[&one], true), (&[&both], true), (&[&other], false), (&[], true)],
    );
}

#[test]
fn null() {
    for (values, absent, present) in
        [(&["true"][..], true, false), (&["False"], false, true), (&["true", "false"], true, true), (&[], false, false)]
    {
        check(
            "Null",
            "aws:TokenIssueTime",
            values,
            &[
                (&[], absent),
                (&["aws:TokenIssueTime: 2020-01-01"], present),
                (&["aws:TokenIssueTime:"], present),
                (&["aws:TokenIssueTime: a, b"], present),
            ],
        );
    }
}

#[test]
fn if_exists_is_true_without_the_key() {
    check(
        "StringLikeIfExists",
        "ec2:InstanceType",
        &["t1.*", "t2.*", "m3.*"],
        &[(&["ec2:InstanceType: t2.micro"], true), (&["ec2:InstanceType: m2.micro"], false), (&[], true)],
    );
    check("StringNotEqualsIfExists", "aws:username", &["ana"], &[(&[], true), (&["aws:username: ana"], false)]);
}

#[test]
fn values_of_another_type_are_refused() {
    for (operator, value) in [
        ("NumericEquals", "ten"),
        ("NumericEquals", "${aws:EpochTime}"),
        ("DateLessThan", "tomorrow"),
        ("DateLessThan", "2020-*"),
        ("Bool", "yes"),
        ("BinaryEquals", "not base64"),
        ("IpAddress", "203.0.113.*"),
        ("IpAddress", "${aws:SourceIp}"),
        ("ArnLike", "*"),
        ("ArnEquals", "role/x"),
        ("Null", "null"),
        ("StringLike", "${aws:username"),
        ("StringMatches", "x"),
    ] {
        Condition::parse(operator, "aws:x", vec![value.into()], Version::V2012).expect_err(value);
    }
    Condition::parse("StringEquals", "username", vec!["x".into()], Version::V2012).expect_err("no prefix");
    let paths = "gitferry:changedpaths";
    Condition::parse("StringLike", paths, vec!["x".into()], Version::V2012).expect_err("several values");
    condition("ForAnyValue:StringLike", paths, &["x"]);
    condition("Null", paths, &["true"]);
}
