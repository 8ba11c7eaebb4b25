//! Leases, as holders and waiters see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use gitferry_base::clock::SystemClock;
use gitferry_store::table::lease::{EXPIRES_AFTER, Lease, POLL_EVERY, Waiter};
use gitferry_store::table::{Item, Key, Page, Query, SqliteTable, Table, TableError, Write};
use gitferry_test_support::faults::{Faults, Operation, When};
use gitferry_test_support::table::FaultyTable;

/// A table that answers no write any more.
#[derive(Debug)]
struct Mute(Arc<dyn Table>, AtomicBool);

#[async_trait]
impl Table for Mute {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.0.get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.0.query(query).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        if self.1.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.transact(writes).await
    }
}

fn table(dir: &tempfile::TempDir) -> Arc<dyn Table> {
    Arc::new(SqliteTable::open(dir.path().join("table.db"), "t").unwrap())
}

fn key() -> Key {
    Key::new("lease", "1")
}

async fn take(table: &Arc<dyn Table>) -> Option<Lease> {
    Waiter::new(table, &SystemClock::shared(), key()).try_take().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_renewal_hangs_loses_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    let mute = Arc::new(Mute(table(&dir), AtomicBool::new(false)));
    let shared: Arc<dyn Table> = mute.clone();
    let lease = take(&shared).await.unwrap();
    mute.1.store(true, Ordering::SeqCst);
    // Without an end of its own, the request would hold it for ever.
    lease.lost().cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_whose_answer_was_lost_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (inner, faults) = (table(&dir), Arc::new(Faults::none()));
    let faulty: Arc<dyn Table> = Arc::new(FaultyTable::new(inner.clone(), faults.clone()));
    let lease = take(&faulty).await.unwrap();
    faults.fail_nth(Operation::TableTransact, 1, When::After);
    let revision = async || inner.get(&key()).await.unwrap().unwrap().revision;
    while revision().await < 4 && !lease.lost().is_cancelled() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!lease.lost().is_cancelled(), "it gave up a lease that it held");
}

/// Each holder's row has revision 1: a waiter that watched them all has not watched one of them for long enough.
#[tokio::test]
async fn holders_that_follow_each_other_are_not_taken_for_one_that_died() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(&dir);
    let mut waiter = Waiter::new(&table, &SystemClock::shared(), key());
    let start = Instant::now();
    while start.elapsed() < EXPIRES_AFTER + 2 * POLL_EVERY {
        let lease = take(&table).await.unwrap();
        assert!(waiter.try_take().await.unwrap().is_none(), "a lease that is held was taken over");
        lease.release().await;
    }
    assert!(waiter.try_take().await.unwrap().is_some());
}
