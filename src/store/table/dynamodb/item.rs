//! Conversion of items and writes to DynamoDB's items and transaction actions.
//!
//! An item has the attributes `pk`, `sk`, `revision`, `document` (a map), and optionally `bytes` and `expires`.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update};
use bytes::Bytes;
use serde_json::Value;

use super::document::{to_attribute, to_value};
use crate::table::{Action, Condition, EXPIRES_MEMBER, Item, Key, MAX_REVISION, Write, next_revision};

/// Attributes by name.
pub type Attributes = HashMap<String, AttributeValue>;

/// Converts a key to the attributes of the primary key.
pub fn key_attributes(key: &Key) -> Attributes {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([("pk".to_owned(), text(&key.pk)), ("sk".to_owned(), text(&key.sk))])
}

/// Lists the optional attributes; `None` for one that the item lacks.
fn optional_attributes(document: &Value, bytes: Option<&Bytes>) -> [(&'static str, Option<AttributeValue>); 2] {
    let expires = document.get(EXPIRES_MEMBER).and_then(Value::as_u64);
    [
        ("bytes", bytes.map(|bytes| AttributeValue::B(Blob::new(bytes.to_vec())))),
        ("expires", expires.map(|seconds| AttributeValue::N(seconds.to_string()))),
    ]
}

/// Expressions with their placeholders. Every attribute name is a placeholder, as some are reserved words.
#[derive(Debug, Default)]
pub struct Expression {
    /// Condition expression.
    pub condition: Option<String>,
    /// Update expression.
    pub update: Option<String>,
    /// Attribute names by placeholder.
    pub names: Option<HashMap<String, String>>,
    /// Attribute values by placeholder.
    pub values: Option<Attributes>,
}

impl Expression {
    fn name(&mut self, attribute: &str) -> String {
        let alias = format!("#{attribute}");
        self.names.get_or_insert_default().insert(alias.clone(), attribute.to_owned());
        alias
    }

    fn value(&mut self, name: &str, value: AttributeValue) -> String {
        let alias = format!(":{name}");
        self.values.get_or_insert_default().insert(alias.clone(), value);
        alias
    }

    fn condition(condition: Condition) -> Expression {
        let mut expression = Expression::default();
        expression.condition = match condition {
            Condition::Any => None,
            Condition::Absent => Some(format!("attribute_not_exists({})", expression.name("pk"))),
            Condition::Present => Some(format!("attribute_exists({})", expression.name("pk"))),
            Condition::Revision(revision) => {
                let wanted = expression.value("wanted", AttributeValue::N(revision.to_string()));
                Some(format!("{} = {wanted}", expression.name("revision")))
            }
        };
        expression
    }

    /// Builds a put as an update that increments the stored revision, for conditions that do not name one.
    pub fn update(condition: Condition, document: &Value, bytes: Option<&Bytes>) -> Expression {
        let mut expression = Expression::condition(condition);
        let revision = expression.name("revision");
        let whole = expression.name("document");
        let zero = expression.value("zero", AttributeValue::N("0".into()));
        let one = expression.value("one", AttributeValue::N("1".into()));
        let document_value = expression.value("document", to_attribute(document));
        let mut set = vec![
            format!("{revision} = if_not_exists({revision}, {zero}) + {one}"),
            format!("{whole} = {document_value}"),
        ];
        let mut remove = Vec::new();
        for (attribute, value) in optional_attributes(document, bytes) {
            let name = expression.name(attribute);
            match value {
                Some(value) => set.push(format!("{name} = {}", expression.value(attribute, value))),
                None => remove.push(name),
            }
        }
        let mut update = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            update.push_str(&format!(" REMOVE {}", remove.join(", ")));
        }
        expression.update = Some(update);
        expression
    }
}

/// Converts a write to an action of a transaction.
pub fn action(table: &str, write: &Write) -> Result<TransactWriteItem, BuildError> {
    let key = || Some(key_attributes(&write.key));
    let item = TransactWriteItem::builder();
    Ok(match (&write.action, revision_after(write)) {
        (Action::Put { document, bytes }, Some(revision)) => {
            let Expression { condition, names, values, .. } = Expression::condition(write.condition);
            let put = Put::builder().table_name(table).set_item(Some(new_item(&write.key, revision, document, bytes)));
            let put = put.set_condition_expression(condition).set_expression_attribute_names(names);
            item.put(put.set_expression_attribute_values(values).build()?).build()
        }
        (Action::Put { document, bytes }, None) => {
            let expression = Expression::update(write.condition, document, bytes.as_ref());
            let Expression { condition, update, names, values } = expression;
            let change = Update::builder().table_name(table).set_key(key()).set_update_expression(update);
            let change = change.set_condition_expression(condition).set_expression_attribute_names(names);
            item.update(change.set_expression_attribute_values(values).build()?).build()
        }
        (Action::Delete, _) => {
            let Expression { condition, names, values, .. } = Expression::condition(write.condition);
            let delete = Delete::builder().table_name(table).set_key(key()).set_condition_expression(condition);
            let delete = delete.set_expression_attribute_names(names).set_expression_attribute_values(values);
            item.delete(delete.build()?).build()
        }
        (Action::Check, _) => {
            let Expression { condition, names, values, .. } = Expression::condition(write.condition);
            let check = ConditionCheck::builder().table_name(table).set_key(key()).set_condition_expression(condition);
            let check = check.set_expression_attribute_names(names).set_expression_attribute_values(values);
            item.condition_check(check.build()?).build()
        }
    })
}

/// Returns the revision after a put, if its condition determines it. Deletes and checks leave none, and may name a
/// revision that no item reaches.
fn revision_after(write: &Write) -> Option<u64> {
    match (&write.action, write.condition) {
        (Action::Put { .. }, Condition::Absent) => Some(1),
        (Action::Put { .. }, Condition::Revision(revision)) => Some(next_revision(revision)),
        _ => None,
    }
}

fn new_item(key: &Key, revision: u64, document: &Value, bytes: &Option<Bytes>) -> Attributes {
    let mut item = key_attributes(key);
    item.insert("revision".into(), AttributeValue::N(revision.to_string()));
    item.insert("document".into(), to_attribute(document));
    for (name, value) in optional_attributes(document, bytes.as_ref()) {
        item.extend(value.map(|value| (name.to_owned(), value)));
    }
    item
}

/// Converts stored attributes to an item, or returns the reason why they are damaged.
pub fn read_item(mut attributes: Attributes) -> Result<Item, String> {
    let mut text = |name: &str| match attributes.remove(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(format!("an item has no string attribute `{name}`")),
    };
    let key = Key { pk: text("pk")?, sk: text("sk")? };
    let wrong = |what: &str| format!("the item {key}: {what}");
    let revision = match attributes.get("revision") {
        Some(AttributeValue::N(text)) => text.parse().ok().filter(|revision| (1..=MAX_REVISION).contains(revision)),
        _ => None,
    };
    let revision = revision.ok_or_else(|| wrong("has no valid revision"))?;
    let document = match attributes.get("document") {
        Some(document @ AttributeValue::M(_)) => to_value(document).map_err(|what| wrong(&what))?,
        _ => return Err(wrong("has no document")),
    };
    let bytes = match attributes.remove("bytes") {
        None => None,
        Some(AttributeValue::B(blob)) => Some(Bytes::from(blob.into_inner())),
        Some(_) => return Err(wrong("the attribute `bytes` is not binary")),
    };
    Ok(Item { key, revision, document, bytes })
}
