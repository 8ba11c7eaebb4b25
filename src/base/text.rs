//! Serde through `Display` and `FromStr`: `#[serde(with = "gitferry_base::text")]`.

use serde::{Deserialize, Deserializer, Serializer};

/// Serializes a value as its text.
pub fn serialize<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serializes milliseconds as seconds, the unit of all durations in JSON.
pub fn millis_as_seconds<S: Serializer>(millis: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*millis as f64 / 1000.0)
}

/// Deserializes a value from its text.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
