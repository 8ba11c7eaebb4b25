//! JSON of policy documents: keys keep their order, a duplicate key is refused, nesting is limited.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Maximum number of objects and lists within each other. The values of a condition are at depth 6.
const MAX_NESTING: usize = 8;

/// A JSON value. Numbers are kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a text that is one JSON value.
    ///
    /// # Errors
    /// The first syntax error, duplicate key or value that is nested too deep, with its line and column.
    pub(crate) fn parse(text: &str) -> Result<Json, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let json = Value { depth: 0 }.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        deserializer.end().map_err(|error| error.to_string())?;
        Ok(json)
    }
}

/// Reads a value that lies within `depth` objects and lists.
#[derive(Clone, Copy)]
struct Value {
    depth: usize,
}

impl Value {
    fn inner<E: serde::de::Error>(self) -> Result<Value, E> {
        if self.depth == MAX_NESTING {
            return Err(E::custom(format!("more than {MAX_NESTING} objects and lists within each other")));
        }
        Ok(Value { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.iter().any(|(other, _)| *other == key) {
                return Err(A::Error::custom(format!("the key `{key}` occurs twice")));
            }
            let value = map.next_value_seed(inner)?;
            members.push((key, value));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_order_and_text() {
        let json = Json::parse(r#"{"b": [1, -2, 1.50, true, null], "a": "x\u0041"}"#).unwrap();
        let numbers = ["1", "-2", "1.5"].map(|text| Json::Number(text.into()));
        let list = numbers.into_iter().chain([Json::Bool(true), Json::Null]).collect();
        assert_eq!(json, Json::Object(vec![("b".into(), Json::List(list)), ("a".into(), Json::Text("xA".into()))]));
    }

    #[test]
    fn a_duplicate_key_is_refused_with_its_place() {
        let error = Json::parse("{\"a\": 1,\n \"\\u0061\": 2}").unwrap_err();
        assert!(error.contains("the key `a` occurs twice") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        Json::parse(&nested(MAX_NESTING)).unwrap();
        let error = Json::parse(&nested(MAX_NESTING + 1)).unwrap_err();
        assert!(error.contains("within each other"), "{error}");
        Json::parse(&nested(5000)).unwrap_err();
    }

    #[test]
    fn nothing_follows_the_value() {
        Json::parse("{} {}").unwrap_err();
        Json::parse("").unwrap_err();
        Json::parse("{\"a\": 1,}").unwrap_err();
    }
}
