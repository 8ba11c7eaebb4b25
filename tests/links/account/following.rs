//! The follower: newest documents soon, the last proven ones in trouble, and none without proof.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gitferry_account::{AccountError, AccountRepository, Followed, Follower, Known, MAX_STALENESS, Staleness};
use gitferry_base::supervise::Supervisor;
use gitferry_engine::ledger::head::State;
use gitferry_engine::region::Region;
use gitferry_engine::region::commit::Subject;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_store::table::{Item, Key, Page, Query, Table, TableError, Write};
use gitferry_test_support::faults::{Failure, Faults, Operation, When};
use gitferry_test_support::faulty::Sites;
use tokio::sync::watch;

use super::{all, create, set, text};

/// Most time from a change to the follower that was not woken.
const SOON: Duration = Duration::from_secs(2);

/// A table behind which another one can be put, as when a table is restored or lost.
#[derive(Debug)]
struct Switch(Mutex<Arc<dyn Table>>);

impl Switch {
    fn on(region: &Region) -> (Arc<Switch>, Region) {
        let switch = Arc::new(Switch(Mutex::new(region.shared_table().clone())));
        (switch.clone(), region.with_table(switch))
    }

    fn to(&self, region: &Region) {
        *self.0.lock().unwrap() = region.shared_table().clone();
    }

    fn table(&self) -> Arc<dyn Table> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Table for Switch {
    fn name(&self) -> &str {
        "a table that is switched"
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.table().get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.table().query(query).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.table().transact(writes).await
    }
}

struct Running {
    follower: Follower,
    seen: watch::Receiver<Followed>,
    stop: watch::Sender<bool>,
    supervisor: Supervisor,
}

impl Running {
    fn start(region: &Region) -> Running {
        let (stop, stopped) = watch::channel(false);
        let mut supervisor = Supervisor::new(stopped);
        let follower = Follower::new(region.clone());
        let seen = follower.subscribe();
        follower.run_under(&mut supervisor);
        Running { follower, seen, stop, supervisor }
    }

    /// Waits for a state. Returns the time that it took.
    async fn until(&mut self, what: impl FnMut(&Followed) -> bool) -> Duration {
        let start = Instant::now();
        let waiting = tokio::time::timeout(Duration::from_secs(30), self.seen.wait_for(what));
        waiting.await.expect("the follower gets there").unwrap();
        start.elapsed()
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.supervisor.join().await;
    }
}

fn has(followed: &Followed, path: &str) -> bool {
    followed.documents().is_some_and(|documents| documents.get(path).is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_gone_within_two_seconds_and_at_once_where_it_was_revoked() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let mut running = Running::start(&us);
    running.until(|followed| matches!(followed.known(), Known::Absent)).await;
    let account = create(&us).await;
    let took = running.until(|followed| has(followed, "users/bob.json")).await;
    assert!(took <= SOON, "a new account: {took:?}");
    // By another process.
    set(&account, "users/bob.json", None).await;
    let took = running.until(|followed| !has(followed, "users/bob.json")).await;
    assert!(took <= SOON, "a change of another process: {took:?}");
    // By this process, whose host announces it. The interval alone would take half a second on average.
    let account = account.announcing(Arc::new(running.follower.clone()));
    let mut slowest = Duration::ZERO;
    for number in 0..6 {
        let path = format!("keys/{number}");
        set(&account, &path, Some("1")).await;
        slowest = slowest.max(running.until(|followed| has(followed, &path)).await);
    }
    assert!(slowest < Duration::from_millis(500), "changes of this process: {slowest:?}");
    assert_eq!(running.seen.borrow().staleness(), Staleness::Current);
    running.stop().await;
}

#[tokio::test]
async fn a_state_that_cannot_be_confirmed_becomes_stale_and_comes_back() {
    let sites = Sites::new(&["us"]);
    let account = create(&sites.region("us")).await;
    let faults = Arc::new(Faults::none());
    let follower = Follower::new(sites.faulty("us", &faults));
    let seen = follower.subscribe();
    assert!(matches!(seen.borrow().staleness(), Staleness::Stale { age: None, .. }), "nothing grants before a read");
    follower.refresh().await.unwrap();
    set(&account, "users/bob.json", None).await;
    for failure in Failure::ALL {
        faults.fail_as(failure);
        faults.fail_nth(Operation::TableGet, 1, When::Before);
        follower.refresh().await.unwrap_err();
        let followed = seen.borrow();
        assert!(has(&followed, "users/bob.json"), "the last state stays");
        assert_eq!(followed.staleness(), Staleness::Current);
        assert!(followed.trouble().is_some());
    }
    tokio::time::pause();
    tokio::time::advance(MAX_STALENESS + Duration::from_secs(1)).await;
    tokio::time::resume();
    {
        let followed = seen.borrow();
        let Staleness::Stale { age, reason } = followed.staleness() else { panic!("it is stale") };
        assert!(age.unwrap() > MAX_STALENESS && reason.contains("injected fault"), "{reason}");
    }
    follower.refresh().await.unwrap();
    let followed = seen.borrow();
    assert_eq!((followed.staleness(), followed.trouble()), (Staleness::Current, None));
    assert!(!has(&followed, "users/bob.json"));
}

#[tokio::test]
async fn a_confirmation_alone_wakes_no_reader() {
    let sites = Sites::new(&["us"]);
    let account = create(&sites.region("us")).await;
    let follower = Follower::new(sites.region("us"));
    let mut seen = follower.subscribe();
    for _ in 0..3 {
        follower.refresh().await.unwrap();
    }
    assert!(seen.has_changed().unwrap());
    seen.mark_unchanged();
    follower.refresh().await.unwrap();
    assert!(!seen.has_changed().unwrap());
    set(&account, "users/ann.json", Some("2")).await;
    follower.refresh().await.unwrap();
    assert!(seen.has_changed().unwrap());
}

#[tokio::test]
async fn restored_documents_are_followed_like_any_change() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let account = create(&us).await;
    let before = account.read().await.unwrap();
    let follower = Follower::new(us);
    set(&account, "users/bob.json", None).await;
    follower.refresh().await.unwrap();
    account.restore(&super::ann(), before.commit()).await.unwrap();
    follower.refresh().await.unwrap();
    assert_eq!(all(follower.subscribe().borrow().documents().unwrap()), all(&before));
}

/// A history that does not follow from the state that was read: that state stays, and becomes stale.
#[tokio::test]
async fn older_and_other_histories_are_reported_and_not_used() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let account = create(&us).await;
    set(&account, "users/bob.json", None).await;
    let older = sites.copy();
    set(&account, "users/ann.json", Some("2")).await;
    let fork = older.copy();
    let forked = AccountRepository::open(&fork.region("us")).await.unwrap();
    set(&forked, "users/bob.json", Some("back")).await;
    let longer = fork.copy();
    set(&AccountRepository::open(&longer.region("us")).await.unwrap(), "users/eve.json", Some("1")).await;
    let (switch, region) = Switch::on(&us);
    let follower = Follower::new(region);
    follower.refresh().await.unwrap();
    for (name, other) in [("older", &older), ("as long", &fork), ("longer", &longer)] {
        switch.to(&other.region("us"));
        for _ in 0..2 {
            let error = follower.refresh().await.unwrap_err();
            assert!(matches!(error, AccountError::Diverged(_)), "{name}: {error}");
        }
        let seen = follower.subscribe();
        let followed = seen.borrow();
        assert_eq!(text(followed.documents().unwrap(), "users/ann.json").as_deref(), Some("2"), "{name}");
        assert!(followed.trouble().unwrap().contains("does not follow from"), "{name}");
    }
    switch.to(&us);
    follower.refresh().await.unwrap();
    assert_eq!(follower.subscribe().borrow().trouble(), None);
}

/// An account that is gone is an error, not a region without an account.
#[tokio::test]
async fn an_account_that_is_gone_is_no_absent_one() {
    let sites = Sites::new(&["us", "empty"]);
    let us = sites.region("us");
    create(&us).await;
    let (switch, region) = Switch::on(&us);
    let follower = Follower::new(region.clone());
    follower.refresh().await.unwrap();
    switch.to(&sites.region("empty"));
    let error = follower.refresh().await.unwrap_err();
    assert!(matches!(error, AccountError::Gone { gone: "missing", .. }), "{error}");
    switch.to(&us);
    // A deletion, which no command makes.
    let item = us.repositories().get(ACCOUNT).await.unwrap();
    let mut proposal = us.committer().proposal("eve");
    proposal.state = Some(State::Deleted);
    us.committer().commit(&Subject::Existing(Box::new(item)), proposal).await.unwrap();
    let error = follower.refresh().await.unwrap_err();
    assert!(matches!(error, AccountError::Gone { gone: "deleted", .. }), "{error}");
    // And another account under the same name is not the one that was followed.
    create(&us).await;
    follower.refresh().await.unwrap_err();
    let seen = follower.subscribe();
    assert!(seen.borrow().documents().is_some(), "the last state stays until it is stale");
}
