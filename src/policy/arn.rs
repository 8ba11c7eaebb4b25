//! Amazon Resource Names and patterns of them.

use crate::context::{Context, Key};
use crate::pattern::{Pattern, Syntax};
use crate::version::Version;

/// Number of fields of an ARN: `arn:partition:service:region:account:resource`. The last may contain colons.
const FIELDS: usize = 6;

/// Fields of an ARN, without the first, which is `arn`.
fn fields(arn: &str) -> Option<[&str; FIELDS - 1]> {
    let mut fields = arn.splitn(FIELDS, ':');
    if fields.next() != Some("arn") {
        return None;
    }
    let mut found = [""; FIELDS - 1];
    for field in &mut found {
        *field = fields.next()?;
    }
    Some(found)
}

/// Id of the account of an ARN; `None` for a text that is no ARN, or an ARN without an account.
pub fn account_of(arn: &str) -> Option<&str> {
    fields(arn).map(|[_, _, _, account, _]| account).filter(|account| !account.is_empty())
}

/// Service and resource of an ARN, such as `iam` and `user/ana`.
pub(crate) fn service_and_resource(arn: &str) -> Option<(&str, &str)> {
    fields(arn).map(|[_, service, _, _, resource]| (service, resource))
}

/// Pattern of an ARN. Each field is matched by itself: a wildcard stops at the colons of the first five fields, and goes on over
/// colons and slashes of the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArnPattern {
    text: String,
    fields: [Pattern; FIELDS - 1],
}

impl ArnPattern {
    /// Compiles the pattern of an element `Resource`. Variables stand in the last field only. "You can't use a variable to
    /// replace parts of the ARN before the fifth colon." An ARN that is cut short matches anything in the fields that it lacks.
    pub(crate) fn resource(text: &str, version: Version) -> Result<Self, String> {
        let mut texts = split(text);
        if texts[0] != "arn" || texts.len() < 2 {
            return Err(format!("`{text}` must be in ARN format or `*`"));
        }
        while texts.len() < FIELDS {
            texts.push("*");
        }
        let pattern = ArnPattern::compile(text, &texts, Syntax::like(version))?;
        if pattern.fields[..FIELDS - 2].iter().any(Pattern::has_variables) {
            return Err(format!("`{text}` has a policy variable before its fifth colon"));
        }
        Ok(pattern)
    }

    /// Compiles a value of an ARN condition operator.
    pub(crate) fn condition(text: &str, version: Version) -> Result<Self, String> {
        let texts = split(text);
        if texts[0] != "arn" || texts.len() != FIELDS {
            let hint = "an ARN has six fields between colons, each of which may be `*`";
            return Err(format!("`{text}` is no ARN: {hint}"));
        }
        ArnPattern::compile(text, &texts, Syntax::like(version))
    }

    fn compile(text: &str, texts: &[&str], syntax: Syntax) -> Result<Self, String> {
        let field = |at: usize| Pattern::parse(texts[at], syntax);
        let fields = [field(1)?, field(2)?, field(3)?, field(4)?, field(5)?];
        Ok(ArnPattern { text: text.to_owned(), fields })
    }

    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns true if the value is an ARN that the pattern describes; `None` if a variable of the pattern has no value.
    pub(crate) fn matches(&self, value: &str, context: &Context) -> Option<bool> {
        let mut all = true;
        let values = fields(value);
        for (at, pattern) in self.fields.iter().enumerate() {
            let value = values.map_or("", |values| values[at]);
            all &= pattern.matches(value, context)?;
        }
        Some(all && values.is_some())
    }

    /// Condition keys that the variables of the pattern stand for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.fields.iter().flat_map(Pattern::keys)
    }
}

/// Splits a pattern at the first five colons that are not within a variable.
fn split(text: &str) -> Vec<&str> {
    let mut texts = Vec::with_capacity(FIELDS);
    let mut start = 0;
    let mut is_variable = false;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => is_variable = true,
            '}' => is_variable = false,
            ':' if !is_variable && texts.len() < FIELDS - 1 => {
                texts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    texts.push(&text[start..]);
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(pattern: &str, value: &str) -> bool {
        ArnPattern::resource(pattern, Version::V2012).unwrap().matches(value, &Context::default()).unwrap()
    }

    /// The examples of "IAM JSON policy elements: Resource".
    #[test]
    fn a_wildcard_of_the_resource_goes_over_slashes() {
        let pattern = "arn:aws:s3:::amzn-s3-demo-bucket/*/test/*";
        for (key, expected) in [
            ("1/test/object.jpg", true),
            ("1/2/test/object.jpg", true),
            ("1/2/test/3/object.jpg", true),
            ("1/2/3/test/4/object.jpg", true),
            ("1///test///object.jpg", true),
            ("1/test/.jpg", true),
            ("/test/object.jpg", true),
            ("1/test/", true),
            ("1-test/object.jpg", false),
            ("test/object.jpg", false),
            ("1/2/test.jpg", false),
        ] {
            assert_eq!(resource(pattern, &format!("arn:aws:s3:::amzn-s3-demo-bucket/{key}")), expected, "{key}");
        }
    }

    #[test]
    fn wildcards_stay_within_the_first_five_fields() {
        let repository = "arn:aws:codecommit:us-east-1:111111111111:team/app";
        for (pattern, expected) in [
            ("arn:aws:codecommit:us-east-1:111111111111:team/app", true),
            ("arn:aws:codecommit:us-*:*:team/*", true),
            ("arn:aws:codecommit:us-east-?:11111111111?:*app", true),
            ("arn:*:*:*:*:*", true),
            ("arn:aws:codecommit:*:team/app", false),
            ("arn:aws:codecommit:us-east-1:222222222222:*", false),
            ("arn:aws:codecommit:us-east-1:111111111111:TEAM/app", false),
            // Cut short: the fields that are lacking are `*`.
            ("arn:aws:codecommit", true),
            ("arn:aws:codecommit:*", true),
            ("arn:aws:codecommit:eu-west-1", false),
        ] {
            assert_eq!(resource(pattern, repository), expected, "{pattern}");
        }
        assert!(resource("arn:aws:logs:us-east-1:1:log-group:*:x", "arn:aws:logs:us-east-1:1:log-group:a:b:x"));
        for value in ["*", "", "arn:aws:codecommit:us-east-1:1", "x:aws:codecommit:us-east-1:1:x"] {
            assert!(!resource("arn:*:*:*:*:*", value), "{value}");
        }
    }

    #[test]
    fn resources_are_arns_with_variables_at_the_end_alone() {
        let refused = [
            "x",
            "",
            "**",
            "app",
            "codecommit:app",
            "arn",
            "ARN:aws:s3:::x",
            "arn:aws:s3::${aws:userid}:x",
            "arn:${aws:userid}",
        ];
        for text in refused {
            ArnPattern::resource(text, Version::V2012).expect_err(text);
        }
        let pattern = ArnPattern::resource("arn:aws:iam::1:user/${aws:username}", Version::V2012).unwrap();
        let context = Context::builder().username("ana").build();
        assert_eq!(pattern.matches("arn:aws:iam::1:user/ana", &context), Some(true));
        assert_eq!(pattern.matches("arn:aws:iam::1:user/ana", &Context::default()), None);
        assert_eq!(pattern.matches("arn:aws:iam::2:user/ana", &Context::default()), None);
    }

    /// The example of "Amazon Resource Name (ARN) condition operators" of 2023.
    #[test]
    fn conditions_match_field_by_field() {
        let pattern = ArnPattern::condition("arn:aws:someservice:*:111122223333:finance/*", Version::V2012).unwrap();
        let value = "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt";
        assert_eq!(pattern.matches(value, &Context::default()), Some(false));
        let value = "arn:aws:someservice:us-east-2:111122223333:finance/document.txt";
        assert_eq!(pattern.matches(value, &Context::default()), Some(true));
        let pattern = "arn:aws:iam::${aws:PrincipalAccount}:role/${aws:PrincipalTag/role}";
        let pattern = ArnPattern::condition(pattern, Version::V2012).unwrap();
        let context = Context::builder().principal_account("1").principal_tag("role", "a:b").build();
        assert_eq!(pattern.matches("arn:aws:iam::1:role/a:b", &context), Some(true));
        for text in ["*", "arn:aws:iam", "arn:aws:iam::1", "x:a:b:c:d:e"] {
            ArnPattern::condition(text, Version::V2012).expect_err(text);
        }
    }

    #[test]
    fn accounts_are_read_from_arns() {
        assert_eq!(account_of("arn:aws:iam::111111111111:user/ana"), Some("111111111111"));
        assert_eq!(account_of("arn:aws:s3:::bucket"), None);
        assert_eq!(account_of("*"), None);
    }
}
