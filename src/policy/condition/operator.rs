//! Names of condition operators.

use std::fmt;

/// Set operator: how several values of a key are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantifier {
    /// Each value of the request must satisfy the operator; true without values.
    ForAllValues,
    /// One value of the request must satisfy the operator; false without values.
    ForAnyValue,
}

/// Order that a value of the request must have to that of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    pub(crate) fn holds<T: Ord>(self, request: &T, policy: &T) -> bool {
        match self {
            Relation::Equal => request == policy,
            Relation::Less => request < policy,
            Relation::LessOrEqual => request <= policy,
            Relation::Greater => request > policy,
            Relation::GreaterOrEqual => request >= policy,
        }
    }
}

/// Comparison of a value of the request with one of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
    Number(Relation),
    Date(Relation),
    Bool,
    Binary,
    Address,
    Arn,
}

/// A condition operator such as `ForAnyValue:StringNotLikeIfExists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    pub quantifier: Option<Quantifier>,
    name: &'static str,
    /// `None` for `Null`, which tests the presence of the key and compares nothing.
    pub comparison: Option<Comparison>,
    /// True if the operator holds where the comparison does not.
    pub is_negated: bool,
    pub if_exists: bool,
}

/// Operator that tests the presence of a key.
const NULL: &str = "Null";

/// Names without set operator and `IfExists`, each with its comparison, and true if it is negated.
const COMPARISONS: [(&str, Comparison, bool); 26] = {
    use Comparison::{Address, Arn, Binary, Bool, Date, Equals, EqualsIgnoreCase, Like, Number};
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    [
        ("StringEquals", Equals, false),
        ("StringNotEquals", Equals, true),
        ("StringEqualsIgnoreCase", EqualsIgnoreCase, false),
        ("StringNotEqualsIgnoreCase", EqualsIgnoreCase, true),
        ("StringLike", Like, false),
        ("StringNotLike", Like, true),
        ("NumericEquals", Number(Equal), false),
        ("NumericNotEquals", Number(Equal), true),
        ("NumericLessThan", Number(Less), false),
        ("NumericLessThanEquals", Number(LessOrEqual), false),
        ("NumericGreaterThan", Number(Greater), false),
        ("NumericGreaterThanEquals", Number(GreaterOrEqual), false),
        ("DateEquals", Date(Equal), false),
        ("DateNotEquals", Date(Equal), true),
        ("DateLessThan", Date(Less), false),
        ("DateLessThanEquals", Date(LessOrEqual), false),
        ("DateGreaterThan", Date(Greater), false),
        ("DateGreaterThanEquals", Date(GreaterOrEqual), false),
        ("Bool", Bool, false),
        ("BinaryEquals", Binary, false),
        ("IpAddress", Address, false),
        ("NotIpAddress", Address, true),
        ("ArnEquals", Arn, false),
        ("ArnLike", Arn, false),
        ("ArnNotEquals", Arn, true),
        ("ArnNotLike", Arn, true),
    ]
};

impl Operator {
    /// Reads a name, without regard to case. `None` if there is no such operator; `Null` takes neither a set operator nor
    /// `IfExists`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (quantifier, rest) = match text.split_once(':') {
            None => (None, text),
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAllValues") => (Some(Quantifier::ForAllValues), rest),
            Some((set, rest)) if set.eq_ignore_ascii_case("ForAnyValue") => (Some(Quantifier::ForAnyValue), rest),
            Some(_) => return None,
        };
        let lower = rest.to_ascii_lowercase();
        let (base, if_exists) = lower.strip_suffix("ifexists").map_or((&lower[..], false), |base| (base, true));
        if text.eq_ignore_ascii_case(NULL) {
            return Some(Operator { quantifier, name: NULL, comparison: None, is_negated: false, if_exists });
        }
        let mut comparisons = COMPARISONS.into_iter();
        let (name, comparison, is_negated) = comparisons.find(|(name, ..)| name.eq_ignore_ascii_case(base))?;
        Some(Operator { quantifier, name, comparison: Some(comparison), is_negated, if_exists })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = match self.quantifier {
            None => "",
            Some(Quantifier::ForAllValues) => "ForAllValues:",
            Some(Quantifier::ForAnyValue) => "ForAnyValue:",
        };
        let if_exists = if self.if_exists { "IfExists" } else { "" };
        write!(formatter, "{set}{}{if_exists}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_without_regard_to_case_and_written_as_aws_does() {
        for (name, ..) in COMPARISONS {
            for set in ["", "ForAllValues:", "ForAnyValue:"] {
                for suffix in ["", "IfExists"] {
                    let full = format!("{set}{name}{suffix}");
                    let read = Operator::parse(&full.to_uppercase());
                    assert_eq!(read.unwrap().to_string(), full);
                }
            }
        }
        assert_eq!(Operator::parse("null").unwrap().to_string(), "Null");
        for name in ["NullIfExists", "ForAnyValue:Null", "ForAllValues:Null"] {
            assert_eq!(Operator::parse(name), None, "{name}");
        }
        for name in
            ["", "StringMatches", "String Equals", "ForSomeValues:StringEquals", "IfExists", "ForAnyValue:", "a:b:c"]
        {
            assert_eq!(Operator::parse(name), None, "{name}");
        }
    }
}
