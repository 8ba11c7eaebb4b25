//! Random policies and requests from a seed, within the part of the language that both evaluators read alike.

use serde_json::{Map, Value, json};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// One to three of these.
    fn some(&mut self, from: &[&str]) -> Vec<String> {
        (0..=self.below(3)).map(|_| self.pick(from).to_owned()).collect()
    }

    /// A value, or a list of values.
    fn list(&mut self, from: &[&str]) -> Value {
        if self.one_in(3) { json!(self.pick(from)) } else { json!(self.some(from)) }
    }
}

/// Type of the values of a key: the operators that compare it, values of policies, values of requests.
struct Type {
    operators: &'static [&'static str],
    keys: &'static [&'static str],
    policy: &'static [&'static str],
    request: &'static [&'static str],
}

const TYPES: [Type; 7] = [
    Type {
        operators: &[
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
        ],
        keys: &["codecommit:References", "aws:PrincipalTag/team", "aws:TagKeys"],
        policy: &[
            "refs/heads/main",
            "refs/heads/*",
            "refs/*/v?",
            "*",
            "Web",
            "a.b",
            "${aws:userid}",
            "refs/heads/${aws:userid}",
            "${aws:username, 'web'}*",
        ],
        request: &["refs/heads/main", "refs/heads/x", "REFS/heads/main", "web", "Web", "axb", "AIDA1"],
    },
    Type {
        operators: &[
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThan",
            "NumericLessThanEquals",
            "NumericGreaterThan",
            "NumericGreaterThanEquals",
        ],
        keys: &["aws:EpochTime", "s3:max-keys"],
        policy: &["1", "9.5", "10", "-3", "1600000000"],
        request: &["1", "9.5", "10.25", "-3", "-4", "1600000000"],
    },
    Type {
        operators: &[
            "DateEquals",
            "DateNotEquals",
            "DateLessThan",
            "DateLessThanEquals",
            "DateGreaterThan",
            "DateGreaterThanEquals",
        ],
        keys: &["aws:CurrentTime", "aws:TokenIssueTime"],
        policy: &[
            "2026-01-31T09:30:00Z",
            "2026-01-31",
            "2025-12",
            "2026-01-31T10:30:00+01:00",
            "2026-01-31T09:30:00.5Z",
        ],
        request: &["2026-01-31T09:30:00Z", "2026-01-31T00:00:00Z", "2026-01-31T09:30:00.500Z", "2024-02-29T12:00:00Z"],
    },
    Type {
        operators: &["Bool"],
        keys: &["aws:SecureTransport", "gitferry:ForcePush"],
        policy: &["true", "false", "TRUE"],
        request: &["true", "false", "False"],
    },
    Type {
        operators: &["BinaryEquals"],
        keys: &["a:blob"],
        policy: &["YQ==", "YWI="],
        request: &["YQ==", "YWI=", "eA=="],
    },
    Type {
        operators: &["IpAddress", "NotIpAddress"],
        keys: &["aws:SourceIp"],
        policy: &["203.0.113.0/24", "198.51.100.7/32", "198.0.0.0/7", "2001:db8:1234:5678::/64"],
        request: &["203.0.113.9", "198.51.100.7", "198.51.100.8", "2001:db8:1234:5678::9", "2001:db8::1"],
    },
    Type {
        operators: &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
        keys: &["aws:PrincipalArn", "aws:SourceArn"],
        policy: &[
            "arn:aws:iam::111111111111:user/ana",
            "arn:aws:iam::*:user/*",
            "arn:*:iam:*:11111111111?:*/a*",
            "arn:aws:iam::111111111111:user/${aws:userid}",
            "arn:aws:sns:*:111111111111:a:*",
        ],
        request: &[
            "arn:aws:iam::111111111111:user/ana",
            "arn:aws:iam::111111111111:user/AIDA1",
            "arn:aws:iam::222222222222:role/a/b",
            "arn:aws:sns:us-east-1:111111111111:a:b:c",
            "arn:aws:sns:us-east-1:111111111111:a",
        ],
    },
];

const ACTIONS: &[&str] = &["*", "codecommit:*", "codecommit:Git*", "CodeCommit:gitpull", "codecommit:Git?ush", "s3:*"];
const RESOURCES: &[&str] = &[
    "*",
    "arn:aws:codecommit:us-east-1:111111111111:team/app",
    "arn:aws:codecommit:*:*:team/*",
    "arn:aws:codecommit:us-*-1:1*:*",
    "arn:aws:codecommit:*:*:team/a?p",
    "arn:aws:codecommit:*:*:team/${aws:userid}",
    "arn:aws:codecommit:*:*:team/${aws:username, 'app'}*",
    "arn:aws:s3:::bucket/*",
    "arn:*:*:*:*:*",
];

fn condition(random: &mut Random) -> (String, Value) {
    if random.one_in(8) {
        let key = TYPES[random.below(TYPES.len())].keys[0];
        return ("Null".into(), json!({ key: random.list(&["true", "false"]) }));
    }
    let of = &TYPES[random.below(TYPES.len())];
    let set = random.pick(&["", "", "ForAllValues:", "ForAnyValue:"]);
    let suffix = random.pick(&["", "IfExists"]);
    let name = format!("{set}{}{suffix}", random.pick(of.operators));
    // A negated operator with a variable that may be without a value is a known difference.
    let known: Vec<&str> =
        of.policy.iter().copied().filter(|value| !name.contains("Not") || !value.contains("${aws:userid}")).collect();
    (name, json!({ random.pick(of.keys): random.list(&known) }))
}

fn statement(random: &mut Random, effect: &str) -> Value {
    let action = if random.one_in(6) { "NotAction" } else { "Action" };
    let resource = if random.one_in(6) { "NotResource" } else { "Resource" };
    // A variable that may be without a value is a known difference in `NotResource`, too.
    let is_known = |text: &&str| resource == "Resource" || !text.contains("${aws:userid}");
    let resources: Vec<&str> = RESOURCES.iter().copied().filter(is_known).collect();
    let mut statement = json!({"Effect": effect, action: random.list(ACTIONS), resource: random.list(&resources)});
    if random.one_in(4) {
        statement["Sid"] = json!("Some");
    }
    let conditions: Map<String, Value> = (0..random.below(3)).map(|_| condition(random)).collect();
    if !conditions.is_empty() {
        statement["Condition"] = Value::Object(conditions);
    }
    statement
}

fn document(random: &mut Random) -> Value {
    let mut statements: Vec<Value> = Vec::new();
    for _ in 0..=random.below(3) {
        let effect = random.pick(&["Allow", "Allow", "Allow", "Deny"]);
        let mut statement = statement(random, effect);
        if statements.iter().any(|other| other.get("Sid").is_some()) {
            statement.as_object_mut().unwrap().remove("Sid");
        }
        statements.push(statement);
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn context(random: &mut Random) -> Value {
    let mut context = Map::new();
    for of in &TYPES {
        for key in of.keys {
            let value = match random.below(6) {
                0 | 1 => continue,
                2 => json!([random.pick(of.request), random.pick(of.request)]),
                _ => json!(random.pick(of.request)),
            };
            context.insert((*key).to_owned(), value);
        }
    }
    for (key, values) in [("aws:userid", ["AIDA1", "app"]), ("aws:username", ["web", "a"])] {
        if !random.one_in(3) {
            context.insert(key.to_owned(), json!(random.pick(&values)));
        }
    }
    Value::Object(context)
}

/// A request with the policies of its principal.
pub fn case(random: &mut Random) -> Value {
    let documents = |random: &mut Random, count: usize| (0..count).map(|_| document(random)).collect::<Vec<Value>>();
    let count = 1 + random.below(3);
    let identity = documents(random, count);
    let count = usize::from(random.one_in(4));
    let boundary = documents(random, count);
    let count = if random.one_in(4) { 1 + random.below(2) } else { 0 };
    let session = documents(random, count);
    let actions = ["codecommit:GitPull", "codecommit:GitPush", "codecommit:GitPush", "s3:GetObject"];
    let resources = [
        "arn:aws:codecommit:us-east-1:111111111111:team/app",
        "arn:aws:codecommit:us-east-1:111111111111:team/AIDA1",
        "arn:aws:codecommit:eu-west-1:222222222222:other",
        "arn:aws:s3:::bucket/a/b",
    ];
    json!({
        "identity": identity, "boundary": boundary, "session": session,
        "action": random.pick(&actions), "resource": random.pick(&resources), "context": context(random),
    })
}

const PRINCIPALS: &[&str] = &[
    "arn:aws:iam::111111111111:user/ana",
    "arn:aws:iam::222222222222:user/ana",
    "arn:aws:sts::111111111111:assumed-role/deploy/run1",
    "arn:aws:sts::222222222222:assumed-role/deploy/run1",
];

/// A trust policy of a role in the account 111111111111, with a principal that asks to assume the role.
pub fn trust_case(random: &mut Random) -> Value {
    let aws = [
        "111111111111",
        "222222222222",
        "arn:aws:iam::111111111111:root",
        "arn:aws:iam::111111111111:user/ana",
        "arn:aws:iam::222222222222:user/ana",
        "arn:aws:iam::111111111111:role/path/deploy",
        "arn:aws:iam::222222222222:role/deploy",
        "arn:aws:sts::111111111111:assumed-role/deploy/run1",
        "arn:aws:sts::111111111111:assumed-role/deploy/run2",
    ];
    let mut statements = Vec::new();
    for _ in 0..=random.below(3) {
        let principal = match random.below(8) {
            0 => json!("*"),
            1 => json!({"Service": "lambda.amazonaws.com"}),
            _ => json!({"AWS": random.list(&aws)}),
        };
        let effect = random.pick(&["Allow", "Allow", "Allow", "Deny"]);
        let action = random.list(&["sts:AssumeRole", "sts:AssumeRole*", "sts:TagSession"]);
        let mut statement = json!({"Effect": effect, "Principal": principal, "Action": action});
        if random.one_in(2) {
            let id = random.pick(&["12345", "123*"]);
            let operator = random.pick(&["StringEquals", "StringLike"]);
            statement["Condition"] = json!({operator: {"sts:ExternalId": id}});
        }
        statements.push(statement);
    }
    let mut context = Map::new();
    if random.one_in(2) {
        context.insert("sts:ExternalId".into(), json!(random.pick(&["12345", "1234"])));
    }
    json!({
        "trust": {"Version": "2012-10-17", "Statement": statements},
        "principal": random.pick(PRINCIPALS), "own": random.one_in(2), "context": context,
    })
}
