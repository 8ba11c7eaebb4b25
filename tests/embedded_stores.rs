//! What only the embedded stores promise: several processes, damaged files, full and read-only disks.
//!
//! Tests that need to mount a file system say so and end when they may not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gitferry::Kind;
use gitferry::decorate::{Faults, Meter, Operation, When};
use gitferry::objects::decorate::{DelayedStore, FaultyStore, MeteredStore};
use gitferry::objects::{Crc64, FilesystemStore, ObjectError, ObjectStore, PART_BYTES, Part, Upload};
use gitferry::table::decorate::{DelayedTable, FaultyTable, MeteredTable};
use gitferry::table::{Condition, Key, Query, SqliteTable, Table, TableError, Write};
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

/// Runs one of the `child_…` tests below in a process of its own.
fn spawn(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--include-ignored", "--nocapture"])
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

const INCREMENTS: u64 = 40;

#[tokio::test]
#[ignore = "run by processes_share_a_counter"]
async fn child_counter() {
    let Some(dir) = child_dir("child_counter") else { return };
    let table = table_in(&dir);
    for _ in 0..INCREMENTS {
        loop {
            let found = table.get(&key("counter")).await.unwrap();
            let condition = found.as_ref().map_or(Condition::Absent, |item| Condition::Revision(item.revision));
            let n = found.map_or(0, |item| item.document["n"].as_u64().unwrap());
            match table.transact(vec![Write::put(key("counter"), condition, json!({ "n": n + 1 }))]).await {
                Ok(()) => break,
                Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn processes_share_a_counter() {
    let dir = tempfile::tempdir().unwrap();
    // They race for creating the file as well.
    let children: Vec<Child> = (0..4).map(|_| spawn("child_counter", dir.path())).collect();
    let count = children.len() as u64;
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let item = table_in(dir.path()).get(&key("counter")).await.unwrap().unwrap();
    assert_eq!((item.document, item.revision), (json!({ "n": count * INCREMENTS }), count * INCREMENTS));
}

#[tokio::test]
#[ignore = "run by an_upload_outlives_its_process"]
async fn child_upload() {
    let Some(dir) = child_dir("child_upload") else { return };
    let store = store_in(&dir);
    let bytes = made_up(1, 2 * PART_BYTES + 10);
    let upload = store.begin("packs/x.pack").await.unwrap();
    for number in [0, 2] {
        store.put_part(&upload, number, part_of(&bytes, number)).await.unwrap();
    }
    fs::write(dir.join("token.new"), &upload.token).unwrap();
    fs::rename(dir.join("token.new"), dir.join("token")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_upload_outlives_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("child_upload", dir.path());
    wait_for(&dir.path().join("token")).await;
    let token = fs::read_to_string(dir.path().join("token")).unwrap();
    let upload = Upload { key: "packs/x.pack".to_owned(), token };
    let store = store_in(dir.path());
    // While the other one lives, it is its upload.
    let busy = [store.parts(&upload).await.map(drop), store.abort(&upload).await];
    assert_eq!(store.remove_stale(Duration::ZERO, Duration::ZERO).await.unwrap(), 0);
    for result in busy {
        assert!(matches!(result, Err(ObjectError::Unavailable { ambiguous: false, .. })), "{result:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let held = store.parts(&upload).await.unwrap();
    assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [0, 2]);
    let bytes = made_up(1, 2 * PART_BYTES + 10);
    store.put_part(&upload, 1, part_of(&bytes, 1)).await.unwrap();
    let parts = store.parts(&upload).await.unwrap();
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(store.local_path("packs/x.pack").unwrap()).unwrap(), bytes);
}

#[tokio::test]
#[ignore = "run by a_killed_writer_leaves_whole_transactions"]
async fn child_writer() {
    let Some(dir) = child_dir("child_writer") else { return };
    let table = table_in(&dir);
    for n in 1.. {
        let writes = (0..5).flat_map(|i| put(&format!("k{i}"), n)).collect();
        table.transact(writes).await.unwrap();
        if n == 5 {
            fs::write(dir.join("started"), "").unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let _ = fs::remove_file(dir.path().join("started"));
        let mut child = spawn("child_writer", dir.path());
        wait_for(&dir.path().join("started")).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let table = table_in(dir.path());
        let page = table.query(&Query::prefix("p", "k")).await.unwrap();
        assert_eq!(page.items.len(), 5);
        assert!(page.items.iter().all(|item| item.document == page.items[0].document), "{page:?}");
        assert!(page.items[0].revision > last);
        last = page.items[0].revision;
        table.transact(put("after", last)).await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_in(dir.path());
    table.transact(put("x", 1)).await.unwrap();
    let other = rusqlite::Connection::open(table.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (release, released) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        released.recv().unwrap();
        other.execute_batch("ROLLBACK").unwrap();
    });
    let writing = tokio::spawn({
        let table = Arc::new(table);
        let writer = Arc::clone(&table);
        async move {
            let write = tokio::spawn(async move { writer.transact(put("x", 2)).await });
            // Reads go on meanwhile.
            assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 1}));
            release.send(()).unwrap();
            write.await.unwrap().unwrap();
            assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 2}));
        }
    });
    writing.await.unwrap();
    holder.join().unwrap();
}

fn corrupt<T: std::fmt::Debug>(result: Result<T, TableError>) {
    assert!(matches!(result, Err(TableError::Corrupt { .. })), "{result:?}");
}

#[tokio::test]
async fn damaged_tables_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.db");
    fs::write(&path, "this is not a database, but it is long enough to be looked at. ".repeat(20)).unwrap();
    corrupt(SqliteTable::open(&path, "test"));

    let path = dir.path().join("damaged.db");
    let table = SqliteTable::open(&path, "test").unwrap();
    for i in 0..200 {
        table
            .transact(vec![Write::put(key(&format!("{i}")), Condition::Any, json!({"t": "x".repeat(500)}))])
            .await
            .unwrap();
    }
    drop(table);
    let checkpoint = rusqlite::Connection::open(&path).unwrap();
    checkpoint.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(checkpoint);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    // All pages but the first, which holds the schema.
    file.write_all_at(&vec![0xa5; file.metadata().unwrap().len() as usize - 4096], 4096).unwrap();
    let table = SqliteTable::open(&path, "test").unwrap();
    corrupt(table.query(&Query::prefix("p", "")).await);
    corrupt(table.get(&key("1")).await);
    corrupt(table.transact(put("1", 1)).await);
}

#[tokio::test]
async fn rows_that_cannot_be_right_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_in(dir.path());
    table.transact(put("good", 1)).await.unwrap();
    let tamper = rusqlite::Connection::open(table.path()).unwrap();
    let rows = [
        ("json", "1", "'{'"),
        ("array", "1", "'[]'"),
        ("zero", "0", "'{}'"),
        ("minus", "-1", "'{}'"),
        ("type", "'text'", "'{}'"),
        ("blob", "1", "x'00ff'"),
    ];
    for (sk, revision, document) in rows {
        let row = format!("INSERT INTO item VALUES ('p', '{sk}', {revision}, {document}, NULL)");
        tamper.execute_batch(&row).unwrap();
        corrupt(table.get(&key(sk)).await);
    }
    assert!(table.get(&key("good")).await.unwrap().is_some());
}

#[tokio::test]
async fn other_schemas_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer.db");
    drop(SqliteTable::open(&path, "test").unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteTable::open(&path, "test").unwrap_err();
    assert_eq!(error.kind(), Kind::Environment);
    assert!(error.to_string().contains("newer gitferry (schema 99"), "{error}");

    let path = dir.path().join("foreign.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let error = SqliteTable::open(&path, "test").unwrap_err();
    assert!(matches!(&error, TableError::Environment { reason, .. } if reason.contains("another program")), "{error}");
    let tables: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1, "nothing was changed");

    let error = SqliteTable::open(dir.path(), "test").unwrap_err();
    assert_eq!(error.kind(), Kind::Environment, "{error}");
}

/// Stores two full parts and a short one, and lets go of the upload.
async fn half_uploaded(dir: &Path) -> (Upload, PathBuf, Bytes) {
    let bytes = made_up(2, 2 * PART_BYTES + 100);
    let store = store_in(dir);
    let upload = store.begin("x").await.unwrap();
    for number in 0..3 {
        store.put_part(&upload, number, part_of(&bytes, number)).await.unwrap();
    }
    let staged = store.spool_dir().unwrap().join(&upload.token);
    (upload, staged, bytes)
}

fn numbers(parts: &[Part]) -> Vec<u32> {
    parts.iter().map(|part| part.number).collect()
}

#[tokio::test]
async fn parts_lost_with_the_power_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, bytes) = half_uploaded(dir.path()).await;
    let file = OpenOptions::new().write(true).open(&staged).unwrap();
    file.set_len(PART_BYTES + 5).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0]);
    // As long as it should be, but with zeros that never reached the disk.
    file.set_len(bytes.len() as u64).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0]);
    file.write_all_at(&bytes[PART_BYTES as usize..], PART_BYTES).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0, 1, 2]);
    // One flipped bit; complete looks by itself when nobody has asked for the parts.
    let good = store_in(dir.path()).parts(&upload).await.unwrap();
    file.write_all_at(&[bytes[77] ^ 1], 77).unwrap();
    let store = store_in(dir.path());
    let result = store.complete(&upload, &good, bytes.len() as u64, Crc64::of(&bytes)).await;
    assert!(matches!(result, Err(ObjectError::Corrupt { .. })), "{result:?}");
    assert_eq!(store.head("x").await.unwrap(), None);
    assert_eq!(numbers(&store.parts(&upload).await.unwrap()), [1, 2]);
    store.put_part(&upload, 0, part_of(&bytes, 0)).await.unwrap();
    let parts = store.parts(&upload).await.unwrap();
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(store.local_path("x").unwrap()).unwrap(), bytes);
}

#[tokio::test]
async fn damaged_lists_of_parts_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, _) = half_uploaded(dir.path()).await;
    let list = staged.with_extension("parts");
    let whole = fs::read(&list).unwrap();
    let mut noise = whole.clone();
    noise.extend_from_slice(
        b"00000003 0000\xff\n\n99999999 00000001 0000000000000000\n00000000 ffffffff 0000000000000000\n",
    );
    fs::write(&list, &noise).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0, 1, 2]);
    // Cut anywhere: never more than what is intact, never an error but "gone".
    for cut in 0..whole.len() {
        fs::write(&list, &whole[..cut]).unwrap();
        match store_in(dir.path()).parts(&upload).await {
            Ok(parts) => assert!(parts.len() <= 3),
            Err(error) => assert_eq!(error.kind(), Kind::NotFound, "{error}"),
        }
    }
    fs::remove_file(&list).unwrap();
    let store = store_in(dir.path());
    assert_eq!(store.parts(&upload).await.unwrap_err().kind(), Kind::NotFound);
    store.abort(&upload).await.unwrap();
    assert!(!staged.exists());
}

#[tokio::test]
async fn a_torn_line_does_not_swallow_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, bytes) = half_uploaded(dir.path()).await;
    let list = staged.with_extension("parts");
    let whole = fs::read(&list).unwrap();
    fs::write(&list, &whole[..whole.len() - 10]).unwrap();
    let store = store_in(dir.path());
    assert_eq!(numbers(&store.parts(&upload).await.unwrap()), [0, 1]);
    store.put_part(&upload, 2, part_of(&bytes, 2)).await.unwrap();
    drop(store);
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0, 1, 2]);
}

#[tokio::test]
async fn a_death_while_completing_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, bytes) = half_uploaded(dir.path()).await;
    let store = store_in(dir.path());
    let parts = store.parts(&upload).await.unwrap();
    drop(store);
    // As a link without removal leaves it, where renames cannot refuse to replace.
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o444)).unwrap();
    fs::hard_link(&staged, dir.path().join("objects/x")).unwrap();
    let store = store_in(dir.path());
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert!(!staged.exists());
    assert_eq!(fs::metadata(store.local_path("x").unwrap()).unwrap().nlink(), 1);
}

#[tokio::test]
async fn parts_come_straight_from_another_embedded_store() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = Arc::new(store_in(from.path()));
    let target = Arc::new(store_in(to.path()));
    let bytes = made_up(3, PART_BYTES + 700_001);
    source.put("a/object", bytes.clone()).await.unwrap();
    let upload = target.begin("b/object").await.unwrap();
    let mut parts = Vec::new();
    for number in [1, 0] {
        let part = part_of(&bytes, number);
        let size = part.len() as u64;
        let stored = target.put_part_from(&upload, number, size, &*source, "a/object").await.unwrap().unwrap();
        assert_eq!(stored, Part { number, size, crc64: Crc64::of(&part), tag: String::new() });
        parts.insert(0, stored);
    }
    // What the source does not have does not become a part, and takes back what was there.
    for (size, key) in [(PART_BYTES, "a/object"), (1, "a/other")] {
        assert_eq!(target.put_part_from(&upload, 1, size, &*source, key).await.unwrap(), None);
    }
    assert_eq!(numbers(&target.parts(&upload).await.unwrap()), [0]);
    let error = target.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let last = part_of(&bytes, 1).len() as u64;
    target.put_part_from(&upload, 1, last, &*source, "a/object").await.unwrap().unwrap();
    target.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(to.path().join("objects/b/object")).unwrap(), bytes);
    assert_ne!(
        fs::metadata(to.path().join("objects/b/object")).unwrap().ino(),
        fs::metadata(from.path().join("objects/a/object")).unwrap().ino()
    );
    // Nothing passes a decorator by, on either side.
    let metered = MeteredStore::new(source.clone(), Arc::new(Meter::default()));
    let delayed = DelayedStore::new(target.clone(), Duration::ZERO);
    let other = target.begin("b/other").await.unwrap();
    assert_eq!(target.put_part_from(&other, 0, 1, &metered, "a/object").await.unwrap(), None);
    assert_eq!(delayed.put_part_from(&other, 0, 1, &*source, "a/object").await.unwrap(), None);
}

#[tokio::test]
async fn tokens_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path());
    store.put("victim", Bytes::from_static(b"1")).await.unwrap();
    for token in ["", "..", "../victim", "/etc/passwd", "put-x", "0192F0C0-0000-7000-8000-000000000000"] {
        let upload = Upload { key: "x".to_owned(), token: token.to_owned() };
        let results = [
            store.parts(&upload).await.map(drop),
            store.put_part(&upload, 0, Bytes::from_static(b"x")).await.map(drop),
            store.abort(&upload).await,
        ];
        for result in results {
            assert!(matches!(result, Err(ObjectError::Invalid { .. })), "{token:?}: {result:?}");
        }
    }
    assert_eq!(store.get("victim", 0..10).await.unwrap(), b"1"[..]);
}

#[tokio::test]
async fn objects_are_read_only_and_staging_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, ..) = half_uploaded(dir.path()).await;
    let store = store_in(dir.path());
    let parts = store.parts(&upload).await.unwrap();
    let bytes = made_up(2, 2 * PART_BYTES + 100);
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
    assert!(store.put("a/b", Bytes::from_static(b"1")).await.is_err());
    for key in ["x", "a/b"] {
        let mode = fs::metadata(store.local_path(key).unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{key}");
    }
    assert_eq!(fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
    // What a killed process leaves goes when it is old, and what is in use stays.
    let kept = store.begin("kept").await.unwrap();
    fs::write(store.spool_dir().unwrap().join("put-left"), "left").unwrap();
    fs::create_dir_all(store.spool_dir().unwrap().join("folder/within")).unwrap();
    fs::write(store.spool_dir().unwrap().join("folder/within/file"), "left").unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(store.remove_stale(hour, hour).await.unwrap(), 0);
    assert_eq!(store.remove_stale(Duration::ZERO, Duration::ZERO).await.unwrap(), 2);
    assert!(store.parts(&kept).await.unwrap().is_empty());
    // A key that is a folder, and one below an object.
    assert!(matches!(store.put("a", Bytes::new()).await, Err(ObjectError::Invalid { .. })));
    assert!(matches!(store.put("a/b/c", Bytes::new()).await, Err(ObjectError::Invalid { .. })));
    store.delete("a/b").await.unwrap();
    assert!(!dir.path().join("objects/a").exists());
}

/// A small file system of its own, unmounted at the end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Mount(dir)),
            other => {
                eprintln!("SKIPPED: cannot mount a tmpfs here, so full and read-only disks go untested: {other:?}");
                None
            }
        }
    }

    fn remount(&self, mode: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_harms_nothing() {
    let Some(mount) = Mount::new("size=24m") else { return };
    let dir = mount.0.path();
    let table = table_in(dir);
    table.transact(put("x", 1)).await.unwrap();
    let store = store_in(dir);
    let upload = store.begin("big").await.unwrap();
    let bytes = made_up(3, PART_BYTES);
    let first = store.put_part(&upload, 0, bytes.clone()).await.unwrap();
    let filler = dir.join("filler");
    // Fills what is left, to the last page.
    let _ = fs::write(&filler, vec![1; 32 << 20]);

    let told = |error: ObjectError| {
        assert!(matches!(&error, ObjectError::Environment { reason, .. } if reason.contains("make room")), "{error}");
    };
    told(store.put_part(&upload, 1, bytes.clone()).await.unwrap_err());
    told(store.put("small", made_up(4, 50_000)).await.unwrap_err());
    let mut refused = 0;
    for i in 0..100 {
        match table
            .transact(vec![Write::put(key(&format!("{i}")), Condition::Any, json!({"t": "x".repeat(50_000)}))])
            .await
        {
            Ok(()) => assert_eq!(refused, 0, "it went on by itself"),
            Err(error) => {
                assert!(matches!(&error, TableError::Environment { .. }), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 1}));

    fs::remove_file(&filler).unwrap();
    table.transact(put("x", 2)).await.unwrap();
    assert_eq!(store.head("small").await.unwrap(), None);
    store.put("small", made_up(4, 50_000)).await.unwrap();
    assert_eq!(store.parts(&upload).await.unwrap(), std::slice::from_ref(&first));
    store.complete(&upload, &[first], PART_BYTES, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(store.local_path("big").unwrap()).unwrap(), bytes);
    assert_eq!(fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_read_only_disk_can_be_read() {
    let Some(mount) = Mount::new("size=24m") else { return };
    let dir = mount.0.path();
    let table = table_in(dir);
    table.transact(put("x", 1)).await.unwrap();
    let store = store_in(dir);
    store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
    drop((table, store));
    // With the log still there, and without it.
    for checkpointed in [false, true] {
        mount.remount("rw");
        if checkpointed {
            // Closing the last ordinary connection writes the log back and removes it.
            let connection = rusqlite::Connection::open(dir.join("deep/er/table.db")).unwrap();
            connection.query_row("SELECT count(*) FROM item", [], |_| Ok(())).unwrap();
            drop(connection);
            assert!(!dir.join("deep/er/table.db-wal").exists());
        }
        mount.remount("ro");
        let table = table_in(dir);
        assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 1}));
        let error = table.transact(put("x", 2)).await.unwrap_err();
        assert!(matches!(&error, TableError::Environment { reason, .. } if reason.contains("read-only")), "{error}");
        let store = store_in(dir);
        assert_eq!(store.get("a/b", 0..10).await.unwrap(), b"1"[..]);
        assert_eq!(store.list("", None, 10).await.unwrap().objects.len(), 1);
        let errors =
            [store.put("c", Bytes::new()).await.map(drop), store.begin("c").await.map(drop), store.delete("a/b").await];
        for error in errors.map(Result::unwrap_err) {
            assert!(
                matches!(&error, ObjectError::Environment { reason, .. } if reason.contains("writable")),
                "{error}"
            );
        }
        assert_eq!(FilesystemStore::open(dir.join("new"), "test").unwrap_err().kind(), Kind::Environment);
        assert_eq!(SqliteTable::open(dir.join("new.db"), "test").unwrap_err().kind(), Kind::Environment);
    }
}

#[tokio::test]
async fn files_from_another_disk_are_copied() {
    let Some(mount) = Mount::new("size=24m") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path());
    let file = tempfile::NamedTempFile::new_in(mount.0.path()).unwrap();
    fs::write(file.path(), b"from afar").unwrap();
    let path = file.path().to_owned();
    assert_eq!(store.put_file("x", file.into_temp_path()).await.unwrap().size, 9);
    assert_eq!(store.get("x", 0..100).await.unwrap(), b"from afar"[..]);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
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
