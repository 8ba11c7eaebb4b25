//! Stores that ignore preconditions are found out; those that keep them pass and are left as they were.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gitferry_base::clock::SystemClock;
use gitferry_engine::region::{RegionError, probe};
use gitferry_store::objects::s3::{S3Options, S3Store};
use gitferry_store::objects::{Crc64, FilesystemStore, ListPage, ObjectError, ObjectMeta, ObjectStore, Part, Upload};
use gitferry_store::table::{Condition, Item, Key, Page, Query, SqliteTable, Table, TableError, Write};

use crate::aws_stores::table;
use gitferry_test_support::aws::Emulator;

/// How a table breaks its promises.
#[derive(Clone, Copy, Debug)]
enum Breaks {
    Conditions,
    RevisionsOnly,
    Atomicity,
}

#[derive(Debug)]
struct BrokenTable(SqliteTable, Breaks);

#[async_trait]
impl Table for BrokenTable {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.0.get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.0.query(query).await
    }

    async fn transact(&self, mut writes: Vec<Write>) -> Result<(), TableError> {
        for write in &mut writes {
            match (self.1, write.condition) {
                (Breaks::Conditions, _) | (Breaks::RevisionsOnly, Condition::Revision(_)) => {
                    write.condition = Condition::Any
                }
                _ => {}
            }
        }
        if !matches!(self.1, Breaks::Atomicity) {
            return self.0.transact(writes).await;
        }
        for write in writes {
            self.0.transact(vec![write]).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn tables() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = |name: &str| SqliteTable::open(dir.path().join(name), "of nowhere").unwrap();
    probe::table(&embedded("good"), &SystemClock).await.unwrap();
    let (remote, proxy) = table().await;
    probe::table(&remote, &SystemClock).await.unwrap();
    let left: Vec<String> = proxy
        .requests()
        .iter()
        .filter(|request| request.operation == "TransactWriteItems")
        .map(|r| r.body.clone())
        .collect();
    assert_eq!(left.len(), 4, "put, two that must fail, and removal: {left:?}");
    let cases = [
        (Breaks::Conditions, "condition did not hold"),
        (Breaks::RevisionsOnly, "condition did not hold"),
        (Breaks::Atomicity, "one half of a transaction"),
    ];
    for (breaks, says) in cases {
        let table = BrokenTable(embedded(&format!("{breaks:?}")), breaks);
        let error = probe::table(&table, &SystemClock).await.unwrap_err();
        assert!(matches!(error, RegionError::BrokenPromise { .. }), "{breaks:?}: {error}");
        assert!(error.to_string().contains("of nowhere") && error.to_string().contains(says), "{breaks:?}: {error}");
    }
}

/// An object store that overwrites: at once, in parts, or both.
#[derive(Debug)]
struct Overwrites {
    inner: FilesystemStore,
    put: bool,
    complete: bool,
}

#[async_trait]
impl ObjectStore for Overwrites {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
        if self.put {
            self.inner.delete(key).await?;
        }
        self.inner.put(key, bytes).await
    }

    async fn put_file(&self, key: &str, file: tempfile::TempPath) -> Result<ObjectMeta, ObjectError> {
        self.inner.put_file(key, file).await
    }

    fn spool_dir(&self) -> Option<PathBuf> {
        self.inner.spool_dir()
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.inner.delete(key).await
    }

    async fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        self.inner.begin(key).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError> {
        self.inner.put_part(upload, number, bytes).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        self.inner.parts(upload).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        if self.complete {
            self.inner.delete(&upload.key).await?;
        }
        self.inner.complete(upload, parts, size, crc64).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError> {
        self.inner.abort(upload).await
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
}

async fn is_empty(store: &dyn ObjectStore) -> bool {
    store.list("probes/", None, 10).await.unwrap().objects.is_empty()
}

#[tokio::test]
async fn object_stores() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = |name: &str| FilesystemStore::open(dir.path().join(name), "store of nowhere").unwrap();
    let emulator = Emulator::get();
    let options = S3Options { bucket: emulator.bucket().await, ..S3Options::default() };
    let remote = S3Store::new(&emulator.sdk_config().await, options, "remote");
    let good: [Arc<dyn ObjectStore>; 2] = [Arc::new(embedded("good")), Arc::new(remote)];
    for store in good {
        probe::objects(&*store, &SystemClock).await.unwrap();
        assert!(is_empty(&*store).await);
    }
    for (put, complete, says) in
        [(true, true, "put at once"), (true, false, "put at once"), (false, true, "put in parts")]
    {
        let store = Overwrites { inner: embedded(&format!("{put}-{complete}")), put, complete };
        let error = probe::objects(&store, &SystemClock).await.unwrap_err();
        assert!(matches!(error, RegionError::BrokenPromise { .. }), "{error}");
        assert!(error.to_string().contains("store of nowhere") && error.to_string().contains(says), "{error}");
        assert!(is_empty(&store).await);
    }
}
