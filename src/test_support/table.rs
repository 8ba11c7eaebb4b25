//! Decorators of a [`Table`]: faults, a meter, a delay. For tests and benchmarks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::faults::{Failure, Faults, Meter, Operation, When};
use gitferry_store::table::limits::item_bytes;
use gitferry_store::table::{Action, Item, Key, Page, Query, Table, TableError, Write};

/// Fails the calls that its [`Faults`] choose.
#[derive(Debug)]
pub struct FaultyTable {
    inner: Arc<dyn Table>,
    faults: Arc<Faults>,
}

impl FaultyTable {
    /// Puts faults before a table.
    pub fn new(inner: Arc<dyn Table>, faults: Arc<Faults>) -> Self {
        FaultyTable { inner, faults }
    }

    fn lost(&self, operation: Operation, when: When) -> TableError {
        let (table, reason) = (self.inner.name().to_owned(), format!("injected fault: {operation:?} failed {when:?}"));
        match self.faults.failure() {
            _ if operation.is_write() && when == When::After => {
                TableError::Unavailable { table, reason, ambiguous: true }
            }
            Failure::Unclear => TableError::Unavailable { table, reason, ambiguous: operation.is_write() },
            Failure::Busy => TableError::Unavailable { table, reason, ambiguous: false },
            Failure::Denied => TableError::Environment { table, reason },
            Failure::Damaged => TableError::Corrupt { table, reason },
        }
    }

    async fn run<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, TableError>>,
    ) -> Result<T, TableError> {
        match self.faults.next(operation) {
            None => call.await,
            Some(When::Before) => Err(self.lost(operation, When::Before)),
            Some(When::After) => {
                // A refusal is lost like any other answer.
                let _ = call.await;
                Err(self.lost(operation, When::After))
            }
        }
    }
}

#[async_trait]
impl Table for FaultyTable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.run(Operation::TableGet, self.inner.get_many(keys)).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.run(Operation::TableQuery, self.inner.query(query)).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.run(Operation::TableTransact, self.inner.transact(writes)).await
    }
}

/// Counts calls and bytes.
#[derive(Debug)]
pub struct MeteredTable {
    inner: Arc<dyn Table>,
    meter: Arc<Meter>,
}

impl MeteredTable {
    /// Puts a meter before a table.
    pub fn new(inner: Arc<dyn Table>, meter: Arc<Meter>) -> Self {
        MeteredTable { inner, meter }
    }
}

#[async_trait]
impl Table for MeteredTable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        let result = self.inner.get_many(keys).await;
        let read = result.as_ref().ok().map(|items| items.iter().flatten().map(weight).sum());
        self.meter.count(Operation::TableGet, read.map(|read| (0, read)));
        result
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        let result = self.inner.query(query).await;
        let read = result.as_ref().ok().map(|page| page.rows.iter().flatten().map(weight).sum());
        self.meter.count(Operation::TableQuery, read.map(|read| (0, read)));
        result
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let written = writes.iter().map(weight_of_write).sum();
        let result = self.inner.transact(writes).await;
        self.meter.count(Operation::TableTransact, result.is_ok().then_some((written, 0)));
        result
    }
}

fn weight(item: &Item) -> u64 {
    let document = item.document.to_string().len();
    item_bytes(&item.key, document, item.bytes.as_ref().map_or(0, |b| b.len())) as u64
}

fn weight_of_write(write: &Write) -> u64 {
    let (document, bytes) = match &write.action {
        Action::Put { document, bytes } => (document.to_string().len(), bytes.as_ref().map_or(0, |b| b.len())),
        Action::Delete | Action::Check => (0, 0),
    };
    item_bytes(&write.key, document, bytes) as u64
}

/// Adds a fixed delay before every call: a table in a region far away.
pub struct DelayedTable {
    inner: Arc<dyn Table>,
    delay: Duration,
}

impl DelayedTable {
    /// Puts a delay before a table.
    pub fn new(inner: Arc<dyn Table>, delay: Duration) -> Self {
        DelayedTable { inner, delay }
    }
}

impl fmt::Debug for DelayedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} behind {:?}", self.inner, self.delay)
    }
}

#[async_trait]
impl Table for DelayedTable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        tokio::time::sleep(self.delay).await;
        self.inner.get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        tokio::time::sleep(self.delay).await;
        self.inner.query(query).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        tokio::time::sleep(self.delay).await;
        self.inner.transact(writes).await
    }
}
