//! Conditions of statements.

mod cidr;
mod date;
mod number;
mod operator;
#[cfg(test)]
mod tests;
mod value;

use crate::context::{Context, Key};
use crate::keys;
use crate::version::Version;
use operator::{Operator, Quantifier};
use value::{Value, boolean};

/// One operator with one key and its values. All conditions of a statement must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    operator: Operator,
    key: Key,
    /// As they were written.
    texts: Vec<String>,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// The key is absent, for true, or present, for false.
    Absence(Vec<bool>),
    /// The values of the key are compared with these.
    Values(Vec<Value>),
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// An unknown operator, a malformed key or value, or a key with several values and no set operator.
    pub(crate) fn parse(operator: &str, key: &str, texts: Vec<String>, version: Version) -> Result<Self, String> {
        let operator = Operator::parse(operator).ok_or_else(|| format!("`{operator}` is no condition operator"))?;
        let key = Key::parse(key)?;
        if operator.quantifier.is_none() && operator.comparison.is_some() && key == Key::new(keys::CHANGED_PATHS) {
            return Err(format!(
                "`{key}` has several values: put `ForAnyValue:` or `ForAllValues:` before the operator"
            ));
        }
        let test = match operator.comparison {
            None => {
                let absent = |text: &String| boolean(text).ok_or_else(|| format!("`{text}` is not `true` or `false`"));
                Test::Absence(texts.iter().map(absent).collect::<Result<_, String>>()?)
            }
            Some(comparison) => {
                let value = |text: &String| Value::parse(text, comparison, version);
                Test::Values(texts.iter().map(value).collect::<Result<_, String>>()?)
            }
        };
        Ok(Condition { operator, key, texts, test })
    }

    /// Name of the operator.
    pub(crate) fn operator(&self) -> String {
        self.operator.to_string()
    }

    /// Key that the condition tests.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Values as they were written.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Condition keys that the condition reads: that which it tests, and those of its variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let values = match &self.test {
            Test::Absence(_) => &[],
            Test::Values(values) => &values[..],
        };
        std::iter::once(&self.key).chain(values.iter().flat_map(Value::keys))
    }

    /// Returns true if the condition holds for a request.
    ///
    /// Without a set operator, a key with several values holds no condition. "The difference between single-valued and multivalued
    /// condition keys depends on the number of values in the request context."
    pub(crate) fn holds(&self, context: &Context) -> bool {
        let values = context.values(&self.key);
        let expected = match &self.test {
            Test::Absence(absent) => return absent.contains(&values.is_none()),
            Test::Values(expected) => expected,
        };
        let Operator { quantifier, is_negated, if_exists, .. } = self.operator;
        // A negated operator holds for a value that none of the policy's matches.
        let holds_for = |value: &String| expected.iter().any(|expected| expected.matches(value, context)) != is_negated;
        match (quantifier, values) {
            (None, None) => if_exists || is_negated,
            (None, Some([value])) => holds_for(value),
            (None, Some(_)) => false,
            (Some(Quantifier::ForAllValues), None) => true,
            (Some(Quantifier::ForAllValues), Some(values)) => is_null_set(values) || values.iter().all(holds_for),
            (Some(Quantifier::ForAnyValue), None) => false,
            (Some(Quantifier::ForAnyValue), Some(values)) => !is_null_set(values) && values.iter().any(holds_for),
        }
    }
}

/// "A null dataset, such as an empty string."
fn is_null_set(values: &[String]) -> bool {
    values.iter().all(String::is_empty)
}
