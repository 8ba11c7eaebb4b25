//! The outbox: each change is announced at least once, and its row goes only when nothing newer came.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gitferry::Kind;
use gitferry::events::outbox::{Announcer, OutboxError, Publisher, Relay, Unannounced, read_outbox};
use gitferry::events::{Event, Sink};
use gitferry::region::Region;

use crate::place::{Place, block_on};
use crate::support::{SOURCE, World};

/// Notes the numbers of the changes that it is told, and does what it is told in between.
#[derive(Debug, Default)]
pub struct Told {
    seqs: Mutex<Vec<u64>>,
    pub refuses: Mutex<u32>,
    events: Mutex<Vec<Event>>,
}

#[async_trait]
impl Announcer for Told {
    async fn announce(&self, what: Unannounced<'_>) -> Result<(), OutboxError> {
        self.seqs.lock().unwrap().extend(what.changes.iter().map(|row| row.facts.seq));
        let mut refuses = self.refuses.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            let (region, to) = (what.region.name.clone(), "nobody".into());
            return Err(OutboxError::NotTaken { region, to, reason: "a test".into(), kind: Kind::Transient });
        }
        Ok(())
    }
}

impl Sink for Told {
    fn publish(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Told {
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.seqs.lock().unwrap())
    }
}

pub async fn rows(region: &Region) -> usize {
    read_outbox(&*region.table).await.unwrap().len()
}

#[test]
fn each_change_once_and_the_row_is_gone() {
    let place = Place::new("");
    place.commit("two");
    let (region, told, id) = (place.region(SOURCE), Arc::new(Told::default()), place.id());
    let publisher = Publisher::new(region.clone(), told.clone());
    block_on(async {
        publisher.publish(id).await.unwrap();
        assert_eq!(told.take(), [1, 2]);
        assert_eq!(rows(&region).await, 0);
        publisher.publish(id).await.unwrap();
        assert_eq!(told.take(), [0; 0]);
    });
    place.commit("three");
    block_on(async {
        publisher.publish(id).await.unwrap();
        assert_eq!(told.take(), [3]);
    });
}

#[test]
fn what_is_not_taken_stays() {
    let place = Place::new("");
    let (region, told, id) = (place.region(SOURCE), Arc::new(Told::default()), place.id());
    *told.refuses.lock().unwrap() = 1;
    let publisher = Publisher::new(region.clone(), told.clone());
    block_on(async {
        let error = publisher.publish(id).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Transient);
        assert_eq!(rows(&region).await, 1);
        publisher.publish(id).await.unwrap();
        assert_eq!(told.take(), [1, 1]);
        assert_eq!(rows(&region).await, 0);
    });
}

/// Commits one more change while the first is being announced.
struct Meanwhile {
    world: World,
    told: Told,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.told.fmt(f)
    }
}

#[async_trait]
impl Announcer for Meanwhile {
    async fn announce(&self, what: Unannounced<'_>) -> Result<(), OutboxError> {
        if self.told.seqs.lock().unwrap().is_empty() {
            self.world.ok(&["repo", "rename", "app", "renamed", "--region", SOURCE]);
        }
        self.told.announce(what).await
    }
}

#[test]
fn what_comes_meanwhile_is_announced_too() {
    let place = Place::new("");
    let (region, id) = (place.region(SOURCE), place.id());
    let meanwhile = Arc::new(Meanwhile { world: place.world, told: Told::default() });
    block_on(async {
        Publisher::new(region.clone(), meanwhile.clone()).publish(id).await.unwrap();
        assert_eq!(meanwhile.told.take(), [1, 2], "and the first one not again");
        assert_eq!(rows(&region).await, 0);
    });
}

#[test]
fn a_host_that_died_after_its_commit() {
    let place = Place::new("");
    let (region, told, id) = (place.region(SOURCE), Arc::new(Told::default()), place.id());
    let publisher = Publisher::new(region.clone(), told.clone());
    block_on(publisher.publish(id)).unwrap();
    told.take();
    place.repo.commit("main", "file", "committed, then dead");
    let path = place.repo.path.to_str().unwrap();
    let mut command = place.world.command(&["import", path, "app", "--region", SOURCE]);
    let run = command.env("FAILPOINTS", "commit-after-head=return").output().unwrap();
    assert!(!run.status.success(), "it did not die");
    block_on(async {
        assert_eq!(rows(&region).await, 1);
        publisher.publish(id).await.unwrap();
        assert_eq!(told.take(), [2]);
        assert_eq!(rows(&region).await, 0);
    });
}

#[test]
fn a_relay_passes_on_and_forgets() {
    let place = Place::new("");
    let (region, told) = (place.region(SOURCE), Arc::new(Told::default()));
    let relay = Relay::new(region.clone(), told.clone());
    block_on(async {
        relay.pass_on().await.unwrap();
        relay.pass_on().await.unwrap();
        assert_eq!(rows(&region).await, 0);
    });
    let expected = Event { region: SOURCE.into(), repository: place.id(), seq: 1 };
    assert_eq!(*told.events.lock().unwrap(), [expected]);
}
