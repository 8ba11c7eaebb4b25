//! What only the embedded stores promise: several processes, damaged files, full and read-only disks.
//!
//! Tests that need to mount a file system say so and end when they may not.

mod damage;
mod disks;
mod processes;
mod uploads;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gitferry_base::Kind;
use gitferry_store::objects::{Crc64, FilesystemStore, ObjectError, ObjectStore, PART_BYTES, Part, Upload};
use gitferry_store::table::{Condition, Key, Query, SqliteTable, Table, TableError, Write};
use gitferry_test_support::faults::{Faults, Meter, Operation, When};
use gitferry_test_support::objects::{DelayedStore, FaultyStore, MeteredStore};
use gitferry_test_support::table::{DelayedTable, FaultyTable, MeteredTable};
use serde_json::json;

const ROLE: &str = "GITFERRY_TEST_ROLE";
const DIR: &str = "GITFERRY_TEST_DIR";

fn key(sk: &str) -> Key {
    Key::new("p", sk)
}

fn put(sk: &str, n: u64) -> Vec<Write> {
    vec![Write::put(key(sk), Condition::Any, json!({ "n": n }))]
}

fn table_in(dir: &Path) -> SqliteTable {
    SqliteTable::open(dir.join("deep/er/table.db"), "test").unwrap()
}

fn store_in(dir: &Path) -> FilesystemStore {
    FilesystemStore::open(dir.join("objects"), "test").unwrap()
}

fn made_up(seed: u8, size: u64) -> Bytes {
    (0..size).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed).collect()
}

fn part_of(bytes: &Bytes, number: u32) -> Bytes {
    let from = u64::from(number) * PART_BYTES;
    bytes.slice(from as usize..(from + PART_BYTES).min(bytes.len() as u64) as usize)
}

/// Runs one of the `child_…` tests of [`processes`] in a process of its own.
fn spawn(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("embedded_stores::processes::{role}"), "--include-ignored", "--nocapture"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The directory of the parent, when this process has been started for `role`.
fn child_dir(role: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == role).then(|| PathBuf::from(std::env::var_os(DIR).unwrap()))
}

async fn wait_for(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn faults_reach_both_stores() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, files): (Arc<dyn Table>, Arc<dyn ObjectStore>) =
        (Arc::new(table_in(dir.path())), Arc::new(store_in(dir.path())));
    let faults = Arc::new(Faults::none());
    let table = FaultyTable::new(Arc::clone(&plain), Arc::clone(&faults));
    let store = FaultyStore::new(Arc::clone(&files), Arc::clone(&faults));
    faults.fail_nth(Operation::TableTransact, 2, When::Before);
    faults.fail_nth(Operation::TableTransact, 3, When::After);
    table.transact(put("x", 1)).await.unwrap();
    for done in [1, 3] {
        let result = table.transact(put("x", 3)).await;
        assert!(matches!(result, Err(TableError::Unavailable { ambiguous: true, .. })), "{result:?}");
        assert_eq!(plain.get(&key("x")).await.unwrap().unwrap().document, json!({ "n": done }));
    }
    faults.crash_at(2, When::After);
    store.put("a", Bytes::new()).await.unwrap();
    assert!(matches!(store.put("b", Bytes::new()).await, Err(ObjectError::Unavailable { ambiguous: true, .. })));
    assert!(files.head("b").await.unwrap().is_some());
    assert!(matches!(store.head("b").await, Err(ObjectError::Unavailable { ambiguous: false, .. })));
    assert_eq!(table.get(&key("x")).await.unwrap_err().kind(), Kind::Transient);
    store.put("c", Bytes::new()).await.unwrap_err();
    faults.restart();
    assert_eq!(store.head("c").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn meters_count_and_delays_delay() {
    let dir = tempfile::tempdir().unwrap();
    let meter = Arc::new(Meter::new());
    let table = MeteredTable::new(Arc::new(table_in(dir.path())), Arc::clone(&meter));
    let store: Arc<dyn ObjectStore> = Arc::new(MeteredStore::new(Arc::new(store_in(dir.path())), Arc::clone(&meter)));
    table.transact(put("x", 1)).await.unwrap();
    table.get(&key("x")).await.unwrap();
    store.put("a", made_up(0, 1_000)).await.unwrap();
    store.put("a", made_up(0, 1_000)).await.unwrap_err();
    store.get("a", 0..600).await.unwrap();
    store.get("a", 600..5_000).await.unwrap();
    let counts = meter.snapshot();
    let puts = counts.of(Operation::ObjectPut);
    assert_eq!((puts.calls, puts.errors, puts.written), (2, 1, 1_000));
    let gets = counts.of(Operation::ObjectGet);
    assert_eq!((gets.calls, gets.errors, gets.read), (2, 0, 1_000));
    assert_eq!(counts.of(Operation::TableTransact).written, counts.of(Operation::TableGet).read);
    assert_eq!(counts.total().calls, 6);
    assert_eq!(counts.to_string().lines().count(), 4);

    let start = tokio::time::Instant::now();
    let delay = Duration::from_millis(70);
    DelayedStore::new(store, delay).head("a").await.unwrap();
    DelayedTable::new(Arc::new(table), delay).get(&key("x")).await.unwrap();
    assert!(start.elapsed() >= 2 * delay);
}
