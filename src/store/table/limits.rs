//! Validation shared by all tables, so that every implementation refuses the same requests.
//!
//! The limits are DynamoDB's ("Quotas in Amazon DynamoDB"). The embedded table enforces them too, so that a request
//! that works on one table works on the other.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Action, Condition, Key, MAX_DOCUMENT_DEPTH, MAX_GET_KEYS, MAX_ITEM_BYTES, MAX_PAGE_ITEMS, MAX_REVISION,
    MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ITEMS, Query, TableError, Write,
};

/// Most bytes of a partition key (DynamoDB's limit).
pub const MAX_PK_BYTES: usize = 2_048;
/// Most bytes of a sort key (DynamoDB's limit).
pub const MAX_SK_BYTES: usize = 1_024;
/// Bytes of an item besides its keys, document and raw bytes: attribute names, revision and expiry (at most 64), format
/// (at most 16), and the update expression, which DynamoDB counts (at most 192). The embedded table counts the same.
pub const ITEM_OVERHEAD_BYTES: usize = 272;

/// Newest format of documents that this build reads. Raised whenever an older build would misread a document or lose a
/// part of it by rewriting it. Documents of format 1 carry no format.
pub const FORMAT: u64 = 3;
/// Format of documents that lack everything that is newer: builds of this format go on with all of them.
const PLAIN_FORMAT: u64 = 2;
/// Members that a build of [`PLAIN_FORMAT`] would lose by rewriting the document: description and tags in a head.
const NEWER_MEMBERS: [&str; 1] = ["metadata"];
/// Member of a stored document with its format. Tables add and remove the member; callers never see it.
const FORMAT_MEMBER: &str = "version";
/// Length of the format in a document's text, `"version":2,`. Counted in [`ITEM_OVERHEAD_BYTES`].
const FORMAT_BYTES: usize = 12;
const _: () = assert!(FORMAT < 10, "FORMAT_BYTES counts one digit");

/// Adds the format to the document of a put and to the document's text.
fn stamp(table: &str, write: &mut Write, text: &mut Option<String>) -> Result<(), TableError> {
    let Action::Put { document: Value::Object(members), .. } = &mut write.action else { return Ok(()) };
    let separator = if members.is_empty() { "" } else { "," };
    let is_newer = NEWER_MEMBERS.iter().any(|member| members.contains_key(*member));
    let format = if is_newer { FORMAT } else { PLAIN_FORMAT };
    if members.insert(FORMAT_MEMBER.into(), format.into()).is_some() {
        return Err(invalid(table, format!("the document of {} has a member `{FORMAT_MEMBER}`", write.key)));
    }
    if let Some(text) = text {
        debug_assert!(text.starts_with('{'), "the text of an object begins with its brace");
        text.insert_str(1, &format!("\"{FORMAT_MEMBER}\":{format}{separator}"));
    }
    Ok(())
}

/// Size of an item whose stored document, format included, has a text of `document` bytes.
pub fn stored_bytes(key: &Key, document: usize, bytes: usize) -> usize {
    item_bytes(key, document.saturating_sub(FORMAT_BYTES), bytes)
}

/// Removes the format from a stored document. Fails with [`TableError::Newer`] if this build cannot read the format.
pub fn read_document(table: &str, key: &Key, mut document: Value) -> Result<Value, TableError> {
    let format = document.as_object_mut().and_then(|members| members.remove(FORMAT_MEMBER));
    match format.map(|format| format.as_u64()) {
        None => Ok(document),
        Some(Some(format)) if format <= FORMAT => Ok(document),
        Some(Some(format)) => Err(TableError::Newer { table: table.into(), key: key.clone(), format }),
        Some(None) => {
            let reason = format!("the format of the item {key} is not a number");
            Err(TableError::Corrupt { table: table.into(), reason })
        }
    }
}

/// Size of an item that counts against [`MAX_ITEM_BYTES`], [`MAX_TRANSACTION_BYTES`] and [`super::MAX_PAGE_BYTES`].
/// `document` is the larger of the document's compact JSON text and its size in DynamoDB.
pub fn item_bytes(key: &Key, document: usize, bytes: usize) -> usize {
    [key.pk.len(), key.sk.len(), document, bytes].into_iter().fold(ITEM_OVERHEAD_BYTES, usize::saturating_add)
}

/// A validated write whose document carries its format.
#[derive(Debug)]
pub struct Checked {
    /// The write, with the document of a put in place.
    pub write: Write,
    /// Compact JSON text of the document of a put.
    pub document: Option<String>,
}

/// Validates a transaction: number of items, keys, duplicate keys, documents and sizes.
pub fn check_transaction(table: &str, writes: Vec<Write>) -> Result<Vec<Checked>, TableError> {
    if writes.is_empty() || writes.len() > MAX_TRANSACTION_ITEMS {
        let reason = format!("a transaction has {} items; 1 to {MAX_TRANSACTION_ITEMS} are allowed", writes.len());
        return Err(invalid(table, reason));
    }
    let mut seen = HashSet::with_capacity(writes.len());
    for write in &writes {
        check_key(table, &write.key)?;
        if !seen.insert(&write.key) {
            return Err(invalid(table, format!("a transaction names {} twice", write.key)));
        }
    }
    let mut total = 0usize;
    let mut checked = Vec::with_capacity(writes.len());
    for mut write in writes {
        let (mut document, size) = check_item(table, &write)?;
        stamp(table, &mut write, &mut document)?;
        total = total.saturating_add(size);
        checked.push(Checked { write, document });
    }
    if total > MAX_TRANSACTION_BYTES {
        let reason = format!("a transaction has {total} bytes; at most {MAX_TRANSACTION_BYTES} are allowed");
        return Err(invalid(table, reason));
    }
    Ok(checked)
}

/// Validates one item. Returns the text of the document, if any, and the size of the item.
fn check_item(table: &str, write: &Write) -> Result<(Option<String>, usize), TableError> {
    let Action::Put { document, bytes } = &write.action else {
        return Ok((None, item_bytes(&write.key, 0, 0)));
    };
    // The revision after the put is read again, and has a successor.
    if matches!(write.condition, Condition::Revision(revision) if revision >= MAX_REVISION) {
        return Err(invalid(table, format!("a put replaces {} at a revision that no item reaches", write.key)));
    }
    if !document.is_object() {
        return Err(invalid(table, format!("the document of {} is not a JSON object", write.key)));
    }
    let text = document_text(table, &write.key, document)?;
    let weight = attribute_bytes(document, 1)
        .map_err(|what| invalid(table, format!("the document of {} {what}", write.key)))?
        .max(text.len());
    let size = item_bytes(&write.key, weight, bytes.as_ref().map_or(0, |b| b.len()));
    if size > MAX_ITEM_BYTES {
        let reason = format!("the item {} has {size} bytes; at most {MAX_ITEM_BYTES} are allowed", write.key);
        return Err(invalid(table, reason));
    }
    Ok((Some(text), size))
}

fn document_text(table: &str, key: &Key, document: &Value) -> Result<String, TableError> {
    serde_json::to_string(document).map_err(|e| invalid(table, format!("the document of {key} is not JSON: {e}")))
}

/// Size of a value in DynamoDB ("DynamoDB Item sizes and formats"), or the reason why DynamoDB refuses the value.
fn attribute_bytes(value: &Value, depth: usize) -> Result<usize, &'static str> {
    const CONTAINER_BYTES: usize = 3;
    const ELEMENT_BYTES: usize = 1;
    if depth > MAX_DOCUMENT_DEPTH {
        return Err("is nested too deep");
    }
    let inside = |value| attribute_bytes(value, depth + 1).map(|bytes| bytes.saturating_add(ELEMENT_BYTES));
    match value {
        Value::Null | Value::Bool(_) => Ok(1),
        // One byte per two digits, and two for sign and exponent; the text of a float is an upper bound.
        Value::Number(number) if number.is_f64() => Ok(number.to_string().len().max(3)),
        Value::Number(number) => Ok(number.to_string().len() / 2 + 2),
        Value::String(text) => Ok(text.len()),
        Value::Array(values) => values.iter().try_fold(CONTAINER_BYTES, |sum, value| Ok(sum + inside(value)?)),
        Value::Object(members) => members.iter().try_fold(CONTAINER_BYTES, |sum, (name, value)| match name.len() {
            0 => Err("has a member with an empty name"),
            bytes => Ok(sum + bytes + inside(value)?),
        }),
    }
}

/// Validates the keys of a batched read. A key may occur twice.
pub fn check_get(table: &str, keys: &[Key]) -> Result<(), TableError> {
    if keys.len() > MAX_GET_KEYS {
        let reason = format!("a batched read has {} keys; at most {MAX_GET_KEYS} are allowed", keys.len());
        return Err(invalid(table, reason));
    }
    keys.iter().try_for_each(|key| check_key(table, key))
}

/// Validates a query and returns the most items of its page.
pub fn check_query(table: &str, query: &Query) -> Result<usize, TableError> {
    if query.pk.is_empty() || query.pk.len() > MAX_PK_BYTES {
        let reason =
            format!("the partition key of a query has {} bytes; 1 to {MAX_PK_BYTES} are allowed", query.pk.len());
        return Err(invalid(table, reason));
    }
    let bounds = [Some(&query.from), Some(&query.to), query.after.as_ref()];
    if let Some(bound) = bounds.into_iter().flatten().find(|bound| bound.len() > MAX_SK_BYTES) {
        let reason = format!("a sort key of a query has {} bytes; at most {MAX_SK_BYTES} are allowed", bound.len());
        return Err(invalid(table, reason));
    }
    if query.limit == 0 {
        return Err(invalid(table, format!("the query of {} has a limit of 0 items", query.pk)));
    }
    Ok(query.limit.min(MAX_PAGE_ITEMS))
}

/// Validates the length of a key, and the absence of [`char::MAX`], which ends the range of [`Query::prefix`] (a
/// Unicode noncharacter).
fn check_key(table: &str, key: &Key) -> Result<(), TableError> {
    let parts = [("partition key", &key.pk, MAX_PK_BYTES), ("sort key", &key.sk, MAX_SK_BYTES)];
    for (what, text, most) in parts {
        if text.is_empty() || text.len() > most {
            let reason = format!("a {what} has {} bytes; 1 to {most} are allowed", text.len());
            return Err(invalid(table, reason));
        }
        if text.contains(char::MAX) {
            return Err(invalid(table, format!("the {what} {text:?} contains U+10FFFF")));
        }
    }
    Ok(())
}

fn invalid(table: &str, reason: String) -> TableError {
    TableError::Invalid { table: table.to_owned(), reason }
}
