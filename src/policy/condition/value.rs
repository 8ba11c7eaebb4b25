//! Values of a condition, compiled for its operator.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::cidr::Cidr;
use super::date;
use super::number::Decimal;
use super::operator::{Comparison, Relation};
use crate::arn::ArnPattern;
use crate::context::{Context, Key};
use crate::pattern::{Pattern, Syntax};
use crate::version::Version;

/// One value of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Pattern),
    Number(Relation, Decimal),
    Date(Relation, Timestamp),
    Bool(Pattern),
    Binary(Vec<u8>),
    Address(Cidr),
    Arn(ArnPattern),
}

impl Value {
    /// Compiles a value.
    ///
    /// # Errors
    /// A text that is none of the type that the operator compares, or a malformed policy variable.
    pub(crate) fn parse(text: &str, comparison: Comparison, version: Version) -> Result<Self, String> {
        let is_not = |what: &str| format!("`{text}` is not {what}");
        let exact = Syntax::exact(version);
        match comparison {
            Comparison::Equals => Pattern::parse(text, exact).map(Value::Text),
            Comparison::EqualsIgnoreCase => {
                Pattern::parse(text, Syntax { ignores_case: true, ..exact }).map(Value::Text)
            }
            Comparison::Like => Pattern::parse(text, Syntax::like(version)).map(Value::Text),
            Comparison::Number(relation) => {
                let number = Decimal::parse(text).ok_or_else(|| is_not("a decimal number"))?;
                Ok(Value::Number(relation, number))
            }
            Comparison::Date(relation) => {
                let date = date::parse(text).ok_or_else(|| is_not("a date, such as `2026-01-31T09:30:00Z`"))?;
                Ok(Value::Date(relation, date))
            }
            Comparison::Bool => bool_pattern(text, exact),
            Comparison::Binary => STANDARD.decode(text).map(Value::Binary).map_err(|_| is_not("base64")),
            Comparison::Address => {
                Cidr::parse(text).map(Value::Address).ok_or_else(|| is_not("an IP address or range"))
            }
            Comparison::Arn => ArnPattern::condition(text, version).map(Value::Arn),
        }
    }

    /// Returns true if the value of the request is the one, or one of those, that this value describes. A variable without a
    /// value, and a value of the request that has another type, match nothing.
    pub(crate) fn matches(&self, request: &str, context: &Context) -> bool {
        match self {
            Value::Text(pattern) => pattern.matches(request, context) == Some(true),
            Value::Number(relation, policy) => {
                Decimal::parse(request).is_some_and(|request| relation.holds(&request, policy))
            }
            Value::Date(relation, policy) => {
                date::parse(request).is_some_and(|request| relation.holds(&request, policy))
            }
            Value::Bool(pattern) => boolean(request).is_some() && pattern.matches(request, context) == Some(true),
            Value::Binary(policy) => STANDARD.decode(request).is_ok_and(|request| request == *policy),
            Value::Address(range) => range.contains(request),
            Value::Arn(pattern) => pattern.matches(request, context) == Some(true),
        }
    }

    /// Condition keys that variables in the value stand for.
    pub(crate) fn keys(&self) -> Vec<&Key> {
        match self {
            Value::Text(pattern) | Value::Bool(pattern) => pattern.keys().collect(),
            Value::Arn(pattern) => pattern.keys().collect(),
            _ => Vec::new(),
        }
    }
}

/// Reads `true` or `false`, without regard to case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn bool_pattern(text: &str, exact: Syntax) -> Result<Value, String> {
    let pattern = Pattern::parse(text, Syntax { ignores_case: true, ..exact })?;
    if boolean(text).is_none() && !pattern.has_variables() {
        return Err(format!("`{text}` is not `true` or `false`"));
    }
    Ok(Value::Bool(pattern))
}
