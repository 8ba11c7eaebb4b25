//! Opens connections: file creation, schema version, read-only disks.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use gitferry_base::{durable, private};

/// Time that a writer waits for writers of other processes before it fails with [`crate::table::TableError::Unavailable`].
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Version of [`SCHEMA`], stored in `user_version`. Files with a larger version are refused.
const SCHEMA_VERSION: i64 = 1;

/// `WITHOUT ROWID` stores the rows in one B-tree in query order. TEXT compares bytewise (BINARY).
const SCHEMA: &str = "CREATE TABLE item (
    pk TEXT NOT NULL,
    sk TEXT NOT NULL,
    revision INTEGER NOT NULL,
    document TEXT NOT NULL,
    bytes BLOB,
    PRIMARY KEY (pk, sk)
) WITHOUT ROWID;";

/// Pages in the log at which a commit checkpoints. Bounds the time of the first open, which reads the whole log at 3 µs
/// a page.
const CHECKPOINT_PAGES: u32 = 128;
/// Size in bytes to which the log is truncated after a burst.
const MAX_KEPT_LOG_BYTES: u32 = 16 * 1024 * 1024;
/// Prepared statements cached per connection, slightly more than the table uses.
const CACHED_STATEMENTS: usize = 16;
/// Shortest and longest pause between attempts to take a lock.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(5));

/// Failure to open a connection.
#[derive(Debug)]
pub(super) enum OpenError {
    Sqlite(rusqlite::Error),
    Io(io::Error),
    Newer { found: i64, known: i64 },
    Foreign,
    Empty,
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        OpenError::Sqlite(error)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        OpenError::Io(error)
    }
}

/// Opens the file, and creates a missing one if `create_missing` is set.
pub(super) fn connect(path: &Path, create_missing: bool) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // SQLite must not find it missing: should another process create it then, SQLite opens it read-only.
    if create_missing && !path.try_exists()? {
        let parent = path.parent().unwrap_or(Path::new(""));
        durable::create_dir_all(parent)?;
        // SQLite gives the log and shared memory the same permissions.
        private::create_file(path)?;
    }
    let mut connection = Connection::open_with_flags(path, flags)?;
    let started = Cell::new(None);
    connection.busy_handler(Some(move |tries: i32| wait_for_lock(&started, tries)))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // The first statement that reads the file, which reports an unreadable one.
    match version(&connection) {
        Ok(SCHEMA_VERSION) => configure(connection),
        Ok(0) if create_missing => configure(create(connection, path)?),
        Ok(0) if holds_tables(&connection)? => Err(OpenError::Foreign),
        Ok(0) => Err(OpenError::Empty),
        Ok(found) => Err(OpenError::Newer { found, known: SCHEMA_VERSION }),
        Err(error) if is_cannot_open(&error) || is_read_only(&error) => connect_immutable(path, error),
        Err(error) => Err(error.into()),
    }
}

fn configure(connection: Connection) -> Result<Connection, OpenError> {
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
         PRAGMA journal_size_limit = {MAX_KEPT_LOG_BYTES};"
    ))?;
    Ok(connection)
}

/// Sleeps before the next attempt, less than SQLite's own busy handler, as a transaction takes about one fsync. Returns
/// false once [`BUSY_TIMEOUT`] has passed.
fn wait_for_lock(started: &Cell<Option<Instant>>, tries: i32) -> bool {
    let now = Instant::now();
    if tries == 0 {
        started.set(Some(now));
    }
    let waited = started.get().map_or(Duration::ZERO, |at| now.duration_since(at));
    if waited >= BUSY_TIMEOUT {
        return false;
    }
    let factor = u32::try_from(tries).unwrap_or(0).saturating_add(1);
    thread::sleep(BUSY_PAUSE.0.saturating_mul(factor).min(BUSY_PAUSE.1));
    true
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Creates the schema in an empty file. Safe to run in several processes at once: the first one creates it.
fn create(mut connection: Connection, path: &Path) -> Result<Connection, OpenError> {
    if holds_tables(&connection)? && version(&connection)? == 0 {
        return Err(OpenError::Foreign);
    }
    enter_wal(&connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        0 if holds_tables(&transaction)? => return Err(OpenError::Foreign),
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        found => return Err(OpenError::Newer { found, known: SCHEMA_VERSION }),
    }
    transaction.commit()?;
    durable::sync_dir(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    })?;
    Ok(connection)
}

fn holds_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

/// Switches to WAL mode. SQLite does not call the busy handler for this statement, so the function retries itself.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => thread::sleep(BUSY_PAUSE.1),
            Ok(_) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Opens a file on a read-only disk, which has no place for the shared memory of the log, as immutable. Fails with
/// `error`, the error of the normal open, if the log is not empty.
fn connect_immutable(path: &Path, error: rusqlite::Error) -> Result<Connection, OpenError> {
    let mut log = OsString::from(path);
    log.push("-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        return Err(error.into());
    }
    let mut uri = String::from("file:");
    for byte in fs::canonicalize(path)?.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            other => _ = write!(uri, "%{other:02X}"),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    match version(&connection)? {
        SCHEMA_VERSION => Ok(connection),
        0 => Err(error.into()),
        found => Err(OpenError::Newer { found, known: SCHEMA_VERSION }),
    }
}

fn is_cannot_open(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
}

fn is_read_only(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ReadOnly)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
