//! The table: a key-value space with conditional, atomic, multi-item writes.
//!
//! The model is DynamoDB's, so that the embedded table makes the same guarantees: an item has a partition key `pk`, a
//! sort key `sk`, a `revision` for compare-and-set, a JSON document and optional raw bytes. Every implementation passes
//! the suite in `tests/stores/conformance`.

pub mod dynamodb;
pub mod lease;
pub mod limits;
pub mod sqlite;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

pub use dynamodb::DynamoTable;
use gitferry_base::Kind;
pub use sqlite::SqliteTable;

/// Most items of one transaction (DynamoDB's limit).
pub const MAX_TRANSACTION_ITEMS: usize = 100;
/// Most bytes of one transaction (DynamoDB's limit).
pub const MAX_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of one item: keys, document and raw bytes together (DynamoDB's limit).
pub const MAX_ITEM_BYTES: usize = 400 * 1024;
/// Most items of one page of a query.
pub const MAX_PAGE_ITEMS: usize = 1_000;
/// Most bytes of one page of a query (DynamoDB's limit).
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Most keys of one batched read (DynamoDB's limit).
pub const MAX_GET_KEYS: usize = 100;

/// Deepest nesting of a document, itself included (DynamoDB's limit is 32 with the item around it).
pub const MAX_DOCUMENT_DEPTH: usize = 31;
/// Name of a document member with the expiry of the item in Unix seconds. A table may remove an expired item at any
/// later time or never; DynamoDB removes it within days if time to live is enabled on the attribute.
pub const EXPIRES_MEMBER: &str = "expires";

/// Highest revision of an item that a table returns or names in a write: its successor fits into the signed 64-bit
/// integers of SQLite. Writes count up from 1, so a higher one is damage.
pub const MAX_REVISION: u64 = i64::MAX as u64 - 1;

/// Returns the revision of an item after a put under [`Condition::Revision`].
///
/// # Panics
/// If `revision` is above [`MAX_REVISION`]: tables neither return such revisions nor write over them.
pub fn next_revision(revision: u64) -> u64 {
    assert!(
        revision <= MAX_REVISION,
        "the revision {revision} comes from a table, which refuses those above {MAX_REVISION}"
    );
    revision + 1
}

/// Primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Partition key.
    pub pk: String,
    /// Sort key; items of a partition are ordered by its bytes.
    pub sk: String,
}

impl Key {
    /// Joins a partition key and a sort key.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Key { pk: pk.into(), sk: sk.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pk, self.sk)
    }
}

/// An item as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Primary key.
    pub key: Key,
    /// 1 after creation, incremented by every write. An item that is deleted and created again starts at 1.
    pub revision: u64,
    /// The document: a JSON object.
    pub document: Value,
    /// Raw bytes stored next to the document.
    pub bytes: Option<Bytes>,
}

/// Condition on an item, without which its transaction fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No condition.
    Any,
    /// The item does not exist.
    Absent,
    /// The item exists.
    Present,
    /// The item exists with exactly this revision.
    Revision(u64),
}

/// Change of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create or replace the item.
    Put {
        /// The document: a JSON object.
        document: Value,
        /// Raw bytes stored next to the document.
        bytes: Option<Bytes>,
    },
    /// Remove the item. Removing an absent item succeeds unless the condition fails.
    Delete,
    /// Only check the condition.
    Check,
}

/// Part of a transaction that concerns one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Primary key of the item.
    pub key: Key,
    /// Condition on the item before the transaction.
    pub condition: Condition,
    /// Change to the item.
    pub action: Action,
}

impl Write {
    /// Creates or replaces an item.
    pub fn put(key: Key, condition: Condition, document: Value) -> Self {
        Write { key, condition, action: Action::Put { document, bytes: None } }
    }

    /// Creates or replaces an item with raw bytes.
    pub fn put_bytes(key: Key, condition: Condition, document: Value, bytes: Bytes) -> Self {
        Write { key, condition, action: Action::Put { document, bytes: Some(bytes) } }
    }

    /// Removes an item.
    pub fn delete(key: Key, condition: Condition) -> Self {
        Write { key, condition, action: Action::Delete }
    }

    /// Checks a condition without a change.
    pub fn check(key: Key, condition: Condition) -> Self {
        Write { key, condition, action: Action::Check }
    }
}

/// A range of sort keys within one partition, read page by page.
#[derive(Clone, Debug)]
pub struct Query {
    /// Partition key.
    pub pk: String,
    /// First sort key, inclusive.
    pub from: String,
    /// Last sort key, inclusive.
    pub to: String,
    /// True to return the largest sort keys first.
    pub descending: bool,
    /// Most items of the page; values above [`MAX_PAGE_ITEMS`] are capped.
    pub limit: usize,
    /// Sort key to continue after: [`Page::next`] of the previous page.
    pub after: Option<String>,
}

impl Query {
    /// Selects the sort keys that start with `prefix`, ascending.
    pub fn prefix(pk: impl Into<String>, prefix: &str) -> Self {
        Query::range(pk, prefix, format!("{prefix}{}", char::MAX))
    }

    /// Selects the sort keys between `from` and `to`, both inclusive, ascending.
    pub fn range(pk: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Query { pk: pk.into(), from: from.into(), to: to.into(), descending: false, limit: MAX_PAGE_ITEMS, after: None }
    }
}

/// One page of a query.
#[derive(Debug, Default)]
pub struct Page {
    /// Rows in the order of the query. An unreadable row does not affect the others.
    pub rows: Vec<Result<Item, BadRow>>,
    /// Value of [`Query::after`] for the next page; `None` on the last page.
    pub next: Option<String>,
}

/// An existing row that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BadRow {
    /// Key of the row.
    pub key: Key,
    /// [`TableError::Corrupt`] or [`TableError::Newer`].
    pub error: TableError,
}

impl Page {
    /// Returns all items, for callers that need every row.
    ///
    /// # Errors
    /// Returns the error of the first unreadable row.
    pub fn whole(self) -> Result<Vec<Item>, TableError> {
        self.rows.into_iter().map(|row| row.map_err(|bad| bad.error)).collect()
    }

    /// Returns the readable items, and logs the key of each unreadable row.
    pub fn readable(self) -> impl Iterator<Item = Item> {
        self.rows.into_iter().filter_map(|row| {
            row.inspect_err(|bad| tracing::error!(error = %bad, key = %bad.key, "skipped an unreadable row")).ok()
        })
    }

    /// Returns the keys of all rows, unreadable ones included.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.rows.iter().map(|row| match row {
            Ok(item) => &item.key,
            Err(bad) => &bad.key,
        })
    }
}

/// Error of a table operation. A failed transaction has changed nothing, except that it may have been committed after
/// [`TableError::Unavailable`] with `ambiguous`.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// At least one condition did not hold.
    #[error("the table {table} refused a transaction: the condition on {} did not hold", failed_keys(.keys, .failed))]
    ConditionFailed {
        /// Name of the table.
        table: String,
        /// Keys of the writes, in order.
        keys: Vec<Key>,
        /// For each write, true if its condition failed.
        failed: Vec<bool>,
    },
    /// The request exceeds a limit, names a key twice, or is malformed: a bug of the caller.
    #[error("invalid request for the table {table}: {reason}")]
    Invalid {
        /// Name of the table.
        table: String,
        /// Rule that the request violates.
        reason: String,
    },
    /// The table cannot be reached, is busy, or failed temporarily. Trying again may succeed.
    #[error("the table {table} is not available: {reason}")]
    Unavailable {
        /// Name of the table.
        table: String,
        /// Message of the service or of SQLite.
        reason: String,
        /// True if the write may have been committed: the caller must read back before it decides.
        ambiguous: bool,
    },
    /// The table needs an operator: missing table, full disk, permissions, credentials.
    #[error("the table {table} cannot be used: {reason}")]
    Environment {
        /// Name of the table.
        table: String,
        /// Cause and remedy.
        reason: String,
    },
    /// A newer gitferry wrote the item, and this build would misread it.
    #[error(
        "the item {key} of table {table} was written by a newer gitferry (format {format}, this build reads up to {}): \
         upgrade gitferry on this machine",
        limits::FORMAT
    )]
    Newer {
        /// Name of the table.
        table: String,
        /// Key of the item.
        key: Key,
        /// Format of the item's document.
        format: u64,
    },
    /// The table returned an item or answer that no gitferry writes.
    #[error("the table {table} is damaged: {reason}")]
    Corrupt {
        /// Name of the table.
        table: String,
        /// Item and violation.
        reason: String,
    },
}

fn failed_keys(keys: &[Key], failed: &[bool]) -> String {
    let names: Vec<String> = keys.iter().zip(failed).filter(|(_, f)| **f).map(|(k, _)| k.to_string()).collect();
    names.join(", ")
}

impl TableError {
    /// Classifies the error by what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            TableError::ConditionFailed { .. } => Kind::Conflict,
            TableError::Invalid { .. } => Kind::Internal,
            TableError::Unavailable { .. } => Kind::Transient,
            TableError::Environment { .. } => Kind::Environment,
            TableError::Newer { .. } => Kind::Refused,
            TableError::Corrupt { .. } => Kind::Corrupt,
        }
    }
}

/// A key-value space. All reads are strongly consistent.
#[async_trait]
pub trait Table: fmt::Debug + Send + Sync {
    /// Name of the table in errors and logs.
    fn name(&self) -> &str;

    /// Reads up to [`MAX_GET_KEYS`] items from one snapshot, in the order of `keys`; `None` for an absent item. A key
    /// may occur twice. DynamoDB returns at most [`MAX_TRANSACTION_BYTES`] per call: read large items one by one.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError>;

    /// Reads one item.
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        Ok(self.get_many(std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// Reads one page of a range. An unreadable row is an entry of the page, not an error.
    async fn query(&self, query: &Query) -> Result<Page, TableError>;

    /// Applies all writes or none, durably. At most [`MAX_TRANSACTION_ITEMS`] writes, each with a different key.
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError>;
}
