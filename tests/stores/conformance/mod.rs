//! What every [`gitferry_store::table::Table`] and every [`gitferry_store::objects::ObjectStore`] promises.
//!
//! Each suite is written against a factory of handles of one store. An implementation joins by a line in
//! [`table_suite!`]'s or [`object_suite!`]'s users below and passes all of it unchanged.

mod bucket;
mod lease;
#[macro_use]
mod objects;
#[macro_use]
mod table;

use std::sync::Arc;

use gitferry_store::objects::{FilesystemStore, ObjectStore};
use gitferry_store::table::{DynamoTable, SqliteTable, Table};

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
        let emulator = gitferry_test_support::aws::Emulator::get();
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
