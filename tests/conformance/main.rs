//! What every [`gitferry::table::Table`] and every [`gitferry::objects::ObjectStore`] promises.
//!
//! Each suite is written against a factory of handles of one store. An implementation joins by a line in
//! [`table_suite!`]'s or [`object_suite!`]'s users below and passes all of it unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/aws.rs"]
mod aws;
mod bucket;
mod objects;
mod table;

use std::sync::Arc;

use gitferry::objects::{FilesystemStore, ObjectStore};
use gitferry::table::{DynamoTable, SqliteTable, Table};

/// Opens another handle of the same, initially empty table.
pub trait TableFactory: Send + Sync {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn Table>;
}

/// Opens another handle of the same, initially empty object store.
pub trait StoreFactory: Send + Sync {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn ObjectStore>;
}

struct Embedded(tempfile::TempDir);

impl Embedded {
    fn new() -> Self {
        Embedded(tempfile::tempdir().unwrap())
    }
}

impl TableFactory for Embedded {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn Table> {
        Arc::new(SqliteTable::open(self.0.path().join("table.db"), "test").unwrap())
    }
}

impl StoreFactory for Embedded {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn ObjectStore> {
        Arc::new(FilesystemStore::open(self.0.path().join("objects"), "test").unwrap())
    }
}

struct Dynamo {
    config: aws_config::SdkConfig,
    table: String,
}

impl Dynamo {
    async fn new() -> Self {
        let emulator = aws::Emulator::get();
        Dynamo { config: emulator.sdk_config().await, table: emulator.table().await }
    }
}

impl TableFactory for Dynamo {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn Table> {
        Arc::new(DynamoTable::open(&self.config, &self.table, "test"))
    }
}

table_suite!(sqlite, Embedded::new());
table_suite!(dynamodb, Dynamo::new().await);
object_suite!(filesystem, Embedded::new());
object_suite!(s3, bucket::Bucket::new().await);
