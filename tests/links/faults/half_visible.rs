//! Transactions of which a reader sees half for a moment: read again, never called damage.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gitferry_service::events::outbox::{Announcer, OutboxError, Publisher, Unannounced};

use crate::faults::pool::{LEVELS, Source};
use gitferry_test_support::faulty::{Sites, assert_equal, assert_sound, link};
use gitferry_test_support::stale::StaleTable;

#[derive(Debug, Default)]
struct Told(Mutex<Vec<u64>>);

#[async_trait]
impl Announcer for Told {
    async fn announce(&self, what: Unannounced<'_>) -> Result<(), OutboxError> {
        self.0.lock().unwrap().extend(what.changes.iter().map(|row| row.facts.seq));
        Ok(())
    }
}

/// Imports, deliveries, refs, manifests and announcements, each on tables that show the last commit only half.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_transaction_is_read_again_and_is_no_damage() {
    let sites = Sites::new(&["us", "eu"]);
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    let stale = [StaleTable::new(us.shared_table().clone()), StaleTable::new(eu.shared_table().clone())];
    let us = us.with_table(stale[0].clone());
    let eu = eu.with_table(stale[1].clone());
    let mut source = Source::new(sites.path("src.git"));
    let told = Arc::new(Told::default());
    for level in 0..LEVELS {
        source.levels = level + 1;
        source.set("refs/heads/main", level);
        source.write();
        source.import(&us, "app").await.unwrap();
        let item = us.repositories().get("app").await.unwrap();
        us.reader().manifest(&item).await.unwrap();
        us.reader().refs(&item).await.unwrap();
        Publisher::new(us.clone(), told.clone()).publish(item.id).await.unwrap();
        link(us.clone(), eu.clone()).deliver(item.id).await.unwrap().unwrap();
        let there = eu.repositories().get("app").await.unwrap();
        eu.reader().manifest(&there).await.unwrap();
        eu.reader().refs(&there).await.unwrap();
    }
    assert_equal(&us, &eu).await;
    assert_sound(&us).await;
    assert_sound(&eu).await;
    let all: Vec<u64> = (1..=LEVELS as u64).collect();
    assert_eq!(*told.0.lock().unwrap(), all);
    assert!(stale.iter().all(|table| table.served() > LEVELS as u64), "the tables have shown nothing late");
}
