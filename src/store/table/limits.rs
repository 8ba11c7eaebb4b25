//! What every table refuses, checked in one place so that all implementations refuse the same.
//!
//! The figures are DynamoDB's ("Quotas in Amazon DynamoDB"); an embedded table keeps them so that what
//! works on one works on the other.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Action, Key, MAX_DOCUMENT_DEPTH, MAX_GET_KEYS, MAX_ITEM_BYTES, MAX_PAGE_ITEMS, MAX_TRANSACTION_BYTES,
    MAX_TRANSACTION_ITEMS, Query, TableError, Write,
};

/// Most bytes of a partition key (DynamoDB's limit).
pub const MAX_PK_BYTES: usize = 2_048;
/// Most bytes of a sort key (DynamoDB's limit).
pub const MAX_SK_BYTES: usize = 1_024;
/// What an item weighs beside its keys, document and bytes: the names of its attributes, the revision, the expiry
/// (together at most 64), the format (at most 16), and what DynamoDB charges an update for its expression (at most 192).
/// DynamoDB counts all of it, so an embedded table must too.
pub const ITEM_OVERHEAD_BYTES: usize = 272;

/// The newest format of documents that this build reads, and the one that it writes, for all documents of a table.
/// Raised whenever an older build would misread one, or would lose a part of it by writing it again.
/// Format 1 had no versions.
pub const FORMAT: u64 = 2;
/// The member of a stored document that says its format. Callers of a table neither write nor see it.
const FORMAT_MEMBER: &str = "version";
/// Bytes of the format in the text of a document, `"version":2,`; part of [`ITEM_OVERHEAD_BYTES`].
const FORMAT_BYTES: usize = 12;

/// Says the format in the document of a put, and in its text.
fn stamp(table: &str, write: &mut Write, text: &mut Option<String>) -> Result<(), TableError> {
    let Action::Put { document: Value::Object(members), .. } = &mut write.action else { return Ok(()) };
    let separator = if members.is_empty() { "" } else { "," };
    if members.insert(FORMAT_MEMBER.into(), FORMAT.into()).is_some() {
        return Err(invalid(table, format!("the document of {} has a member `{FORMAT_MEMBER}`", write.key)));
    }
    if let Some(text) = text {
        text.insert_str(1, &format!("\"{FORMAT_MEMBER}\":{FORMAT}{separator}"));
    }
    Ok(())
}

/// What an item weighs whose stored document has a text of so many bytes, the format included.
pub fn stored_bytes(key: &Key, document: usize, bytes: usize) -> usize {
    item_bytes(key, document.saturating_sub(FORMAT_BYTES), bytes)
}

/// A stored document as its writer knew it, if this build reads its format.
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

/// What an item weighs against [`MAX_ITEM_BYTES`], [`MAX_TRANSACTION_BYTES`] and
/// [`super::MAX_PAGE_BYTES`]. `document` is the weight of the document: the length of its compact JSON text, or
/// what DynamoDB counts for it where that is more.
pub fn item_bytes(key: &Key, document: usize, bytes: usize) -> usize {
    [key.pk.len(), key.sk.len(), document, bytes].into_iter().fold(ITEM_OVERHEAD_BYTES, usize::saturating_add)
}

/// A write whose document says its format, and has been turned into text, once, while its size was checked.
#[derive(Debug)]
pub struct Checked {
    /// The write. The document of a put is left in place.
    pub write: Write,
    /// Compact JSON text of the document of a put.
    pub document: Option<String>,
}

/// Checks a transaction: number of items, keys, no key twice, documents, sizes.
pub fn check_transaction(table: &str, writes: Vec<Write>) -> Result<Vec<Checked>, TableError> {
    if writes.is_empty() || writes.len() > MAX_TRANSACTION_ITEMS {
        let reason = format!("a transaction of {} items; 1 to {MAX_TRANSACTION_ITEMS} are possible", writes.len());
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
        let reason = format!("a transaction of {total} bytes; at most {MAX_TRANSACTION_BYTES} are possible");
        return Err(invalid(table, reason));
    }
    Ok(checked)
}

/// The text of the document, if any, and the weight of the item.
fn check_item(table: &str, write: &Write) -> Result<(Option<String>, usize), TableError> {
    let Action::Put { document, bytes } = &write.action else {
        return Ok((None, item_bytes(&write.key, 0, 0)));
    };
    if !document.is_object() {
        return Err(invalid(table, format!("the document of {} is not a JSON object", write.key)));
    }
    let text = document_text(table, &write.key, document)?;
    let weight = attribute_bytes(document, 1)
        .map_err(|what| invalid(table, format!("the document of {} {what}", write.key)))?
        .max(text.len());
    let size = item_bytes(&write.key, weight, bytes.as_ref().map_or(0, |b| b.len()));
    if size > MAX_ITEM_BYTES {
        let reason = format!("the item {} has {size} bytes; at most {MAX_ITEM_BYTES} are possible", write.key);
        return Err(invalid(table, reason));
    }
    Ok((Some(text), size))
}

fn document_text(table: &str, key: &Key, document: &Value) -> Result<String, TableError> {
    serde_json::to_string(document).map_err(|e| invalid(table, format!("the document of {key} is not JSON: {e}")))
}

/// What DynamoDB counts for a value ("DynamoDB Item sizes and formats"), or what it does not take.
fn attribute_bytes(value: &Value, depth: usize) -> Result<usize, &'static str> {
    const CONTAINER_BYTES: usize = 3;
    const ELEMENT_BYTES: usize = 1;
    if depth > MAX_DOCUMENT_DEPTH {
        return Err("is nested too deep");
    }
    let inside = |value| attribute_bytes(value, depth + 1).map(|bytes| bytes.saturating_add(ELEMENT_BYTES));
    match value {
        Value::Null | Value::Bool(_) => Ok(1),
        // One byte for two digits, and two for sign and exponent; never more than a float takes as text.
        Value::Number(number) if number.is_f64() => Ok(number.to_string().len().max(3)),
        Value::Number(number) => Ok(number.to_string().len() / 2 + 2),
        Value::String(text) => Ok(text.len()),
        Value::Array(values) => values.iter().try_fold(CONTAINER_BYTES, |sum, value| Ok(sum + inside(value)?)),
        Value::Object(members) => members.iter().try_fold(CONTAINER_BYTES, |sum, (name, value)| match name.len() {
            0 => Err("has a member without a name"),
            bytes => Ok(sum + bytes + inside(value)?),
        }),
    }
}

/// Checks the keys of a batched read. The same key may come twice.
pub fn check_get(table: &str, keys: &[Key]) -> Result<(), TableError> {
    if keys.len() > MAX_GET_KEYS {
        let reason = format!("a read of {} items; at most {MAX_GET_KEYS} are possible", keys.len());
        return Err(invalid(table, reason));
    }
    keys.iter().try_for_each(|key| check_key(table, key))
}

/// Checks a query and returns how many items its page may hold.
pub fn check_query(table: &str, query: &Query) -> Result<usize, TableError> {
    if query.pk.is_empty() || query.pk.len() > MAX_PK_BYTES {
        let reason =
            format!("a query of a partition key of {} bytes; 1 to {MAX_PK_BYTES} are possible", query.pk.len());
        return Err(invalid(table, reason));
    }
    let bounds = [Some(&query.from), Some(&query.to), query.after.as_ref()];
    if let Some(bound) = bounds.into_iter().flatten().find(|bound| bound.len() > MAX_SK_BYTES) {
        let reason = format!("a query up to a sort key of {} bytes; at most {MAX_SK_BYTES} are possible", bound.len());
        return Err(invalid(table, reason));
    }
    if query.limit == 0 {
        return Err(invalid(table, format!("a query of {} with a limit of 0 items", query.pk)));
    }
    Ok(query.limit.min(MAX_PAGE_ITEMS))
}

/// Keys are neither empty nor too long, and hold no [`char::MAX`], which ends the range of
/// [`Query::prefix`] (Unicode reserves it as a non-character).
fn check_key(table: &str, key: &Key) -> Result<(), TableError> {
    let parts = [("partition key", &key.pk, MAX_PK_BYTES), ("sort key", &key.sk, MAX_SK_BYTES)];
    for (what, text, most) in parts {
        if text.is_empty() || text.len() > most {
            let reason = format!("a {what} of {} bytes; 1 to {most} are possible", text.len());
            return Err(invalid(table, reason));
        }
        if text.contains(char::MAX) {
            return Err(invalid(table, format!("the {what} {text:?} holds U+10FFFF")));
        }
    }
    Ok(())
}

fn invalid(table: &str, reason: String) -> TableError {
    TableError::Invalid { table: table.to_owned(), reason }
}
