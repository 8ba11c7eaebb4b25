//! A table that shows half of a transaction for a moment, as DynamoDB's queries do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gitferry_store::table::{BadRow, Item, Key, Page, Query, Table, TableError, Write};

/// After each transaction that wrote a head, the first read of what was written with it sees what was there before:
/// queries of its partition lack its other rows, and a single read of another row than the head is late once.
#[derive(Debug)]
pub struct StaleTable {
    inner: Arc<dyn Table>,
    /// Rows that the next read of each gets late: their old values.
    late: Mutex<HashMap<Key, Option<Item>>>,
    served: AtomicU64,
}

impl StaleTable {
    pub fn new(inner: Arc<dyn Table>) -> Arc<StaleTable> {
        Arc::new(StaleTable { inner, late: Mutex::default(), served: AtomicU64::new(0) })
    }

    /// How many rows were served late.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    fn late(&self, key: &Key) -> Option<Option<Item>> {
        let late = self.late.lock().unwrap().remove(key);
        self.served.fetch_add(u64::from(late.is_some()), Ordering::SeqCst);
        late
    }
}

#[async_trait]
impl Table for StaleTable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        let mut found = self.inner.get_many(keys).await?;
        // Several together are read at one moment, by a transaction.
        if let ([key], [item]) = (keys, found.as_mut_slice())
            && let Some(late) = self.late(key)
        {
            *item = late;
        }
        Ok(found)
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        let mut page = self.inner.query(query).await?;
        let late = |row: Result<Item, BadRow>| match row {
            Ok(item) => self.late(&item.key).unwrap_or(Some(item)).map(Ok),
            bad => Some(bad),
        };
        page.rows = page.rows.into_iter().filter_map(late).collect();
        Ok(page)
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let keys = writes.iter().map(|write| write.key.clone());
        let has_head = writes.iter().any(|write| write.key.sk == "head");
        let with: Vec<Key> = keys.filter(|key| has_head && key.sk != "head").collect();
        let before = if with.is_empty() { Vec::new() } else { self.inner.get_many(&with).await? };
        self.inner.transact(writes).await?;
        let halves = with.into_iter().zip(before).filter(|(key, _)| {
            // Outbox, names and listing lie in partitions of their own, and no reader of heads needs them.
            key.sk == "manifest" || key.sk.starts_with("change/")
        });
        self.late.lock().unwrap().extend(halves);
        Ok(())
    }
}
