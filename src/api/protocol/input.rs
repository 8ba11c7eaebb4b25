//! From the tree of parameters to the input of an operation: a deserializer whose scalars are texts.

use std::collections::{BTreeMap, btree_map};
use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::{ApiError, Result, shown};
use crate::protocol::parameters::{Node, Parameters};

impl Parameters {
    /// Input of an operation. A parameter that the operation does not have is refused: a misspelled or unsupported limit
    /// must not be ignored.
    ///
    /// # Errors
    /// `ValidationError`.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(Fields(&self.fields)).map_err(|error| ApiError::validation(error.to_string()))
    }
}

/// A parameter has a wrong form.
#[derive(Debug)]
pub struct InputError {
    path: Vec<String>,
    reason: String,
}

impl InputError {
    fn below(mut self, part: impl Into<String>) -> Self {
        self.path.push(part.into());
        self
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        if path.is_empty() {
            return write!(f, "1 validation error detected: {}", self.reason);
        }
        write!(f, "1 validation error detected: Value at '{}' {}", path.join("."), self.reason)
    }
}

impl std::error::Error for InputError {}

impl de::Error for InputError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        InputError { path: Vec::new(), reason: format!("failed to satisfy constraint: {reason}") }
    }

    fn missing_field(field: &'static str) -> Self {
        let reason = "failed to satisfy constraint: Member must not be null".to_owned();
        InputError { path: vec![field.to_owned()], reason }
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        let reason = "is not a parameter that this operation has here".to_owned();
        InputError { path: vec![shown(field).to_string()], reason }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected.join(", ");
        let variant = shown(variant);
        let reason =
            format!("failed to satisfy constraint: Member must satisfy enum value set: [{expected}], not '{variant}'");
        InputError { path: Vec::new(), reason }
    }
}

impl Node {
    fn text(&self) -> std::result::Result<&str, InputError> {
        match self {
            Node::Text(text) => Ok(text),
            _ => Err(de::Error::custom("Member must be a text")),
        }
    }
}

/// Scalars that are parsed from their text.
macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, InputError> {
            let text = self.text()?;
            let value = text.parse::<$type>();
            visitor.$visit(value.map_err(|_| de::Error::custom(format!("Member must be {}", $what)))?)
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = InputError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, InputError> {
        match self {
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::List(_) => self.deserialize_seq(visitor),
            Node::Map(fields) => Fields(fields).deserialize_any(visitor),
        }
    }

    parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_u32 visit_u32 u32, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, InputError> {
        visitor.visit_some(self)
    }

    /// A list. Clients send an empty one as an empty text.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, InputError> {
        let elements = match self {
            Node::List(elements) => elements.as_slice(),
            Node::Text(text) if text.is_empty() => &[],
            _ => return Err(de::Error::custom("Member must be a list")),
        };
        visitor.visit_seq(SeqDeserializer::new(elements.iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> std::result::Result<V::Value, InputError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, InputError> {
        let text: StrDeserializer<'_, InputError> = self.text()?.into_deserializer();
        visitor.visit_enum(text)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map
        struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, InputError> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Fields of a map.
struct Fields<'a>(&'a BTreeMap<String, Node>);

impl<'de> Deserializer<'de> for Fields<'de> {
    type Error = InputError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, InputError> {
        visitor.visit_map(Entries { rest: self.0.iter(), entry: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entries<'a> {
    rest: btree_map::Iter<'a, String, Node>,
    entry: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = InputError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> std::result::Result<Option<K::Value>, InputError> {
        let Some((name, node)) = self.rest.next() else { return Ok(None) };
        self.entry = Some((name, node));
        let name: StrDeserializer<'de, InputError> = name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> std::result::Result<V::Value, InputError> {
        let Some((name, node)) = self.entry.take() else { unreachable!("a value follows its key") };
        seed.deserialize(node).map_err(|error| error.below(shown(name).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    enum Status {
        Active,
        Inactive,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct Tag {
        key: String,
        value: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct Input {
        name: String,
        status: Option<Status>,
        count: Option<u32>,
        force: Option<bool>,
        #[serde(default)]
        tags: Vec<Tag>,
    }

    fn input(form: &str) -> std::result::Result<Input, String> {
        let parameters = Parameters::parse("", form.as_bytes()).unwrap();
        parameters.input().map_err(|error| error.message().to_owned())
    }

    #[test]
    fn inputs_have_their_types() {
        let expected =
            Input { name: "7".into(), status: Some(Status::Inactive), count: Some(7), force: Some(true), tags: vec![] };
        assert_eq!(input("Name=7&Status=Inactive&Count=7&Force=true&Tags=").unwrap(), expected);
        let tags = input("Name=x&Tags.member.1.Key=k&Tags.member.1.Value=v").unwrap().tags;
        assert_eq!(tags, [Tag { key: "k".into(), value: "v".into() }]);
        assert_eq!(input("Name=").unwrap().name, "");
    }

    #[test]
    fn errors_name_the_parameter() {
        for (form, part) in [
            ("", "'Name' failed to satisfy constraint: Member must not be null"),
            ("Name=x&Count=many", "'Count' failed to satisfy constraint: Member must be a whole number"),
            ("Name=x&Count=-1", "'Count'"),
            ("Name=x&Force=yes", "'Force'"),
            ("Name=x&Status=active", "enum value set: [Active, Inactive], not 'active'"),
            ("Name=x&Status.member.1=Active", "'Status'"),
            ("Name.member.1=x", "'Name'"),
            ("Name=x&Tags=k", "'Tags' failed to satisfy constraint: Member must be a list"),
            ("Name=x&Tags.member.1.Key=k", "'Tags.Value'"),
            ("Name=x&Tags.member.1=k", "'Tags'"),
            ("Name=x&Boundary=b", "'Boundary' is not a parameter"),
        ] {
            let said = input(form).unwrap_err();
            assert!(said.contains(part), "{form}: {said}");
        }
    }
}
