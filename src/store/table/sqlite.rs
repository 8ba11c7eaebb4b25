//! The embedded table: a SQLite file on a local disk, shared by any number of processes of one machine.
//!
//! The file is in WAL mode with `synchronous=FULL`: a transaction costs one fsync of the log. SQLite's locks serialise
//! processes; a queue serialises the writers of one process first, so that they do not poll.
//!
//! A process that has written checkpoints and truncates the log when it drops its last handle, so a table at rest is a
//! single file. A killed process leaves its log. Then, and while a process has the table open, copy the table with
//! `sqlite3 table.db ".backup copy.db"` or `VACUUM INTO`, never the file alone.

mod error;
mod open;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use open::BUSY_TIMEOUT;

use super::limits::{self, Checked};
use super::{
    Action, BadRow, Condition, Item, Key, MAX_PAGE_BYTES, MAX_REVISION, Page, Query, Table, TableError, Write,
};

/// Most connections of one handle; further calls wait for one.
pub const MAX_CONNECTIONS: usize = 4;

const SELECT_ITEM: &str = "SELECT revision, document, bytes FROM item WHERE pk = ?1 AND sk = ?2";
const SELECT_REVISION: &str = "SELECT revision FROM item WHERE pk = ?1 AND sk = ?2";
const PUT_ITEM: &str = "INSERT INTO item (pk, sk, revision, document, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (pk, sk) DO UPDATE SET revision = excluded.revision, document = excluded.document, bytes = excluded.bytes";
const DELETE_ITEM: &str = "DELETE FROM item WHERE pk = ?1 AND sk = ?2";
const QUERY_UP: &str = "SELECT sk, revision, document, bytes FROM item
    WHERE pk = ?1 AND sk >= ?2 AND sk <= ?3 AND (?4 IS NULL OR sk > ?4) ORDER BY sk";
const QUERY_DOWN: &str = "SELECT sk, revision, document, bytes FROM item
    WHERE pk = ?1 AND sk >= ?2 AND sk <= ?3 AND (?4 IS NULL OR sk < ?4) ORDER BY sk DESC";

/// A table in a SQLite file. Share it behind an `Arc`.
#[derive(Debug)]
pub struct SqliteTable {
    file: Arc<DatabaseFile>,
    /// Bounds the connections and thereby the blocking threads.
    connections: Arc<Semaphore>,
    /// Queues the writers of this process, which would otherwise poll SQLite's lock.
    writer: Semaphore,
}

/// State shared with blocking tasks.
#[derive(Debug)]
struct DatabaseFile {
    name: String,
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Device and inode of the file when it was opened.
    opened: OnceLock<(u64, u64)>,
    /// True if this handle may have written since its last checkpoint.
    written: AtomicBool,
}

impl SqliteTable {
    /// Opens the table at `path`, and creates a missing file and its directories. `name` identifies the table in
    /// errors. A read-only file opens, too; writes then fail with [`TableError::Environment`]. Blocks for well under a
    /// millisecond if the file exists.
    pub fn open(path: impl Into<PathBuf>, name: impl Into<String>) -> Result<Self, TableError> {
        SqliteTable::connect(path.into(), name.into(), true)
    }

    /// Opens the table at `path`, which must exist.
    pub fn open_existing(path: impl Into<PathBuf>, name: impl Into<String>) -> Result<Self, TableError> {
        SqliteTable::connect(path.into(), name.into(), false)
    }

    fn connect(path: PathBuf, name: String, create: bool) -> Result<Self, TableError> {
        let written = AtomicBool::new(create);
        let file = DatabaseFile { name, path, idle: Mutex::default(), opened: OnceLock::new(), written };
        let connection = open::connect(&file.path, create).map_err(|e| error::opening(&file.name, &file.path, e))?;
        file.check_in_place()?;
        file.give_back(connection);
        let file = Arc::new(file);
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|file| file.strong_count() > 0);
        open.push(Arc::downgrade(&file));
        drop(open);
        Ok(SqliteTable { file, connections, writer: Semaphore::new(1) })
    }

    /// Path of the SQLite file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    async fn permit<'a>(&self, semaphore: &'a Semaphore) -> Result<SemaphorePermit<'a>, TableError> {
        semaphore.acquire().await.map_err(|_| self.stopped(false))
    }

    /// Runs `work` with a connection. Dropping the future does not cancel `work`.
    async fn blocking<T: Send + 'static>(
        &self,
        write: bool,
        work: impl FnOnce(&DatabaseFile, &mut Connection) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, TableError> {
        let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(|_| self.stopped(false))?;
        let file = Arc::clone(&self.file);
        let run = move || {
            let mut connection = file.take()?;
            let result = work(&file, &mut connection);
            file.give_back(connection);
            drop(permit);
            result
        };
        // A read is faster than waking a thread; only a write waits for the disk.
        if !write && may_block_in_place() {
            return tokio::task::block_in_place(run);
        }
        tokio::task::spawn_blocking(run).await.unwrap_or_else(|_| Err(self.stopped(write)))
    }

    fn stopped(&self, ambiguous: bool) -> TableError {
        let reason = "the runtime is shutting down".to_owned();
        TableError::Unavailable { table: self.file.name.clone(), reason, ambiguous }
    }
}

/// Returns false on a single-threaded runtime, which has no other thread to run its tasks.
fn may_block_in_place() -> bool {
    let flavor = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
    flavor.is_ok_and(|flavor| flavor == tokio::runtime::RuntimeFlavor::MultiThread)
}

/// Runs with the last handle, when no call is in progress.
impl Drop for DatabaseFile {
    fn drop(&mut self) {
        self.checkpoint();
    }
}

/// Tables that this process has open.
static OPEN: Mutex<Vec<Weak<DatabaseFile>>> = Mutex::new(Vec::new());

/// Checkpoints all tables that this process has open. Afterwards each is a single file without a log, unless another
/// process uses it. For the end of a process, which may exit before its handles are dropped.
pub fn checkpoint_all() {
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    open.iter().filter_map(Weak::upgrade).for_each(|file| file.checkpoint());
}

impl DatabaseFile {
    /// Fails if the path no longer leads to the opened file: writes to a deleted file are lost once its last process
    /// closes it.
    fn check_in_place(&self) -> Result<(), TableError> {
        let failed = |what: String| TableError::Environment { table: self.name.clone(), reason: what };
        let at = self.path.display();
        let now = std::fs::metadata(&self.path).map(|file| (file.dev(), file.ino())).map_err(|error| {
            failed(format!("{at} is gone, and was there when it was opened ({error}): mount its disk, or restore it"))
        })?;
        if *self.opened.get_or_init(|| now) != now {
            return Err(failed(format!("{at} is another file than when it was opened: start this process again")));
        }
        Ok(())
    }

    fn take(&self) -> Result<Connection, TableError> {
        self.check_in_place()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            // A file that was removed meanwhile is not created again.
            None => open::connect(&self.path, false).map_err(|e| error::opening(&self.name, &self.path, e)),
        }
    }

    /// Keeps a connection for the next call, unless an error left a transaction open.
    fn give_back(&self, connection: Connection) {
        if connection.is_autocommit() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    /// Moves the log into the file if this handle has written and no other process uses the table.
    fn checkpoint(&self) {
        if !self.written.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return };
        // Does not wait for another process, which checkpoints at its own end.
        let done = connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)));
        if let Err(error) = done {
            tracing::debug!(%error, table = self.name, "cannot checkpoint the table; its log stays");
        }
    }

    fn failed(&self, error: rusqlite::Error) -> TableError {
        error::during(&self.name, &self.path, error, false)
    }

    fn corrupt(&self, key: &Key, what: impl std::fmt::Display) -> TableError {
        let reason = format!("{}: the item {key}: {what}", self.path.display());
        TableError::Corrupt { table: self.name.clone(), reason }
    }

    fn item(&self, key: Key, stored: Stored) -> Result<Item, TableError> {
        let revision = match u64::try_from(stored.revision) {
            Ok(revision) if is_revision(stored.revision) => revision,
            _ => return Err(self.corrupt(&key, format_args!("the revision {} is invalid", stored.revision))),
        };
        match serde_json::from_str(&stored.document) {
            Ok(document @ Value::Object(_)) => {
                let document = limits::read_document(&self.name, &key, document)?;
                Ok(Item { key, revision, document, bytes: stored.bytes.map(Bytes::from) })
            }
            Ok(_) => Err(self.corrupt(&key, "the document is not a JSON object")),
            Err(error) => Err(self.corrupt(&key, format_args!("the document is not JSON: {error}"))),
        }
    }

    fn get_many(&self, connection: &mut Connection, keys: Vec<Key>) -> Result<Vec<Option<Item>>, TableError> {
        // A transaction reads all keys from one snapshot; a single read needs none.
        let snapshot = keys.len() > 1;
        if snapshot {
            connection.prepare_cached("BEGIN").and_then(|mut s| s.execute([])).map_err(|e| self.failed(e))?;
        }
        let items = self.select_items(connection, keys);
        if snapshot {
            connection.prepare_cached("COMMIT").and_then(|mut s| s.execute([])).map_err(|e| self.failed(e))?;
        }
        items
    }

    fn select_items(&self, connection: &Connection, keys: Vec<Key>) -> Result<Vec<Option<Item>>, TableError> {
        let mut select = connection.prepare_cached(SELECT_ITEM).map_err(|e| self.failed(e))?;
        let mut read = |key: Key| {
            let stored = select.query_row(params![key.pk, key.sk], |row| Stored::read(row, 0)).optional();
            stored.map_err(|e| self.failed(e))?.map(|stored| self.item(key, stored)).transpose()
        };
        keys.into_iter().map(&mut read).collect()
    }

    fn query(&self, connection: &Connection, query: Query, limit: usize) -> Result<Page, TableError> {
        let text = if query.descending { QUERY_DOWN } else { QUERY_UP };
        let mut select = connection.prepare_cached(text).map_err(|e| self.failed(e))?;
        let range = params![query.pk, query.from, query.to, query.after];
        let mut rows = select.query(range).map_err(|e| self.failed(e))?;
        let mut page = Page::default();
        let mut size = 0usize;
        while let Some(row) = rows.next().map_err(|e| self.failed(e))? {
            let sk = row.get(0).map_err(|e| self.failed(e))?;
            let key = Key { pk: query.pk.clone(), sk };
            let stored = match Stored::read(row, 1) {
                Ok(stored) => Ok(stored),
                Err(error) if error.sqlite_error().is_some() => return Err(self.failed(error)),
                // A column has an unexpected type.
                Err(error) => Err(self.corrupt(&key, error)),
            };
            let weight = stored.as_ref().map_or(0, |stored| {
                limits::stored_bytes(&key, stored.document.len(), stored.bytes.as_ref().map_or(0, Vec::len))
            });
            size = size.saturating_add(weight);
            let full = page.rows.len() >= limit || size > MAX_PAGE_BYTES;
            if let Some(last) = page.keys().last().filter(|_| full) {
                page.next = Some(last.sk.clone());
                break;
            }
            let read = stored.and_then(|stored| self.item(key.clone(), stored));
            page.rows.push(read.map_err(|error| BadRow { key, error }));
        }
        Ok(page)
    }

    fn transact(&self, connection: &mut Connection, writes: &[Checked]) -> Result<(), TableError> {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| error::writing(&self.name, &self.path, e))?;
        self.written.store(true, Ordering::Relaxed);
        // Dropping the transaction rolls it back.
        let revisions = self.check_conditions(&transaction, writes)?;
        assert_eq!(revisions.len(), writes.len(), "every write of a transaction has a revision");
        for (checked, revision) in writes.iter().zip(revisions) {
            let Checked { write, document } = checked;
            let Key { pk, sk } = &write.key;
            let done = match &write.action {
                Action::Check => Ok(0),
                Action::Delete => transaction.prepare_cached(DELETE_ITEM).and_then(|mut s| s.execute(params![pk, sk])),
                Action::Put { bytes, .. } => {
                    let next = match revision {
                        None => 1,
                        Some(revision) => {
                            let next = revision.checked_add(1).filter(|next| is_revision(*next));
                            let invalid = || format!("the revision {revision} is invalid");
                            next.ok_or_else(|| self.corrupt(&write.key, invalid()))?
                        }
                    };
                    let put = params![pk, sk, next, document, bytes.as_deref()];
                    transaction.prepare_cached(PUT_ITEM).and_then(|mut s| s.execute(put))
                }
            };
            done.map_err(|e| error::writing(&self.name, &self.path, e))?;
        }
        transaction.commit().map_err(|e| error::during(&self.name, &self.path, e, true))
    }

    /// Returns the current revision of each item, or [`TableError::ConditionFailed`].
    fn check_conditions(&self, connection: &Connection, writes: &[Checked]) -> Result<Vec<Option<i64>>, TableError> {
        let mut select = connection.prepare_cached(SELECT_REVISION).map_err(|e| self.failed(e))?;
        let mut revision = |key: &Key| select.query_row(params![key.pk, key.sk], |row| row.get(0)).optional();
        let revisions: Vec<Option<i64>> =
            writes.iter().map(|c| revision(&c.write.key)).collect::<Result<_, _>>().map_err(|e| self.failed(e))?;
        let failed: Vec<bool> = writes.iter().zip(&revisions).map(|(c, r)| !holds(c.write.condition, *r)).collect();
        if !failed.contains(&true) {
            return Ok(revisions);
        }
        let keys = writes.iter().map(|c| c.write.key.clone()).collect();
        Err(TableError::ConditionFailed { table: self.name.clone(), keys, failed })
    }
}

/// Returns true for revisions that a row can have reached.
fn is_revision(revision: i64) -> bool {
    u64::try_from(revision).is_ok_and(|revision| (1..=MAX_REVISION).contains(&revision))
}

fn holds(condition: Condition, revision: Option<i64>) -> bool {
    match condition {
        Condition::Any => true,
        Condition::Absent => revision.is_none(),
        Condition::Present => revision.is_some(),
        Condition::Revision(wanted) => revision.and_then(|r| u64::try_from(r).ok()) == Some(wanted),
    }
}

/// Columns of a row.
struct Stored {
    revision: i64,
    document: String,
    bytes: Option<Vec<u8>>,
}

impl Stored {
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Stored { revision: row.get(first)?, document: row.get(first + 1)?, bytes: row.get(first + 2)? })
    }
}

#[async_trait]
impl Table for SqliteTable {
    fn name(&self) -> &str {
        &self.file.name
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        limits::check_get(&self.file.name, keys)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = keys.to_vec();
        self.blocking(false, move |file, connection| file.get_many(connection, keys)).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        let limit = limits::check_query(&self.file.name, query)?;
        let query = query.clone();
        self.blocking(false, move |file, connection| file.query(connection, query, limit)).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let writes = limits::check_transaction(&self.file.name, writes)?;
        let _permit = self.permit(&self.writer).await?;
        self.blocking(true, move |file, connection| file.transact(connection, &writes)).await
    }
}
