//! The outbox: each change is announced at least once, and its row goes only when nothing newer came.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gitferry_base::Kind;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_engine::announce::{Event, Sink};
use gitferry_engine::region::Region;
use gitferry_service::events::outbox::{Announcer, OutboxError, Publisher, Relay, Unannounced, read_outbox};
use jiff::{SignedDuration, Timestamp};

use crate::events::place::{Place, block_on};
use gitferry_test_support::world::{SOURCE, World};

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
            let (region, to) = (what.region.name().to_owned(), "nobody".into());
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
    read_outbox(region.table()).await.unwrap().len()
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

/// Slow to announce: meanwhile another publisher announces the same and takes the row away, and a change is committed.
#[derive(Debug)]
struct Slow {
    told: Arc<Told>,
    region: Region,
}

#[async_trait]
impl Announcer for Slow {
    async fn announce(&self, what: Unannounced<'_>) -> Result<(), OutboxError> {
        if self.told.seqs.lock().unwrap().is_empty() {
            Publisher::new(self.region.clone(), self.told.clone()).publish(what.item.id).await?;
            self.region.repositories().rename("app", "renamed", "me").await.unwrap();
        }
        self.told.announce(what).await
    }
}

#[test]
fn two_publishers_leave_no_change_unannounced() {
    let place = Place::new("");
    let (region, told, id) = (place.region(SOURCE), Arc::new(Told::default()), place.id());
    block_on(async {
        let slow = Slow { told: told.clone(), region: region.clone() };
        Publisher::new(region.clone(), Arc::new(slow)).publish(id).await.unwrap();
        Publisher::new(region.clone(), told.clone()).publish_outbox().await.unwrap();
        assert_eq!(told.take(), [1, 1, 2]);
        assert_eq!(rows(&region).await, 0);
    });
}

/// Passes an event on only after another process has emptied the outbox and a change was committed.
#[derive(Debug)]
struct Raced {
    told: Told,
    region: Region,
    by: Mutex<Option<Publisher>>,
}

impl Sink for Raced {
    fn publish(&self, event: Event) {
        if let Some(publisher) = self.by.lock().unwrap().take() {
            let work = async {
                publisher.publish(event.repository).await.unwrap();
                self.region.repositories().rename("app", "renamed", "me").await.unwrap();
            };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work));
        }
        self.told.publish(event);
    }
}

#[test]
fn a_relay_takes_no_row_away_that_came_meanwhile() {
    let place = Place::new("");
    let region = place.region(SOURCE);
    let publisher = Publisher::new(region.clone(), Arc::new(Told::default()));
    let raced = Arc::new(Raced { told: Told::default(), region: region.clone(), by: Mutex::new(Some(publisher)) });
    let relay = Relay::new(region.clone(), raced.clone());
    block_on(async {
        relay.pass_on().await.unwrap();
        assert_eq!(rows(&region).await, 1, "the row of the second change is gone");
        relay.pass_on().await.unwrap();
        assert_eq!(rows(&region).await, 0);
    });
    let seqs: Vec<u64> = raced.told.events.lock().unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2]);
}

/// A clock that is so many hours ahead of the machine's.
#[derive(Debug)]
struct Ahead(i64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().checked_add(SignedDuration::from_hours(self.0)).unwrap()
    }

    fn new_id(&self) -> uuid::Uuid {
        SystemClock.new_id()
    }
}

#[test]
fn what_is_committed_by_a_clock_that_is_behind_is_announced_too() {
    let place = Place::new("");
    place.commit("two");
    // To this publisher, all commits are two days old.
    let region = place.region(SOURCE).with_clock(Arc::new(Ahead(48)));
    let (told, id) = (Arc::new(Told::default()), place.id());
    let publisher = Publisher::new(region.clone(), told.clone());
    // Of a repository that nothing was announced of, the newest alone: whoever switches events on wants no history.
    block_on(publisher.publish(id)).unwrap();
    assert_eq!(told.take(), [2]);
    place.commit("three");
    place.commit("four");
    block_on(async {
        publisher.publish(id).await.unwrap();
        assert_eq!(told.take(), [3, 4]);
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
