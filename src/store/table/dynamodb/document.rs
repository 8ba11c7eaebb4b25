//! Lossless conversion between JSON documents and native DynamoDB attributes, which the AWS console can show.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Number, Value};

/// Smallest magnitude of a number in DynamoDB, inclusive.
const SMALLEST_NUMBER: f64 = 1e-130;
/// Largest magnitude of a number in DynamoDB, exclusive.
const LARGEST_NUMBER: f64 = 9.99e125;

/// Converts a JSON value to an attribute.
pub fn to_attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(truth) => AttributeValue::Bool(*truth),
        Value::Number(number) => number_to_attribute(number),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(values) => AttributeValue::L(values.iter().map(to_attribute).collect()),
        Value::Object(members) => AttributeValue::M(to_attributes(members)),
    }
}

/// Converts the members of a JSON object to attributes.
pub fn to_attributes(members: &Map<String, Value>) -> HashMap<String, AttributeValue> {
    members.iter().map(|(name, value)| (name.clone(), to_attribute(value))).collect()
}

/// Converts a number. DynamoDB turns 1.0 into 1 and supports neither -0.0 nor 1e300, so a number that DynamoDB would
/// change is stored as a string set of one element, which represents no other JSON value.
fn number_to_attribute(number: &Number) -> AttributeValue {
    let text = number.to_string();
    let is_exact = match number.as_f64() {
        _ if !number.is_f64() => true,
        Some(float) => float.fract() != 0.0 && (SMALLEST_NUMBER..LARGEST_NUMBER).contains(&float.abs()),
        None => false,
    };
    if is_exact { AttributeValue::N(text) } else { AttributeValue::Ss(vec![text]) }
}

/// Converts an attribute to a JSON value, or returns the reason why no document contains such an attribute.
pub fn to_value(attribute: &AttributeValue) -> Result<Value, String> {
    match attribute {
        AttributeValue::Null(_) => Ok(Value::Null),
        AttributeValue::Bool(truth) => Ok(Value::Bool(*truth)),
        AttributeValue::N(text) => number(text).map(Value::Number),
        AttributeValue::Ss(texts) => match texts.as_slice() {
            [text] => float(text).map(Value::Number),
            _ => Err(format!("a set of {} strings is not a number", texts.len())),
        },
        AttributeValue::S(text) => Ok(Value::String(text.clone())),
        AttributeValue::L(values) => values.iter().map(to_value).collect(),
        AttributeValue::M(members) => {
            let member = |(name, value): (&String, &AttributeValue)| Ok((name.clone(), to_value(value)?));
            members.iter().map(member).collect::<Result<_, String>>().map(Value::Object)
        }
        other => Err(format!("{} is not allowed in a document", type_of(other))),
    }
}

fn number(text: &str) -> Result<Number, String> {
    let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
    whole.or_else(|_| float(text))
}

fn float(text: &str) -> Result<Number, String> {
    let float = text.parse().ok().and_then(Number::from_f64);
    float.ok_or_else(|| format!("{text:?} is not a number"))
}

fn type_of(attribute: &AttributeValue) -> &'static str {
    match attribute {
        AttributeValue::B(_) => "a binary value",
        AttributeValue::Bs(_) => "a set of binary values",
        AttributeValue::Ns(_) => "a set of numbers",
        _ => "an attribute of an unknown type",
    }
}
