//! The table: one key-value space with conditional, atomic, multi-item writes.
//!
//! It is shaped after DynamoDB so that an embedded table and the real one keep the same promises:
//! a partition key `pk`, a sort key `sk`, a `revision` for compare-and-set, a JSON document and, beside
//! it, optional raw bytes. `tests/stores/conformance` holds the one suite that every implementation passes.

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

/// Most items that one transaction may hold (DynamoDB's limit).
pub const MAX_TRANSACTION_ITEMS: usize = 100;
/// Most bytes that one transaction may hold (DynamoDB's limit).
pub const MAX_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of one item: keys, document and raw bytes together (DynamoDB's limit).
pub const MAX_ITEM_BYTES: usize = 400 * 1024;
/// Most items that one page of a query returns.
pub const MAX_PAGE_ITEMS: usize = 1_000;
/// Most bytes that one page of a query returns (DynamoDB's limit).
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Most keys of one batched read (DynamoDB's limit).
pub const MAX_GET_KEYS: usize = 100;

/// Deepest nesting of a document, itself included (DynamoDB's limit is 32 with the item around it).
pub const MAX_DOCUMENT_DEPTH: usize = 31;
/// A member of this name in a document, in seconds since 1970, says from when on nobody needs the item: a table
/// may remove it some time after (DynamoDB does, within days, where it is told to), or never.
pub const EXPIRES_MEMBER: &str = "expires";

/// Where an item lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Partition key.
    pub pk: String,
    /// Sort key; items of a partition are ordered by its bytes.
    pub sk: String,
}

impl Key {
    /// A key from its two parts.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Key { pk: pk.into(), sk: sk.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pk, self.sk)
    }
}

/// What is stored at a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// 1 when created, one more with every write. Deleting and creating again starts at 1 again.
    pub revision: u64,
    /// The document: a JSON object.
    pub document: Value,
    /// Raw bytes kept beside the document.
    pub bytes: Option<Bytes>,
}

/// What must hold of an item for its transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Anything goes.
    Any,
    /// There is no such item.
    Absent,
    /// There is such an item.
    Present,
    /// The item is there with exactly this revision.
    Revision(u64),
}

/// What to do with one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create or replace it.
    Put {
        /// The document: a JSON object.
        document: Value,
        /// Raw bytes kept beside the document.
        bytes: Option<Bytes>,
    },
    /// Remove it; removing what is not there is no error (unless the condition says so).
    Delete,
    /// Only check the condition.
    Check,
}

/// One item's part in a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The item.
    pub key: Key,
    /// What must hold before.
    pub condition: Condition,
    /// What to do.
    pub action: Action,
}

impl Write {
    /// Create or replace an item.
    pub fn put(key: Key, condition: Condition, document: Value) -> Self {
        Write { key, condition, action: Action::Put { document, bytes: None } }
    }

    /// Create or replace an item that carries raw bytes.
    pub fn put_bytes(key: Key, condition: Condition, document: Value, bytes: Bytes) -> Self {
        Write { key, condition, action: Action::Put { document, bytes: Some(bytes) } }
    }

    /// Remove an item.
    pub fn delete(key: Key, condition: Condition) -> Self {
        Write { key, condition, action: Action::Delete }
    }

    /// Only check a condition.
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
    /// Newest (largest) first.
    pub descending: bool,
    /// Most items to return in this page; at most [`MAX_PAGE_ITEMS`].
    pub limit: usize,
    /// Continue behind this sort key (the `next` of the page before).
    pub after: Option<String>,
}

impl Query {
    /// All sort keys that start with `prefix`, ascending.
    pub fn prefix(pk: impl Into<String>, prefix: &str) -> Self {
        Query::range(pk, prefix, format!("{prefix}{}", char::MAX))
    }

    /// All sort keys between two, both inclusive, ascending.
    pub fn range(pk: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Query { pk: pk.into(), from: from.into(), to: to.into(), descending: false, limit: MAX_PAGE_ITEMS, after: None }
    }
}

/// One page of a query.
#[derive(Debug, Default)]
pub struct Page {
    /// The rows, in order. One that cannot be read takes nothing from the others.
    pub rows: Vec<Result<Item, BadRow>>,
    /// Pass as [`Query::after`] to read on; `None` at the end.
    pub next: Option<String>,
}

/// A row that is there and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BadRow {
    /// Its key.
    pub key: Key,
    /// [`TableError::Corrupt`] or [`TableError::Newer`].
    pub error: TableError,
}

impl Page {
    /// All items, for a caller to which a part of them is worth nothing.
    ///
    /// # Errors
    /// That of the first row that cannot be read.
    pub fn whole(self) -> Result<Vec<Item>, TableError> {
        self.rows.into_iter().map(|row| row.map_err(|bad| bad.error)).collect()
    }

    /// The items that can be read; the log names the others.
    pub fn readable(self) -> impl Iterator<Item = Item> {
        self.rows.into_iter().filter_map(|row| {
            row.inspect_err(|bad| tracing::error!(error = %bad, key = %bad.key, "a row is passed over")).ok()
        })
    }

    /// The keys of all rows, those that cannot be read included.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.rows.iter().map(|row| match row {
            Ok(item) => &item.key,
            Err(bad) => &bad.key,
        })
    }
}

/// Why a table operation failed. A failed transaction has changed nothing, except after
/// [`TableError::Unavailable`] with `ambiguous`, where it may have happened.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// At least one condition did not hold. One entry per write: `true` where its condition failed.
    #[error("the table {table} refused a transaction: the condition on {} did not hold", failed_keys(.keys, .failed))]
    ConditionFailed {
        /// Which table.
        table: String,
        /// The keys of the writes, in order.
        keys: Vec<Key>,
        /// For each write, whether its condition failed.
        failed: Vec<bool>,
    },
    /// The request is larger than a table allows, names a key twice, or is not well formed.
    #[error("not a valid request for table {table}: {reason}")]
    Invalid {
        /// Which table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The table could not be reached or is busy.
    #[error("the table {table} is not available: {reason}")]
    Unavailable {
        /// Which table.
        table: String,
        /// What happened.
        reason: String,
        /// The write may have happened all the same: read back before deciding.
        ambiguous: bool,
    },
    /// The table needs a hand: full disk, permissions, read-only.
    #[error("the table {table} cannot be used: {reason}")]
    Environment {
        /// Which table.
        table: String,
        /// What happened.
        reason: String,
    },
    /// A newer gitferry wrote the item: this one would misread it.
    #[error(
        "the item {key} of table {table} was written by a newer gitferry (format {format}, this build reads up to {}): \
         upgrade this one",
        limits::FORMAT
    )]
    Newer {
        /// Which table.
        table: String,
        /// Which item.
        key: Key,
        /// The format of its document.
        format: u64,
    },
    /// What the table returned cannot be right.
    #[error("the table {table} is damaged: {reason}")]
    Corrupt {
        /// Which table.
        table: String,
        /// What is wrong.
        reason: String,
    },
}

fn failed_keys(keys: &[Key], failed: &[bool]) -> String {
    let names: Vec<String> = keys.iter().zip(failed).filter(|(_, f)| **f).map(|(k, _)| k.to_string()).collect();
    names.join(", ")
}

impl TableError {
    /// What the caller should do.
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

/// One key-value space. All reads are strongly consistent.
#[async_trait]
pub trait Table: fmt::Debug + Send + Sync {
    /// Names the table in errors and logs.
    fn name(&self) -> &str;

    /// Reads up to [`MAX_GET_KEYS`] items at one moment (never half of a transaction), in the order of the
    /// keys; `None` where there is none. A key may come twice. DynamoDB gives at most [`MAX_TRANSACTION_BYTES`] at
    /// one moment: read large items one by one.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError>;

    /// Reads one item.
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        Ok(self.get_many(std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// Reads one page of a range. A row that cannot be read is an entry of the page.
    async fn query(&self, query: &Query) -> Result<Page, TableError>;

    /// Does all the writes or none, durably. At most [`MAX_TRANSACTION_ITEMS`] items, no key twice.
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError>;
}
