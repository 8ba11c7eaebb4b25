//! A failure at every call of a change: the change is made once or not at all, and the answer says which.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use gitferry_account::{AccountError, AccountRepository, CommitError, Documents};
use gitferry_engine::region::Region;
use gitferry_engine::region::commit::Subject;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_git::refs::RefValue;
use gitferry_store::table::{Item, Key, Page, Query, Table, TableError, Write};
use gitferry_test_support::faulty::{Intercepted, Sites, assert_sound, is_commit};

use super::{ann, create, edit, first, set, text};
use crate::faults::everywhere::{Breadth, Plan, crash_everywhere, fail_everywhere};

async fn seq(sites: &Sites) -> u64 {
    let found = sites.region("us").repositories().find(ACCOUNT).await.unwrap();
    found.map_or(0, |item| item.head.frontier.seq)
}

/// Compares an answer with the outcome.
fn assert_answer<T>(answer: &Result<T, CommitError<Infallible>>, happened: bool, plan: Plan) {
    match answer {
        Ok(_) => assert!(happened, "{plan:?}: it says that it has happened"),
        Err(CommitError::MayHaveHappened { .. }) => {}
        Err(error) => assert!(!happened, "{plan:?}: it says that nothing has happened: {error}"),
    }
}

async fn one_change(template: &Sites, plan: Plan) -> bool {
    let sites = template.copy();
    let before = seq(&sites).await;
    let faults = plan.arm();
    let change = edit("Give bob a key", &[("keys/bob", Some("k")), ("users/bob.json", Some("2"))]);
    let answer = match AccountRepository::open(&plan.region(&sites, "us", &faults)).await {
        Ok(account) => account.commit(&ann(), |_| Ok(change.clone())).await,
        Err(error) => Err(error.into()),
    };
    let happened = seq(&sites).await == before + 1;
    assert!(happened || seq(&sites).await == before, "{plan:?}");
    assert_answer(&answer, happened, plan);
    let us = sites.region("us");
    assert_sound(&us).await;
    let account = AccountRepository::open(&us).await.unwrap();
    let found = account.read().await.unwrap();
    assert_eq!(text(&found, "keys/bob").is_some(), happened, "{plan:?}");
    if let Ok(documents) = &answer {
        assert_eq!((documents.frontier(), documents.commit()), (found.frontier(), found.commit()), "{plan:?}");
    }
    // Running again ends with the change made once.
    account.commit(&ann(), |_| Ok::<_, Infallible>(change.clone())).await.unwrap();
    assert_eq!(seq(&sites).await, before + 1, "{plan:?}");
    assert_sound(&us).await;
    faults.injected() > 0
}

async fn one_creation(template: &Sites, plan: Plan) -> bool {
    let sites = template.copy();
    let faults = plan.arm();
    let answer = AccountRepository::create(&plan.region(&sites, "us", &faults), &ann(), first()).await;
    let happened = seq(&sites).await == 1;
    assert!(happened || seq(&sites).await == 0, "{plan:?}");
    assert_answer(&answer, happened, plan);
    let us = sites.region("us");
    match AccountRepository::create(&us, &ann(), first()).await {
        Ok(_) => assert!(!happened, "{plan:?}"),
        Err(CommitError::Account(AccountError::Exists { .. })) => assert!(happened, "{plan:?}"),
        Err(error) => panic!("{plan:?}: {error}"),
    }
    assert_eq!(us.repositories().heads().await.unwrap().items.len(), 1, "{plan:?}");
    assert_eq!(AccountRepository::open(&us).await.unwrap().read().await.unwrap().len(), 3);
    assert_sound(&us).await;
    faults.injected() > 0
}

async fn with_an_account() -> Sites {
    let sites = Sites::new(&["us"]);
    let account = create(&sites.region("us")).await;
    set(&account, "groups/dev.json", Some("1")).await;
    sites
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_dies_anywhere_is_made_once_or_not_at_all() {
    let sites = with_an_account().await;
    assert!(crash_everywhere(Breadth::One, |plan| one_change(&sites, plan)).await >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_calls_fail_once_is_made_once_or_not_at_all() {
    let sites = with_an_account().await;
    assert!(fail_everywhere(Breadth::One, |plan| one_change(&sites, plan)).await >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_creation_fails_anywhere_is_created_once_or_not_at_all() {
    let sites = Sites::new(&["us"]);
    assert!(crash_everywhere(Breadth::One, |plan| one_creation(&sites, plan)).await >= 5);
    assert!(fail_everywhere(Breadth::One, |plan| one_creation(&sites, plan)).await >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: every kind of failure at every call"]
async fn an_account_that_fails_anywhere_in_any_way() {
    let sites = with_an_account().await;
    crash_everywhere(Breadth::All, |plan| one_change(&sites, plan)).await;
    fail_everywhere(Breadth::All, |plan| one_change(&sites, plan)).await;
    let sites = Sites::new(&["us"]);
    crash_everywhere(Breadth::All, |plan| one_creation(&sites, plan)).await;
    fail_everywhere(Breadth::All, |plan| one_creation(&sites, plan)).await;
}

/// A table that is in no hurry with one commit: the answer is lost, and the commit arrives right before the next one.
#[derive(Debug)]
struct Late {
    inner: Arc<dyn Table>,
    /// Commits that pass before the one that is late.
    before: AtomicU32,
    held: Mutex<Option<Vec<Write>>>,
}

impl Late {
    fn new(inner: &Arc<dyn Table>, before: u32) -> Arc<Late> {
        Arc::new(Late { inner: inner.clone(), before: AtomicU32::new(before), held: Mutex::default() })
    }
}

#[async_trait]
impl Table for Late {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.inner.get_many(keys).await
    }

    async fn query(&self, query: &Query) -> Result<Page, TableError> {
        self.inner.query(query).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        if writes.iter().any(is_commit) {
            let late = self.held.lock().unwrap().take();
            if let Some(late) = late {
                self.inner.transact(late).await.unwrap();
            } else if self.before.fetch_sub(1, Ordering::SeqCst) == 0 {
                *self.held.lock().unwrap() = Some(writes);
                let (table, reason) = (self.name().to_owned(), "the answer is lost".to_owned());
                return Err(TableError::Unavailable { table, reason, ambiguous: true });
            }
        }
        self.inner.transact(writes).await
    }
}

/// Moves the head without a change of the documents.
async fn bump(region: Region) {
    let item = region.repositories().get(ACCOUNT).await.unwrap();
    let mut proposal = region.committer().proposal("me");
    proposal.head = Some(RefValue::parse(b"ref:refs/heads/other").unwrap());
    region.committer().commit(&Subject::Existing(Box::new(item)), proposal).await.unwrap();
}

async fn count_on(region: Region) -> Result<Documents, CommitError<Infallible>> {
    let account = AccountRepository::open(&region).await.unwrap();
    let raise = |documents: &Documents| {
        let number: u32 = text(documents, "counter").map_or(0, |text| text.parse().unwrap());
        Ok(edit("Count", &[("counter", Some(&(number + 1).to_string()))]))
    };
    account.commit(&ann(), raise).await
}

/// A write that arrives after its answer was lost, and the same once the head had moved for another reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_arrives_late_is_made_once() {
    for with_bump in [false, true] {
        let sites = with_an_account().await;
        let us = sites.region("us");
        let table = us.shared_table().clone();
        let table: Arc<dyn Table> = match with_bump {
            true => Intercepted::before(&table, is_commit, bump(us.clone())),
            false => table,
        };
        let counted = count_on(us.with_table(Late::new(&table, u32::from(with_bump)))).await.unwrap();
        let found = AccountRepository::open(&us).await.unwrap().read().await.unwrap();
        assert_eq!(text(&found, "counter").as_deref(), Some("1"), "with_bump: {with_bump}");
        assert_eq!((counted.commit(), counted.frontier()), (found.commit(), found.frontier()));
        assert_eq!(found.frontier().seq, 3 + u64::from(with_bump));
        assert_sound(&us).await;
    }
}
